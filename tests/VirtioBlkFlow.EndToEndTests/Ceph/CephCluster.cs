using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using VirtioBlkFlow.Disks.Rbd;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Ceph;

/// <summary>All tests that use the cluster, one after the other: some of them stop it for a while.</summary>
[CollectionDefinition(Name)]
public sealed class CephCollection : ICollectionFixture<CephCluster>
{
    public const string Name = "Ceph";
}

/// <summary>
/// A Ceph cluster of one monitor and one OSD on 127.0.0.1, brought up once for all tests and killed with the process, whatever becomes of
/// that. Clients need a key.
/// </summary>
public sealed class CephCluster : IAsyncLifetime
{
    public const string Pool = "rbd";

    // How long a client that was killed keeps its lock.
    public const int WatchSeconds = 5;

    private const int SIGSTOP = 19;
    private const int SIGCONT = 18;
    private const int PortAttempts = 5;
    private const string Admin = "client.admin";

    // Says in the cluster's folder which process it belongs to.
    private const string OwnerName = "owner";

    // Bluestore's file is sparse; the tests write some tens of MiB.
    private const long StoreBytes = 4L << 30;

    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(120);

    private readonly TestFolder _folder = new();
    private readonly List<ChildProcess> _daemons = [];
    private int _imageCount;

    /// <summary>The ceph.conf of the cluster.</summary>
    public string ConfPath => _folder["ceph.conf"];

    /// <summary>What else is to be found in its folder.</summary>
    public string PathOf(string name) => _folder[name];

    private ChildProcess Osd => _daemons[^1];

    public async Task InitializeAsync()
    {
        RemoveLeftovers();
        File.WriteAllText(PathOf(OwnerName), Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
        Guid cluster = Guid.NewGuid();
        Guid osd = Guid.NewGuid();
        await StartMonitorAsync(cluster);

        string key = (await RunAsync("ceph-authtool", "--gen-print-key")).Trim();
        File.WriteAllText(PathOf("osd.json"), $"{{\"cephx_secret\": \"{key}\"}}");
        await CephAsync("osd", "new", osd.ToString(), "0", "-i", PathOf("osd.json"));
        File.WriteAllText(PathOf("osd.keyring"), $"[osd.0]\n\tkey = {key}\n");
        Directory.CreateDirectory(PathOf("osd"));
        await RunAsync("ceph-osd", "-c", ConfPath, "-i", "0", "--mkfs", "--osd-uuid", osd.ToString());
        _daemons.Add(StartDaemon("ceph-osd", "0"));
        await CephAsync("osd", "pool", "create", Pool, "8");
        // Waits until the OSD serves the pool.
        await RbdAsync("create", $"{Pool}/first", "--size", "1M");
    }

    public async Task DisposeAsync()
    {
        foreach (ChildProcess daemon in Enumerable.Reverse(_daemons))
        {
            await daemon.DisposeAsync();
        }

        _folder.Dispose();
    }

    /// <summary>Makes an image that reads as zeros.</summary>
    /// <returns>POOL/IMAGE.</returns>
    public async Task<string> CreateImageAsync(int mebibytes, params string[] options)
    {
        string image = string.Create(CultureInfo.InvariantCulture, $"{Pool}/image{Interlocked.Increment(ref _imageCount)}");
        await RbdAsync(["create", image, "--size", string.Create(CultureInfo.InvariantCulture, $"{mebibytes}M"), .. options]);
        return image;
    }

    /// <summary>How much of an image takes space, in bytes.</summary>
    public async Task<long> UsedBytesAsync(string image)
    {
        using JsonDocument usage = JsonDocument.Parse(await RbdAsync("du", image, "--format", "json"));
        return usage.RootElement.GetProperty("images").EnumerateArray().Last().GetProperty("used_size").GetInt64();
    }

    /// <summary>Runs rbd as the administrator.</summary>
    public Task<string> RbdAsync(params string[] arguments) => RunAsync("rbd", ["-c", ConfPath, .. arguments]);

    /// <summary>Runs ceph as the administrator.</summary>
    public Task<string> CephAsync(params string[] arguments) => RunAsync("ceph", ["-c", ConfPath, .. arguments]);

    /// <summary>Makes a user with rights.</summary>
    /// <returns>The path of a keyring.</returns>
    public async Task<string> CreateUserAsync(string name, string monitorRights, string osdRights)
    {
        string keyring = PathOf($"{name}.keyring");
        await CephAsync("auth", "get-or-create", $"client.{name}", "mon", monitorRights, "osd", osdRights, "-o", keyring);
        return keyring;
    }

    /// <summary>The specification of a disk for the program.</summary>
    public string Disk(string image, params string[] keys) => string.Join(',', [$"rbd:{image}", $"conf={ConfPath}", .. keys]);

    /// <summary>The same for a disk of this process.</summary>
    public RbdDiskOptions OptionsOf(string image) => new(Pool, image[(Pool.Length + 1)..]) { ConfigurationPath = ConfPath };

    /// <summary>The OSD answers nobody until this is disposed.</summary>
    public IDisposable StopOsd() => new StoppedOsd(Osd);

    /// <summary>Makes the cluster believe that its disks are full, or not; returns when it does.</summary>
    public async Task SetFullAsync(bool isFull)
    {
        // One after the other, so that at no time the more serious state begins below the less serious one.
        string[] levels = ["nearfull", "backfillfull", "full"];
        foreach ((string level, int i) in isFull ? levels.Select((level, i) => (level, i)) : levels.Select((level, i) => (level, i)).Reverse())
        {
            double ratio = isFull ? (i + 1) * 0.00001 : 0.90 + (i * 0.02);
            await CephAsync("osd", $"set-{level}-ratio", ratio.ToString("0.00000", CultureInfo.InvariantCulture));
        }

        Assert.True(
            SpinWait.SpinUntil(() => CephAsync("health").GetAwaiter().GetResult().Contains("pool(s) full", StringComparison.Ordinal) == isFull, s_deadline),
            $"The cluster does not notice that it is {(isFull ? "full" : "not full")}.");
    }

    private async Task StartMonitorAsync(Guid cluster)
    {
        await RunAsync("ceph-authtool", "--create-keyring", PathOf("mon.keyring"), "--gen-key", "-n", "mon.", "--cap", "mon", "allow *");
        await RunAsync(
            "ceph-authtool", PathOf("mon.keyring"), "--gen-key", "-n", Admin, "--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *");
        for (int attempt = 1; ; attempt++)
        {
            // Somebody else may take the port before the monitor does.
            int port = FindFreePort();
            WriteConfiguration(cluster, port);
            string monitors = PathOf($"monmap{attempt}");
            await RunAsync("monmaptool", "--create", "--fsid", cluster.ToString(), "--addv", "a", string.Create(CultureInfo.InvariantCulture, $"[v1:127.0.0.1:{port}]"), monitors);
            Directory.CreateDirectory(PathOf("mon"));
            await RunAsync("ceph-mon", "-c", ConfPath, "-i", "a", "--mkfs", "--monmap", monitors, "--keyring", PathOf("mon.keyring"));
            ChildProcess monitor = StartDaemon("ceph-mon", "a");
            // The first command waits for the monitor.
            await using ChildProcess status = ChildProcess.Start("ceph", ["-c", ConfPath, "--connect-timeout", "60", "mon", "stat"]);
            await Task.WhenAny(status.WaitForExitAsync(s_deadline), monitor.WaitForExitAsync(s_deadline));
            if (!monitor.HasExited && status.HasExited && status.ExitCode == 0)
            {
                _daemons.Add(monitor);
                return;
            }

            string fate = $"{monitor.CommandLine}\n{monitor.Output}\n{monitor.Errors}\n{status.Errors}";
            await monitor.DisposeAsync();
            Directory.Delete(PathOf("mon"), recursive: true);
            Assert.True(attempt < PortAttempts, $"The monitor of the Ceph cluster does not run.\n{fate}");
        }
    }

    private void WriteConfiguration(Guid cluster, int port) => File.WriteAllText(ConfPath, string.Create(CultureInfo.InvariantCulture, $"""
        [global]
        fsid = {cluster}
        mon host = v1:127.0.0.1:{port}
        mon initial members = a
        public addr = 127.0.0.1
        ms bind msgr2 = false
        auth cluster required = cephx
        auth service required = cephx
        auth client required = cephx
        osd pool default size = 1
        osd pool default min size = 1
        osd crush chooseleaf type = 0
        keyring = {PathOf("mon.keyring")}
        run dir = {_folder.FullName}
        admin socket =
        objecter tick interval = 1
        [mon]
        mon data = {PathOf("mon")}
        mon allow pool size one = true
        mon data avail crit = 1
        mon data avail warn = 2
        mon cluster log file = /dev/null
        auth allow insecure global id reclaim = false
        log file =
        [osd]
        osd data = {PathOf("osd")}
        keyring = {PathOf("osd.keyring")}
        osd objectstore = bluestore
        bluestore block size = {StoreBytes}
        osd client watch timeout = {WatchSeconds}
        osd heartbeat interval = 1
        log file =

        """));

    // The folders of clusters whose tests were killed: their daemons went with them.
    private void RemoveLeftovers()
    {
        foreach (string folder in Directory.EnumerateDirectories(Path.GetDirectoryName(_folder.FullName)!, "vbf-*"))
        {
            string owner = Path.Combine(folder, OwnerName);
            if (File.Exists(owner) && !Directory.Exists(Path.Combine("/proc", File.ReadAllText(owner))))
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }

    // Killed by the kernel if this process dies first, however it dies.
    private ChildProcess StartDaemon(string program, string id) =>
        ChildProcess.Start("setpriv", ["--pdeathsig", "KILL", program, "-c", ConfPath, "-i", id, "-f"]);

    private static int FindFreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static Task<string> RunAsync(string program, params string[] arguments) => ChildProcess.RunAsync(program, arguments, s_deadline);

    private sealed class StoppedOsd : IDisposable
    {
        private readonly ChildProcess _osd;

        public StoppedOsd(ChildProcess osd)
        {
            _osd = osd;
            osd.Signal(SIGSTOP);
        }

        public void Dispose() => _osd.Signal(SIGCONT);
    }
}
