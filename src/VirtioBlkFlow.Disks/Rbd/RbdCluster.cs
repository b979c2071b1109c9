using System.Globalization;
using System.Text;
using Mono.Unix.Native;
using static VirtioBlkFlow.Disks.Rbd.LibRados;

namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>
/// A connection to a cluster, and the pool and namespace on it. One for each disk: a cluster shuts out a client as a whole, so a disk whose
/// lock is broken takes no other one with it.
/// </summary>
internal sealed unsafe class RbdCluster : IDisposable
{
    // What Clients of Ceph are called after.
    private const string DefaultClusterName = "ceph";
    private const int MostConfigurationBytes = 4096;

    // Settings that a disk relies on, whatever the configuration says (https://docs.ceph.com/en/pacific/rbd/rbd-config-ref/):
    // - Without a cache a write that has ended is on the OSDs' disks.
    // - A write takes a copy of the guest's memory. Without one a guest that changes its buffer meanwhile breaks checksums and with them
    //   connections, and a request that was given up could still be read from memory that is gone.
    // - Requests are begun on librbd's own threads, so that beginning one does not block.
    // - Who takes the lock of a client that is gone has it shut out first, so that nothing it wrote arrives late.
    public static IReadOnlyList<(string Name, string Value)> NeededSettings { get; } =
    [
        ("rbd_cache", "false"), ("rbd_disable_zero_copy_writes", "true"), ("rbd_non_blocking_aio", "true"), ("rbd_blocklist_on_break_lock", "true"),
    ];

    private nint _cluster;
    private nint _io;

    private RbdCluster()
    {
    }

    /// <summary>What librbd takes for a pool.</summary>
    public nint Io => _io;

    /// <summary>Connects, and finds pool and namespace.</summary>
    /// <exception cref="DiskOpenException">It cannot be; the message names cause and remedy.</exception>
    public static RbdCluster Connect(RbdDiskOptions options)
    {
        LibRbd.RequireLibraries();
        var cluster = new RbdCluster();
        try
        {
            cluster.Configure(options);
            cluster.Connect(options.ConnectTimeoutSeconds, options);
            cluster.OpenPool(options);
            return cluster;
        }
        catch
        {
            cluster.Dispose();
            throw;
        }
    }

    /// <summary>Disconnects; images are closed before. May block.</summary>
    public void Dispose()
    {
        if (_io != 0)
        {
            rados_ioctx_destroy(_io);
            _io = 0;
        }

        if (_cluster != 0)
        {
            rados_shutdown(_cluster);
            _cluster = 0;
        }
    }

    /// <summary>A negated errno in words.</summary>
    public static string Describe(int result) =>
        NativeConvert.TryToErrno(-result, out Errno errno) ? Stdlib.strerror(errno) : string.Create(CultureInfo.InvariantCulture, $"error {-result}");

    private void Configure(RbdDiskOptions options)
    {
        string user = UserName(options);
        nint cluster = 0;
        int result = rados_create2(&cluster, DefaultClusterName, user, 0);
        if (result < 0)
        {
            throw new DiskOpenException($"The Ceph user '{user}' cannot be: {Describe(result)}. Give user=NAME without 'client.'.");
        }

        _cluster = cluster;
        result = rados_conf_read_file(_cluster, options.ConfigurationPath);
        if (result < 0)
        {
            throw new DiskOpenException(
                options.ConfigurationPath is { } path
                ? $"The Ceph configuration '{path}' cannot be read: {Describe(result)}. Check the path; it is the ceph.conf of the cluster."
                : "There is no Ceph configuration where Ceph looks for it (/etc/ceph/ceph.conf). Name one: conf=PATH.");
        }

        foreach ((string name, string value) in NeededSettings)
        {
            Set(name, value);
        }

        Set("rados_osd_op_timeout", Text(options.TimeoutSeconds));
        Set("rados_mon_op_timeout", Text(options.TimeoutSeconds));
        Set("client_mount_timeout", Text(options.ConnectTimeoutSeconds));
        if (options.KeyringPath is { } keyring)
        {
            if (!System.IO.File.Exists(keyring))
            {
                throw new DiskOpenException($"There is no keyring '{keyring}'. Check the path; 'ceph auth get {user}' prints what belongs there.");
            }

            Set("keyring", keyring);
        }
    }

    private void Connect(int patienceSeconds, RbdDiskOptions options)
    {
        int result = rados_connect(_cluster);
        if (result == 0)
        {
            return;
        }

        string user = UserName(options);
        string monitors = Get("mon_host");
        throw new DiskOpenException((Errno)(-result) switch
        {
            Errno.ETIMEDOUT =>
                $"The monitors of the Ceph cluster, {(monitors.Length > 0 ? monitors : "of which the configuration names none")}, did not answer within {patienceSeconds} s. Check mon_host in ceph.conf, the network, and whether the cluster runs.",
            Errno.EACCES or Errno.EPERM => $"The Ceph cluster does not let '{user}' in: {Describe(result)}. Check user= and the key in its keyring.",
            Errno.ENOENT => $"There is no key for '{user}'. Name a keyring that has one: keyring=PATH.",
            _ => $"The Ceph cluster cannot be reached as '{user}': {Describe(result)}. Check ceph.conf: 'ceph -s' with it has to work.",
        });
    }

    private void OpenPool(RbdDiskOptions options)
    {
        nint io = 0;
        int result = rados_ioctx_create(_cluster, options.Pool, &io);
        if (result < 0)
        {
            throw new DiskOpenException(
                (Errno)(-result) == Errno.ENOENT
                ? $"The Ceph cluster has no pool '{options.Pool}'. 'ceph osd pool ls' shows those there are."
                : $"The pool '{options.Pool}' cannot be used: {Describe(result)}. Check the cluster: ceph -s");
        }

        _io = io;
        rados_set_pool_full_try(_io);
        if (options.Namespace.Length == 0)
        {
            return;
        }

        byte exists = 0;
        result = LibRbd.rbd_namespace_exists(_io, options.Namespace, &exists);
        // Who has rights in the namespace alone may not ask; opening the image tells.
        if (result == 0 && exists == 0)
        {
            throw new DiskOpenException(
                $"The pool '{options.Pool}' has no namespace '{options.Namespace}'. 'rbd namespace ls {options.Pool}' shows those there are.");
        }

        rados_ioctx_set_namespace(_io, options.Namespace);
    }

    private static string UserName(RbdDiskOptions options) => $"client.{options.User ?? "admin"}";

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private void Set(string name, string value)
    {
        int result = rados_conf_set(_cluster, name, value);
        if (result < 0)
        {
            throw new DiskOpenException($"Ceph's client library does not take {name}={value}: {Describe(result)}. Install another version of librbd1.");
        }
    }

    private string Get(string name)
    {
        byte* buffer = stackalloc byte[MostConfigurationBytes];
        return rados_conf_get(_cluster, name, buffer, MostConfigurationBytes) < 0
            ? ""
            : Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(buffer));
    }
}
