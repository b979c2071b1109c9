using Mono.Unix.Native;
using static VirtioBlkFlow.Disks.Rbd.LibRados;
using static VirtioBlkFlow.Disks.Rbd.LibRbd;

namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>An image that is open, with its connection. All calls may block.</summary>
internal sealed unsafe class RbdImage : IDisposable
{
    // An id has some 20 digits.
    private const int MostIdBytes = 128;

    private readonly RbdCluster _cluster;
    private nint _handle;

    private RbdImage(RbdCluster cluster, nint handle)
    {
        _cluster = cluster;
        _handle = handle;
    }

    /// <summary>What librbd takes for an image.</summary>
    public nint Handle => _handle;

    /// <summary>Connects and opens.</summary>
    /// <exception cref="DiskOpenException">It cannot be; the message names cause and remedy.</exception>
    public static RbdImage Open(RbdDiskOptions options)
    {
        RbdCluster cluster = RbdCluster.Connect(options);
        RbdImage? image = null;
        try
        {
            image = new RbdImage(cluster, OpenHandle(cluster, options));
            image.RequireSettings(options);
            return image;
        }
        catch
        {
            image?.Dispose();
            cluster.Dispose();
            throw;
        }
    }

    /// <summary>Asks for the size, in bytes; of the cluster, if it changed since the last time.</summary>
    /// <returns>False if the cluster does not answer.</returns>
    public bool TryReadSize(out ulong bytes)
    {
        ulong size = 0;
        int result = rbd_get_size(_handle, &size);
        bytes = size;
        return result == 0;
    }

    /// <summary>
    /// Whether a client that has the image open is alive. All of them are told, as they are when somebody has changed the image, and
    /// acknowledge it (krbd and librbd take an empty notification for that).
    /// </summary>
    /// <param name="client">Number of the client.</param>
    /// <param name="patience">How long it may take to answer.</param>
    public bool Answers(long client, TimeSpan patience)
    {
        byte* id = stackalloc byte[MostIdBytes];
        if (rbd_get_id(_handle, id, MostIdBytes) < 0)
        {
            return true;
        }

        byte* reply = null;
        nuint replyBytes = 0;
        NotifyAck* acks = null;
        void* silent = null;
        nuint ackCount = 0;
        nuint silentCount = 0;
        int result = rados_notify2(
            _cluster.Io, $"rbd_header.{Marshal.PtrToStringUTF8((nint)id)}", null, 0, (ulong)patience.TotalMilliseconds, &reply, &replyBytes);
        try
        {
            // Who cannot ask takes it for alive.
            if ((result < 0 && (Errno)(-result) != Errno.ETIMEDOUT)
                || rados_decode_notify_response(reply, replyBytes, &acks, &ackCount, &silent, &silentCount) < 0)
            {
                return true;
            }

            bool answers = false;
            foreach (ref readonly NotifyAck ack in new ReadOnlySpan<NotifyAck>(acks, (int)ackCount))
            {
                answers |= ack.Client == (ulong)client;
            }

            rados_free_notify_response(acks, ackCount, silent);
            return answers;
        }
        finally
        {
            if (reply != null)
            {
                rados_buffer_free(reply);
            }
        }
    }

    /// <summary>Closes it, which gives the lock back, and disconnects. Nothing is in flight.</summary>
    public void Dispose()
    {
        if (_handle != 0)
        {
            _ = rbd_close(_handle);
            _handle = 0;
        }

        _cluster.Dispose();
    }

    private static nint OpenHandle(RbdCluster cluster, RbdDiskOptions options)
    {
        nint handle = 0;
        // A snapshot never changes, so nobody watches it. A reader of the image itself hears of its size, if it has the right to watch.
        int result = options.Snapshot is null
            ? rbd_open(cluster.Io, options.Image, &handle, null)
            : rbd_open_read_only(cluster.Io, options.Image, &handle, options.Snapshot);
        if ((Errno)(-result) == Errno.EPERM && options is { ReadOnly: true, Snapshot: null })
        {
            result = rbd_open_read_only(cluster.Io, options.Image, &handle, null);
        }

        return result == 0 ? handle : throw CannotOpen(cluster, options, result);
    }

    private static DiskOpenException CannotOpen(RbdCluster cluster, RbdDiskOptions options, int result)
    {
        string place = $"{options.Pool}/{(options.Namespace.Length > 0 ? $"{options.Namespace}/" : "")}";
        switch ((Errno)(-result))
        {
            case Errno.ENOENT:
                nint whole = 0;
                if (options.Snapshot is { } snapshot && rbd_open_read_only(cluster.Io, options.Image, &whole, null) == 0)
                {
                    _ = rbd_close(whole);
                    return new DiskOpenException(
                        $"The image {place}{options.Image} has no snapshot '{snapshot}'. 'rbd snap ls {place}{options.Image}' shows those there are.");
                }

                return new DiskOpenException(
                    $"There is no image '{options.Image}' in {place.TrimEnd('/')}. Create it first, for example: rbd create {place}{options.Image} --size 1G");
            case Errno.EPERM or Errno.EACCES:
                return new DiskOpenException(
                    $"'{options.Path}' may not be opened by this user: {RbdCluster.Describe(result)}. Give it rights, for example: ceph auth caps client.NAME mon 'profile rbd' osd 'profile rbd pool={options.Pool}'");
            case Errno.ETIMEDOUT:
                return new DiskOpenException(
                    $"The OSDs of the Ceph cluster did not answer within {options.TimeoutSeconds} s while '{options.Path}' was opened. Check the cluster: ceph -s");
            default:
                return new DiskOpenException($"'{options.Path}' cannot be opened: {RbdCluster.Describe(result)}. Check it: rbd info {options.Path}");
        }
    }

    // An image, or its pool, may have settings of its own, which go before those of the client.
    private void RequireSettings(RbdDiskOptions options)
    {
        int count = 0;
        _ = rbd_config_image_list(_handle, null, &count);
        var settings = (ConfigOption*)NativeMemory.AllocZeroed((nuint)count + 1, (nuint)sizeof(ConfigOption));
        try
        {
            if (rbd_config_image_list(_handle, settings, &count) < 0)
            {
                throw new DiskOpenException($"The settings of '{options.Path}' cannot be read. Check it: rbd config image ls {options.Path}");
            }

            (string Name, string Value)? other = null;
            for (int i = 0; i < count; i++)
            {
                string name = Marshal.PtrToStringUTF8((nint)settings[i].Name) ?? "";
                string value = Marshal.PtrToStringUTF8((nint)settings[i].Value) ?? "";
                if (RbdCluster.NeededSettings.Any(needed => needed.Name == name && needed.Value != value))
                {
                    other = (name, value);
                }
            }

            rbd_config_image_list_cleanup(settings, count);
            if (other is { } wrong)
            {
                throw new DiskOpenException(
                    $"'{options.Path}' or its pool sets {wrong.Name}={wrong.Value} for itself, which this disk cannot do with. Take it back: rbd config image rm {options.Pool}/{options.Image} {wrong.Name}, or rbd config pool rm {options.Pool} {wrong.Name}");
            }
        }
        finally
        {
            NativeMemory.Free(settings);
        }
    }
}
