using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>Finds out what the figures belong to.</summary>
internal static class MachineFacts
{
    /// <summary>All there is to say.</summary>
    /// <param name="folder">Where the test file is.</param>
    /// <param name="contestants">Names of programs whose versions matter.</param>
    public static Machine Read(string folder, IEnumerable<string> contestants)
    {
        var versions = new Dictionary<string, string>();
        foreach (string name in contestants)
        {
            // Commands of others are not asked: who knows what they do with an option.
            if (name is "qemu-storage-daemon" or "fio" && Shell.FirstLineOf($"{name} --version") is { } version)
            {
                versions[name] = version;
            }
        }

        return new Machine(
            FieldOf("/proc/cpuinfo", "model name") ?? "unknown",
            Environment.ProcessorCount,
            Math.Round(double.Parse((FieldOf("/proc/meminfo", "MemTotal") ?? "0 kB").Split(' ')[0], CultureInfo.InvariantCulture) / (1 << 20), 1),
            Kernel(),
            Shell.FirstLineOf($"stat -f -c %T {Contestant.Quote(folder)}") ?? "unknown",
            System.Runtime.InteropServices.RuntimeInformation.FrameworkDescription,
            Commit(),
            versions,
            File.ReadAllText("/proc/loadavg").Trim());
    }

    // Without what a distributor or provider has appended.
    private static string Kernel() => $"Linux {Environment.OSVersion.Version.ToString(3)} {System.Runtime.InteropServices.RuntimeInformation.OSArchitecture.ToString().ToLowerInvariant()}";

    private static string Commit()
    {
        string? commit = Shell.FirstLineOf("git rev-parse HEAD");
        string? changes = Shell.FirstLineOf("git status --porcelain -- src perf");
        return commit is null ? "unknown" : changes is { Length: > 0 } ? $"{commit}, with local changes" : commit;
    }

    private static string? FieldOf(string path, string name) => File.ReadLines(path)
        .FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal))?.Split(':', 2)[1].Trim();
}
