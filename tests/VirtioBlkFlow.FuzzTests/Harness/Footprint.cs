using VirtioBlkFlow.FuzzTests.Target;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>What this process holds of what front-ends make a device hold: descriptors, threads, mappings.</summary>
internal sealed record Footprint(int Descriptors, int Polls, int QueueThreads, int GuestMappings, int RingMappings)
{
    // The runtime makes one for itself when it first needs it.
    private const string Poll = "anon_inode:[eventpoll]";

    /// <summary>What is held when the last front-end is cleared away: front-ends are served one after the other.</summary>
    public static Footprint OfIdle(FuzzTarget target)
    {
        FuzzSession.ProveLife(target);
        using (Frontend.Protocol.VhostUserFrontend barrier = Frontend.Protocol.VhostUserFrontend.Connect(target.SocketPath))
        {
            barrier.GetFeatures();
        }

        return Now();
    }

    /// <summary>Waits until no more than this is held.</summary>
    public void RequireAgain(FuzzTarget target)
    {
        Footprint now = OfIdle(target);
        // A thread that has ended for the program is still there for the kernel, for a moment; and so is a closed connection.
        if (!SpinWait.SpinUntil(() => (now = Now()).IsWithin(this), FuzzSession.DeadlineMs))
        {
            throw new FindingException(FindingKind.Leak, $"Before: {this}. After: {now}. Open are: {string.Join(", ", Targets())}");
        }
    }

    private bool IsWithin(Footprint other) =>
        Descriptors <= other.Descriptors && Polls <= other.Polls + 1 && QueueThreads <= other.QueueThreads
        && GuestMappings <= other.GuestMappings && RingMappings <= other.RingMappings;

    private static Footprint Now()
    {
        string[] mappings = File.ReadAllLines("/proc/self/maps");
        return new Footprint(
            Targets().Count(target => target != Poll),
            Targets().Count(target => target == Poll),
            Directory.EnumerateDirectories("/proc/self/task").Count(task => NameOf(task).StartsWith("queue-", StringComparison.Ordinal)),
            mappings.Count(line => line.Contains("memfd:guest-memory", StringComparison.Ordinal)),
            mappings.Count(line => line.Contains("[io_uring]", StringComparison.Ordinal)));
    }

    // The runtime keeps its assemblies open, and may load one more at any time.
    private static IEnumerable<string> Targets() => Directory.EnumerateFileSystemEntries("/proc/self/fd")
        .Select(descriptor => new FileInfo(descriptor).LinkTarget ?? "")
        .Where(target => !target.EndsWith(".dll", StringComparison.Ordinal));

    private static string NameOf(string task)
    {
        try
        {
            return File.ReadAllText($"{task}/comm");
        }
        catch (IOException)
        {
            // Gone meanwhile.
            return "";
        }
    }
}
