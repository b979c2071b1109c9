using System.Diagnostics;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>A contestant's server, from the moment it listens to its end.</summary>
internal sealed class RunningServer : IDisposable
{
    private const int PollMs = 5;

    private static readonly TimeSpan s_startDeadline = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_endDeadline = TimeSpan.FromSeconds(10);

    private readonly Process _process;
    private readonly string _socketPath;
    private readonly Task<string> _output;
    private readonly Task<string> _errors;

    private RunningServer(Process process, string socketPath)
    {
        _process = process;
        _socketPath = socketPath;
        // Whatever it says is kept for a complaint, and read so that it never waits for a reader.
        _output = process.StandardOutput.ReadToEndAsync();
        _errors = process.StandardError.ReadToEndAsync();
    }

    /// <summary>Its number: what the shell started becomes the server itself.</summary>
    public int ProcessId => _process.Id;

    /// <summary>Whether it has ended by itself.</summary>
    public bool HasExited => _process.HasExited;

    /// <summary>Starts a server and waits until it listens. It is not connected to: some serve a single connection.</summary>
    /// <exception cref="CompareException">It ended, or does not listen.</exception>
    public static RunningServer Start(string command, string socketPath, string? cpus)
    {
        RunningServer server = Launch(command, socketPath, cpus);
        long start = Stopwatch.GetTimestamp();
        while (!IsListening(socketPath))
        {
            if (server.HasExited || Stopwatch.GetElapsedTime(start) > s_startDeadline)
            {
                server.Dispose();
                throw new CompareException($"{command}\ndoes not listen on {socketPath}: {server.WhatItSaid()}".Trim());
            }

            Thread.Sleep(PollMs);
        }

        return server;
    }

    /// <summary>Starts a server and does not wait.</summary>
    public static RunningServer Launch(string command, string socketPath, string? cpus)
    {
        File.Delete(socketPath);
        return new RunningServer(Shell.Start(command, cpus), socketPath);
    }

    /// <summary>What it printed. Of a server that has ended.</summary>
    public string WhatItSaid() => $"{_errors.Result.Trim()} {_output.Result.Trim()}".Trim();

    /// <summary>Ends it: SIGTERM, and SIGKILL if that does not help.</summary>
    public void Dispose()
    {
        if (!_process.HasExited)
        {
            using var kill = Process.Start("kill", ["-TERM", $"{_process.Id}"]);
            kill.WaitForExit();
            if (!_process.WaitForExit(s_endDeadline))
            {
                _process.Kill();
                _process.WaitForExit();
            }
        }

        _process.Dispose();
        File.Delete(_socketPath);
    }

    // Flag 0x10000, __SO_ACCEPTCON.
    private static bool IsListening(string path) => File.ReadLines("/proc/net/unix").Any(line =>
        line.EndsWith(" " + path, StringComparison.Ordinal) && line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3] == "00010000");
}
