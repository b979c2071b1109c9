namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>Tells when a program listens on a unix socket, without connecting: a probe would take the only connection a back-end serves.</summary>
internal static class ListeningSocket
{
    /// <summary>.NET, JIT and a loaded machine included.</summary>
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(30);

    /// <summary>Starts a program and returns once it listens on a socket in the test's folder.</summary>
    public static async Task<ChildProcess> StartListenerAsync(TestFolder folder, string socketName, Func<ChildProcess> start)
    {
        using FileSystemWatcher watcher = new(folder.FullName, socketName);
        TaskCompletionSource created = new(TaskCreationOptions.RunContinuationsAsynchronously);
        watcher.Created += (_, _) => created.TrySetResult();
        watcher.Renamed += (_, _) => created.TrySetResult();
        watcher.EnableRaisingEvents = true;

        string path = folder[socketName];
        Assert.False(File.Exists(path), $"{path} was left behind by an earlier program");
        ChildProcess listener = start();
        try
        {
            Task<bool> exit = listener.WaitForExitAsync(s_deadline);
            bool ready = await Task.WhenAny(created.Task, exit) == created.Task
                // The path appears with bind() and connects after listen().
                && SpinWait.SpinUntil(() => IsListening(path) || listener.HasExited, s_deadline)
                && !listener.HasExited;
            string fate = listener.HasExited ? $"ended with exit code {listener.ExitCode}" : $"did not listen within {s_deadline.TotalSeconds} s";
            Assert.True(ready, $"{listener.CommandLine}\n{fate}\n{listener.Output}\n{listener.Errors}");
            return listener;
        }
        catch
        {
            await listener.DisposeAsync();
            throw;
        }
    }

    /// <summary>/proc/net/unix shows flag 0x10000 (__SO_ACCEPTCON) for a socket that listens.</summary>
    public static bool IsListening(string path) => File.ReadLines("/proc/net/unix").Any(line =>
        line.EndsWith(" " + path, StringComparison.Ordinal) && line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3] == "00010000");
}
