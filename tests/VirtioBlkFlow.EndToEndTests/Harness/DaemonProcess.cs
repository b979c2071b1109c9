using System.Globalization;

namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>How the daemon is started; what is not set is left to its defaults.</summary>
internal sealed record DaemonOptions(DiskImage Image)
{
    /// <summary>The value of --disk, in the place of --blk-file; null for that.</summary>
    public string? Disk { get; init; }

    /// <summary>A disk that is no image.</summary>
    public static DaemonOptions Of(string disk) => new((DiskImage)null!) { Disk = disk };

    public bool ReadOnly { get; init; }

    public string? Cache { get; init; }

    public bool Direct { get; init; }

    public string? Serial { get; init; }

    public int? QueueCount { get; init; }

    public string? IoEngine { get; init; }

    /// <summary>True: --poll. False: --no-poll.</summary>
    public bool? Poll { get; init; }

    /// <summary>False: --no-lock.</summary>
    public bool Lock { get; init; } = true;

    /// <summary>The value of --zoned.</summary>
    public string? Zoned { get; init; }

    /// <summary>Further options, as they are written.</summary>
    public IReadOnlyList<string> More { get; init; } = [];

    /// <summary>Options of -s, in the place of --blk-file; null for that.</summary>
    public string? SlotOptions { get; init; }

    public IEnumerable<string> ToArguments(string socketPath)
    {
        List<string> arguments = ["--socket-path", socketPath, .. DiskArguments()];
        void Flag(string name, bool given) => arguments.AddRange(given ? [name] : []);
        void Value(string name, string? value) => arguments.AddRange(value is null ? [] : [name, value]);
        Flag("--read-only", ReadOnly);
        Flag("--direct", Direct);
        Flag("--poll", Poll == true);
        Flag("--no-poll", Poll == false);
        Flag("--no-lock", !Lock);
        Value("--cache", Cache);
        Value("--serial", Serial);
        Value("--zoned", Zoned);
        Value("--num-queues", QueueCount?.ToString(CultureInfo.InvariantCulture));
        Value("--io-engine", IoEngine);
        return [.. arguments, .. More];
    }

    private string[] DiskArguments() => Disk is not null ? ["--disk", Disk] : SlotOptions is null ? ["--blk-file", Image.FilePath] : SlotArguments();

    private string[] SlotArguments() => ["-s", $"3,virtio-blk,{Image.FilePath.Replace(",", ",,", StringComparison.Ordinal)},{SlotOptions}"];
}

/// <summary>What serves a disk to a guest.</summary>
internal interface IDiskServer
{
    /// <summary>Where a front-end connects.</summary>
    string SocketPath { get; }

    /// <summary>For the message of a failure.</summary>
    string Log { get; }
}

/// <summary>The daemon under test, from the moment it listens.</summary>
internal sealed class DaemonProcess : IDiskServer, IAsyncDisposable
{
    private const string SocketName = "vblkflow.sock";

    private static readonly TimeSpan s_stopDeadline = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan s_endDeadline = TimeSpan.FromSeconds(60);

    private readonly ChildProcess _child;

    private DaemonProcess(ChildProcess child, string socketPath)
    {
        _child = child;
        SocketPath = socketPath;
    }

    public string SocketPath { get; }

    public int ProcessId => _child.ProcessId;

    public string Log => $"{_child.CommandLine}\n{_child.Output}\n{_child.Errors}";

    public static Task<DaemonProcess> StartAsync(TestFolder folder, DaemonOptions options) =>
        StartAsync(folder, () => ChildProcess.Start(RepoPaths.Daemon, options.ToArguments(folder[SocketName])));

    /// <summary>The same with any command line that listens on vblkflow.sock in the test's folder.</summary>
    public static async Task<DaemonProcess> StartAsync(TestFolder folder, Func<ChildProcess> start) =>
        new(await ListeningSocket.StartListenerAsync(folder, SocketName, start), folder[SocketName]);

    /// <summary>Waits until it has ended by itself, and checks how.</summary>
    public async Task WaitForEndAsync(int exitCode)
    {
        Assert.True(await _child.WaitForExitAsync(s_endDeadline), $"The daemon did not end within {s_endDeadline.TotalSeconds} s.\n{Log}");
        Assert.True(_child.ExitCode == exitCode, $"The daemon ended with exit code {_child.ExitCode}.\n{Log}");
        Assert.False(File.Exists(SocketPath), $"The daemon left its socket behind.\n{Log}");
    }

    /// <summary>Ends the daemon the way a service manager does, and checks that it leaves nothing behind.</summary>
    public async Task StopAsync()
    {
        Assert.False(_child.HasExited, $"The daemon ended before it was told to.\n{Log}");
        _child.Signal(ChildProcess.SIGTERM);
        Assert.True(
            await _child.WaitForExitAsync(s_stopDeadline), $"The daemon did not end within {s_stopDeadline.TotalSeconds} s of SIGTERM.\n{Log}");
        Assert.True(_child.ExitCode == 0, $"The daemon ended with exit code {_child.ExitCode} after SIGTERM.\n{Log}");
        Assert.False(File.Exists(SocketPath), $"The daemon left its socket behind.\n{Log}");
    }

    /// <summary>SIGHUP: look at the image's size again.</summary>
    public void ReadSizeAgain() => _child.Signal(ChildProcess.SIGHUP);

    /// <summary>SIGKILL: whatever was in flight is lost with it, and its socket stays behind.</summary>
    public async Task KillAsync()
    {
        // The signal alone, at once: it starts no process that would have to be looked for.
        _child.Signal(ChildProcess.SIGKILL);
        Assert.True(await _child.WaitForExitAsync(s_stopDeadline), $"The daemon is still there {s_stopDeadline.TotalSeconds} s after SIGKILL.\n{Log}");
    }

    public ValueTask DisposeAsync() => _child.DisposeAsync();
}
