using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Nbd;

/// <summary>A real NBD server on a unix socket in the test's folder, which can be killed and come back.</summary>
internal sealed class NbdServer : IAsyncDisposable
{
    public const string SocketName = "nbd.sock";

    private const int SIGSTOP = 19;
    private const int SIGCONT = 18;

    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(60);

    private readonly TestFolder _folder;
    private readonly string _program;
    private readonly string[] _arguments;
    private ChildProcess _process = null!;

    private NbdServer(TestFolder folder, string program, string[] arguments)
    {
        _folder = folder;
        _program = program;
        _arguments = arguments;
    }

    /// <summary>What a disk of the daemon is called that is this export.</summary>
    public string Uri => UriOf("");

    /// <summary>The same under a name.</summary>
    public string UriOf(string export) => $"nbd+unix:///{export}?socket={_folder[SocketName]}";

    /// <summary>nbdkit with filters, a plug-in, and what they take.</summary>
    public static Task<NbdServer> StartNbdkitAsync(TestFolder folder, params string[] arguments) =>
        StartAsync(new NbdServer(folder, "nbdkit", ["--foreground", "--unix", folder[SocketName], .. arguments]));

    /// <summary>qemu-nbd with a raw image.</summary>
    public static Task<NbdServer> StartQemuNbdAsync(TestFolder folder, params string[] arguments) =>
        StartAsync(new NbdServer(folder, "qemu-nbd", ["--format", "raw", "--persistent", "--socket", folder[SocketName], .. arguments]));

    /// <summary>It is gone without a word, with all that it had not written.</summary>
    public async Task KillAsync()
    {
        await _process.KillAsync();
        await _process.DisposeAsync();
        File.Delete(_folder[SocketName]);
    }

    /// <summary>It is there again, as it was started.</summary>
    public async Task RestartAsync() =>
        _process = await ListeningSocket.StartListenerAsync(_folder, SocketName, () => ChildProcess.Start(_program, _arguments));

    /// <summary>SIGSTOP, and when this returns none of its threads does anything any more.</summary>
    public void Hang()
    {
        _process.Signal(SIGSTOP);
        Assert.True(SpinWait.SpinUntil(() => Directory.GetDirectories($"/proc/{_process.ProcessId}/task").All(IsStopped), s_deadline), "It does not stop.");
    }

    /// <summary>It goes on as if nothing had been.</summary>
    public void GoOn() => _process.Signal(SIGCONT);

    /// <summary>Told to end, it does.</summary>
    public async Task EndAsync()
    {
        _process.Signal(ChildProcess.SIGTERM);
        Assert.True(await _process.WaitForExitAsync(s_deadline), $"{_process.CommandLine} does not end\n{_process.Errors}");
        await _process.DisposeAsync();
        File.Delete(_folder[SocketName]);
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();

    // The state follows the name, which is in brackets (proc_pid_stat(5)).
    private static bool IsStopped(string task)
    {
        string stat = File.ReadAllText($"{task}/stat");
        return stat[stat.LastIndexOf(')') + 2] == 'T';
    }

    private static async Task<NbdServer> StartAsync(NbdServer server)
    {
        await server.RestartAsync();
        return server;
    }
}
