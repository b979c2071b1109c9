using System.Collections.Concurrent;
using System.ComponentModel;
using System.Diagnostics;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.Frontend;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>nbdkit or qemu-nbd on a unix socket; killed when the test lets go of it.</summary>
internal sealed class NbdServerProcess : IDisposable
{
    private const int PatienceMs = 60_000;

    // nbdkit ends with the thread that started it, so that one must live as long as the tests.
    private static readonly BlockingCollection<Action> s_starts = [];

    private readonly Process _process;

    static NbdServerProcess() => new Thread(() =>
    {
        foreach (Action start in s_starts.GetConsumingEnumerable())
        {
            start();
        }
    })
    { Name = "nbd-server-starter", IsBackground = true }.Start();

    private NbdServerProcess(Process process) => _process = process;

    /// <summary>nbdkit with a plug-in and whatever filters.</summary>
    public static NbdServerProcess StartNbdkit(NbdAddress address, params string[] arguments) =>
        Start("nbdkit", "nbdkit", address, ["--foreground", "--exportname", "", "--unix", address.SocketPath!, .. arguments]);

    /// <summary>qemu-nbd with a raw image.</summary>
    public static NbdServerProcess StartQemuNbd(NbdAddress address, string image, params string[] arguments) =>
        Start("qemu-nbd", "qemu-utils", address, ["--format", "raw", "--persistent", "--socket", address.SocketPath!, .. arguments, image]);

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static NbdServerProcess Start(string program, string package, NbdAddress address, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardError = true };
        var process = new Process { StartInfo = start };
        var started = new TaskCompletionSource();
        s_starts.Add(() =>
        {
            try
            {
                process.Start();
                started.SetResult();
            }
            catch (Win32Exception exception)
            {
                started.SetException(new InvalidOperationException(
                    $"{program} cannot be started: {exception.Message}. It is in Debian's package {package}: apt-get install {package}", exception));
            }
        });
        started.Task.GetAwaiter().GetResult();
        var server = new NbdServerProcess(process);
        Deadline deadline = Deadline.In(PatienceMs);
        while (!Listens(address.SocketPath!))
        {
            if (process.HasExited || deadline.HasPassed)
            {
                string errors = process.HasExited ? process.StandardError.ReadToEnd() : "";
                Assert.Fail($"{program} {string.Join(' ', arguments)}\ndoes not listen\n{errors}");
            }

            Thread.Yield();
        }

        return server;
    }

    // Asked of the kernel, because to connect would be one of the connections that a server counts. Flag 0x10000 is __SO_ACCEPTCON: before,
    // the socket is only bound.
    private static bool Listens(string path) => File.ReadLines("/proc/net/unix").Any(
        line => line.EndsWith(path, StringComparison.Ordinal) && line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3] == "00010000");
}
