using System.Globalization;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>How often a thread gave up its processor, since it began.</summary>
/// <param name="Name">The thread's.</param>
/// <param name="Voluntary">To wait for something: each time, something has to wake it.</param>
/// <param name="Involuntary">For another thread.</param>
internal readonly record struct ThreadSwitches(string Name, long Voluntary, long Involuntary)
{
    /// <summary>Reads it out of the text of <c>/proc/PID/task/TID/status</c>.</summary>
    /// <exception cref="FormatException">It is no such text.</exception>
    public static ThreadSwitches Parse(string status)
    {
        string Field(string name) => status.Split('\n').FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.Ordinal))?[(name.Length + 1)..].Trim()
            ?? throw new FormatException($"There is no {name} in the status of a thread.");
        return new ThreadSwitches(
            Field("Name"),
            long.Parse(Field("voluntary_ctxt_switches"), CultureInfo.InvariantCulture),
            long.Parse(Field("nonvoluntary_ctxt_switches"), CultureInfo.InvariantCulture));
    }

    /// <summary>All threads of a process, by their numbers.</summary>
    public static IReadOnlyDictionary<int, ThreadSwitches> OfProcess(int processId)
    {
        var threads = new Dictionary<int, ThreadSwitches>();
        foreach (string folder in Directory.EnumerateDirectories(string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/task")))
        {
            try
            {
                threads[int.Parse(Path.GetFileName(folder), CultureInfo.InvariantCulture)] = Parse(File.ReadAllText(Path.Combine(folder, "status")));
            }
            catch (IOException)
            {
                // It has just ended.
            }
        }

        return threads;
    }

    /// <summary>Who was switched between two looks. What ended in between is not seen; what began, from its beginning.</summary>
    /// <param name="before">The first look.</param>
    /// <param name="after">The second.</param>
    /// <param name="seconds">Time between them.</param>
    public static IReadOnlyList<ThreadWakes> Between(
        IReadOnlyDictionary<int, ThreadSwitches> before, IReadOnlyDictionary<int, ThreadSwitches> after, double seconds) =>
    [
        .. after.Select(pair =>
            {
                ThreadSwitches was = before.GetValueOrDefault(pair.Key);
                return new ThreadWakes(pair.Value.Name, (pair.Value.Voluntary - was.Voluntary) / seconds, (pair.Value.Involuntary - was.Involuntary) / seconds);
            })
            .Where(wakes => wakes.PerSecond > 0).OrderByDescending(wakes => wakes.PerSecond),
    ];
}

/// <summary>How often a thread of an idle process ran.</summary>
/// <param name="Thread">Its name.</param>
/// <param name="VoluntaryPerSecond">How often it went back to sleep.</param>
/// <param name="InvoluntaryPerSecond">How often another thread took its place.</param>
internal sealed record ThreadWakes(string Thread, double VoluntaryPerSecond, double InvoluntaryPerSecond)
{
    /// <summary>Both together.</summary>
    public double PerSecond => VoluntaryPerSecond + InvoluntaryPerSecond;
}
