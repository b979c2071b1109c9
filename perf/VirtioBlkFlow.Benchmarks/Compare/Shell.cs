using System.Diagnostics;
using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>Programs, started by the shell because peers are given as commands.</summary>
internal static class Shell
{
    /// <summary>Starts a command; it becomes the process itself, on the processors given.</summary>
    /// <param name="command">For /bin/sh.</param>
    /// <param name="cpus">For taskset -c; null for any.</param>
    public static Process Start(string command, string? cpus)
    {
        string[] shell = ["/bin/sh", "-c", $"exec {command}"];
        string[] words = cpus is null ? shell : ["taskset", "-c", cpus, .. shell];
        return Process.Start(new ProcessStartInfo(words[0], words.Skip(1))
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        })!;
    }

    /// <summary>Runs a command to its end.</summary>
    /// <returns>What it printed.</returns>
    /// <exception cref="CompareException">It failed, or did not end in time.</exception>
    public static string Run(string command, string? cpus, TimeSpan deadline)
    {
        using Process process = Start(command, cpus);
        return Finish(process, command, deadline);
    }

    /// <summary>Waits for the end of a command that was started.</summary>
    /// <returns>What it printed.</returns>
    /// <exception cref="CompareException">It failed, or did not end in time.</exception>
    public static string Finish(Process process, string command, TimeSpan deadline)
    {
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(deadline))
        {
            process.Kill();
            throw new CompareException(string.Create(CultureInfo.InvariantCulture, $"{command}\ndid not end within {deadline.TotalSeconds} s."));
        }

        return process.ExitCode == 0
            ? output.Result
            : throw new CompareException(string.Create(CultureInfo.InvariantCulture, $"{command}\nended with exit code {process.ExitCode}: {errors.Result.Trim()}"));
    }

    /// <summary>The first line a command prints; null if it cannot be run.</summary>
    public static string? FirstLineOf(string command)
    {
        try
        {
            return Run(command, null, TimeSpan.FromSeconds(20)).Split('\n')[0].Trim();
        }
        catch (CompareException)
        {
            return null;
        }
    }
}
