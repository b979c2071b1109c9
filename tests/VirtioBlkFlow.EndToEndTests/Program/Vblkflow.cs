using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>How a run of the program ended.</summary>
internal sealed record ProgramEnd(int ExitCode, IReadOnlyList<string> Output, IReadOnlyList<string> Errors)
{
    public const int Success = 0;
    public const int Failure = 1;
    public const int Usage = 2;

    public string Error => string.Join('\n', Errors);

    /// <summary>It said no, in one or two lines that name the cause and what to do.</summary>
    public void AssertRefusedWith(int exitCode, params string[] words)
    {
        string all = $"exit code {ExitCode}, stdout '{string.Join('\n', Output)}', stderr '{Error}'";
        Assert.True(ExitCode == exitCode, $"exit code {exitCode} was expected: {all}");
        Assert.True(Output.Count == 0, $"stdout is for answers: {all}");
        Assert.True(Errors.Count is 1 or 2, $"one or two lines were expected: {all}");
        Assert.StartsWith("vblkflow: ", Errors[0], StringComparison.Ordinal);
        Assert.All(words, word => Assert.Contains(word, Error, StringComparison.Ordinal));
    }
}

/// <summary>The program as somebody in a shell starts it: any arguments, any folder.</summary>
internal static class Vblkflow
{
    public const string SocketName = "vblkflow.sock";

    /// <summary>For .NET to start and to say no, on a loaded machine.</summary>
    public static readonly TimeSpan EndDeadline = TimeSpan.FromSeconds(30);

    /// <summary>VU-84: it ends without waiting for anybody. That takes a moment; the rest is for a machine that builds something beside it.</summary>
    public static readonly TimeSpan SignalDeadline = TimeSpan.FromSeconds(15);

    public static ChildProcess Start(TestFolder folder, params string[] arguments) =>
        ChildProcess.Start(RepoPaths.Daemon, arguments, folder: folder.FullName);

    /// <summary>Runs it to its end, which must come by itself.</summary>
    public static Task<ProgramEnd> RunAsync(TestFolder folder, params string[] arguments) => EndOfAsync(Start(folder, arguments));

    public static async Task<ProgramEnd> EndOfAsync(ChildProcess child)
    {
        await using (child)
        {
            Assert.True(
                await child.WaitForExitAsync(EndDeadline),
                $"{child.CommandLine}\ndid not end within {EndDeadline.TotalSeconds} s\n{child.Output}\n{child.Errors}");
            return new ProgramEnd(child.ExitCode, child.Output.Lines, child.Errors.Lines);
        }
    }

    /// <summary>Starts it with --socket-path in the test's folder, and returns once it listens there.</summary>
    public static Task<ChildProcess> StartListeningAsync(TestFolder folder, params string[] arguments) =>
        ListeningSocket.StartListenerAsync(
            folder, SocketName, () => Start(folder, ["--socket-path", folder[SocketName], .. arguments]));

    /// <summary>The same by way of another program that executes it.</summary>
    public static Task<ChildProcess> StartListeningByAsync(TestFolder folder, string launcher, params string[] arguments) =>
        ListeningSocket.StartListenerAsync(
            folder, SocketName, () => ChildProcess.Start(launcher, arguments, folder: folder.FullName));

    /// <summary>Waits for a process that listens on a path where a socket file was before.</summary>
    public static void WaitUntilListening(string path, ChildProcess child) => Assert.True(
        SpinWait.SpinUntil(() => child.HasExited || ListeningSocket.IsListening(path), EndDeadline) && !child.HasExited,
        $"{child.CommandLine}\nended or does not listen\n{child.Output}\n{child.Errors}");

    /// <summary>Sends a signal, and checks that the program ends in time, with exit code 0, without its socket and without a word.</summary>
    public static async Task EndBySignalAsync(ChildProcess child, string socketPath, int signal = ChildProcess.SIGTERM)
    {
        Assert.False(child.HasExited, $"It ended before it was told to.\n{child.Output}\n{child.Errors}");
        child.Signal(signal);
        Assert.True(
            await child.WaitForExitAsync(SignalDeadline), $"It did not end within {SignalDeadline.TotalSeconds} s of signal {signal}.\n{child.Errors}");
        Assert.True(child.ExitCode == ProgramEnd.Success, $"It ended with exit code {child.ExitCode}.\n{child.Output}\n{child.Errors}");
        Assert.False(File.Exists(socketPath), "It left its socket behind.");
    }
}
