using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>A program started by a test; killed with all it started when the test lets go of it.</summary>
internal sealed partial class ChildProcess : IAsyncDisposable
{
    public const int SIGTERM = 15;

    public const int SIGHUP = 1;

    public const int SIGKILL = 9;

    // Programs may ask the kernel for a signal when their parent dies, and nbdkit does without being told to. The kernel takes the thread
    // that started them for the parent, so a thread of the pool will not do: this one lives as long as the tests.
    private static readonly BlockingCollection<Action> s_starts = [];

    private readonly Process _process;

    static ChildProcess() => new Thread(() =>
    {
        foreach (Action start in s_starts.GetConsumingEnumerable())
        {
            start();
        }
    })
    { Name = "process-starter", IsBackground = true }.Start();

    private bool _isDisposed;

    private ChildProcess(Process process) => _process = process;

    public OutputLog Output { get; } = new();

    public OutputLog Errors { get; } = new();

    public int ProcessId => _process.Id;

    public bool HasExited => _process.HasExited;

    public int ExitCode => _process.ExitCode;

    public string CommandLine => $"{_process.StartInfo.FileName} {string.Join(' ', _process.StartInfo.ArgumentList)}";

    public static ChildProcess Start(
        string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment = null, string? folder = null)
    {
        ProcessStartInfo start = new(program, arguments)
        {
            // A pipe that stays open and silent: User Mode Linux takes an end of input for a hang-up of its console.
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = folder ?? "",
        };
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        ChildProcess child = new(new Process { StartInfo = start });
        child._process.OutputDataReceived += (_, e) => Record(child.Output, e.Data);
        child._process.ErrorDataReceived += (_, e) => Record(child.Errors, e.Data);
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        s_starts.Add(() =>
        {
            try
            {
                child._process.Start();
                started.SetResult();
            }
            catch (Exception exception)
            {
                started.SetException(exception);
            }
        });
        started.Task.GetAwaiter().GetResult();
        child._process.BeginOutputReadLine();
        child._process.BeginErrorReadLine();
        return child;
    }

    /// <summary>Runs a program to its end and returns what it printed; anything but exit code 0 fails the test.</summary>
    public static async Task<string> RunAsync(
        string program, IEnumerable<string> arguments, TimeSpan deadline, IReadOnlyDictionary<string, string>? environment = null, string? folder = null)
    {
        await using ChildProcess child = Start(program, arguments, environment, folder);
        if (!await child.WaitForExitAsync(deadline))
        {
            Assert.Fail($"{child.CommandLine}\ndid not end within {deadline.TotalSeconds} s\n{child.Output}\n{child.Errors}");
        }

        Assert.True(child.ExitCode == 0, $"{child.CommandLine}\nended with exit code {child.ExitCode}\n{child.Output}\n{child.Errors}");
        return child.Output.ToString();
    }

    /// <summary>False if the process is still running when the deadline has passed.</summary>
    public async Task<bool> WaitForExitAsync(TimeSpan deadline)
    {
        using CancellationTokenSource expiry = new(deadline);
        try
        {
            await _process.WaitForExitAsync(expiry.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>Types a line into the program's standard input.</summary>
    public void WriteLine(string line) => _process.StandardInput.WriteLine(line);

    /// <summary>Ends the program's standard input.</summary>
    public void CloseInput() => _process.StandardInput.Close();

    public void Signal(int number)
    {
        if (Kill(_process.Id, number) != 0)
        {
            throw new InvalidOperationException($"kill({_process.Id}, {number}): errno {Marshal.GetLastPInvokeError()}");
        }
    }

    /// <summary>SIGKILL, and the process is gone when this returns.</summary>
    public async Task KillAsync()
    {
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        // A test lets go of it, and so does who waits for its end on behalf of the test.
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        if (!_process.HasExited)
        {
            await KillAsync();
        }

        _process.Dispose();
    }

    private static void Record(OutputLog log, string? line)
    {
        if (line is null)
        {
            log.End();
        }
        else
        {
            log.Add(line);
        }
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int processId, int signal);
}
