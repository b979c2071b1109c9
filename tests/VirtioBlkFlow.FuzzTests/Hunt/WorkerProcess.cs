using System.Diagnostics;
using System.Globalization;
using System.Text;
using VirtioBlkFlow.FuzzTests.Harness;

namespace VirtioBlkFlow.FuzzTests.Hunt;

/// <summary>How an order was carried out.</summary>
/// <param name="Finding">What was found; null for nothing.</param>
/// <param name="Cases">Cases begun.</param>
/// <param name="Rounds">Rounds begun.</param>
/// <param name="Elapsed">How long the process lived.</param>
internal sealed record WorkerResult(Finding? Finding, long Cases, int Rounds, TimeSpan Elapsed);

/// <summary>Watches a worker from outside: notices that it died or fell silent, and in which case.</summary>
internal sealed class WorkerProcess
{
    // Longer than all that a worker itself waits for with a deadline in one case.
    private const int SilenceMs = 60_000;

    // Of what the runtime says when a process dies. Arbitrary.
    private const int ErrorLines = 60;

    private readonly WorkerOrder _order;
    private readonly Queue<string> _errors = new();
    private RoundId _round;
    private int _case;
    private long _cases;
    private int _rounds;
    private Finding? _finding;
    private bool _isDone;

    private WorkerProcess(WorkerOrder order) => _order = order;

    /// <summary>Starts a worker, and waits for its end.</summary>
    public static WorkerResult Run(WorkerOrder order) => new WorkerProcess(order).Watch();

    private WorkerResult Watch()
    {
        Stopwatch elapsed = Stopwatch.StartNew();
        // Images and sockets of a worker that dies are cleared away with its folder.
        DirectoryInfo folder = Directory.CreateTempSubdirectory("vblkflow-fuzz-");
        try
        {
            using Process process = Start(folder.FullName);
            Task reading = Task.Run(() => ReadErrors(process.StandardError));
            bool wasSilent = !ReadLines(process.StandardOutput);
            if (wasSilent)
            {
                process.Kill();
            }

            process.WaitForExit();
            reading.Wait();
            _finding ??= wasSilent ? new Finding(FindingKind.Hang, _round, _case, $"The process said nothing for {SilenceMs} ms.\n{Errors}")
                : !_isDone || process.ExitCode != 0 ? new Finding(FindingKind.ProcessDied, _round, _case, $"The process ended with exit code {process.ExitCode}.\n{Errors}")
                : null;
            return new WorkerResult(_finding, _cases, _rounds, elapsed.Elapsed);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private string Errors => string.Join('\n', _errors);

    private Process Start(string folder)
    {
        ProcessStartInfo start = new(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add("exec");
        start.ArgumentList.Add(typeof(WorkerProcess).Assembly.Location);
        foreach (string argument in _order.ToArguments())
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["TMPDIR"] = folder;
        // No core file for each crash that a test provokes.
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        Process process = Process.Start(start) ?? throw new InvalidOperationException("The worker did not start.");
        process.StandardInput.Close();
        return process;
    }

    private bool ReadLines(StreamReader output)
    {
        while (true)
        {
            Task<string?> line = output.ReadLineAsync();
            if (!line.Wait(SilenceMs))
            {
                return false;
            }

            if (line.Result is not { } text)
            {
                return true;
            }

            Hear(text.Split(' '));
        }
    }

    private void Hear(string[] words)
    {
        switch (words[0])
        {
            case "round":
                _round = RoundId.Parse(words[1]);
                _case = 0;
                _rounds++;
                break;
            case "case":
                _case = int.Parse(words[1], CultureInfo.InvariantCulture);
                _cases++;
                break;
            case "finding":
                _finding = new Finding(Enum.Parse<FindingKind>(words[1]), _round, _case, Encoding.UTF8.GetString(Convert.FromBase64String(words[2])));
                break;
            case "done":
                _isDone = true;
                break;
        }
    }

    private void ReadErrors(StreamReader errors)
    {
        while (errors.ReadLine() is { } line)
        {
            _errors.Enqueue(line);
            if (_errors.Count > ErrorLines)
            {
                _errors.Dequeue();
            }
        }
    }
}
