using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>What a process holds of what front-ends make it hold: descriptors, threads, mappings.</summary>
internal sealed record ProcessFootprint(int Descriptors, int QueueThreads, int GuestMappings, int RingMappings, int Threads, int Mappings)
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(20);

    /// <summary>
    /// Counts when the last front-end is cleared away entirely: another one is answered, and front-ends are served one after the other.
    /// </summary>
    public static ProcessFootprint OfIdle(DaemonProcess daemon)
    {
        using VhostUserFrontend probe = VhostUserFrontend.Connect(daemon.SocketPath);
        probe.GetFeatures();
        ProcessFootprint footprint = Of(daemon.ProcessId);
        // A thread that has ended for the program is still there for the kernel, for a moment.
        Assert.True(
            SpinWait.SpinUntil(() => (footprint = Of(daemon.ProcessId)) is { QueueThreads: 0, GuestMappings: 0, RingMappings: 0 }, s_deadline),
            $"After the last front-end: {footprint}");
        return footprint;
    }

    /// <summary>
    /// Not one descriptor more. The runtime has threads and mappings of its own (thread pool, heap, compiled code); they may vary, but not
    /// with the number of rounds.
    /// </summary>
    public void AssertStaysAfter(int rounds, DaemonProcess daemon)
    {
        ProcessFootprint now = OfIdle(daemon);
        // What a front-end left behind stays; what the program itself holds for a moment goes. That moment may have been the first count's.
        SpinWait.SpinUntil(() => (now = OfIdle(daemon)).Descriptors <= Descriptors, s_deadline);
        string comparison = $"before {this}, after {rounds} rounds {now}";
        Assert.True(now.Descriptors <= Descriptors, comparison);
        Assert.True(now.Threads - Threads < 8, comparison);
        Assert.True(now.Mappings - Mappings < (rounds / 2) + 64, comparison);
    }

    private static ProcessFootprint Of(int processId)
    {
        string folder = $"/proc/{processId.ToString(CultureInfo.InvariantCulture)}";
        string[] threads = [.. Directory.EnumerateDirectories($"{folder}/task").Select(NameOf)];
        string[] mappings = File.ReadAllLines($"{folder}/maps");
        return new ProcessFootprint(
            Directory.EnumerateFileSystemEntries($"{folder}/fd").Count(descriptor => !IsFileOfTheProgram(descriptor)),
            threads.Count(name => name.StartsWith("queue-", StringComparison.Ordinal)),
            mappings.Count(line => line.Contains("memfd:guest-memory", StringComparison.Ordinal)),
            mappings.Count(line => line.Contains("[io_uring]", StringComparison.Ordinal)),
            threads.Length,
            mappings.Length);
    }

    /// <summary>
    /// A file with a path, which no front-end of these tests passes: the runtime keeps its assemblies open and may load one more at any time,
    /// and it reads files of /proc and /sys when its garbage collector or thread pool wants to know something.
    /// </summary>
    private static bool IsFileOfTheProgram(string descriptor) =>
        new FileInfo(descriptor).LinkTarget is not { } target
        || (target.StartsWith('/') && !target.StartsWith("/memfd:", StringComparison.Ordinal));

    private static string NameOf(string task)
    {
        try
        {
            return File.ReadAllText($"{task}/comm").Trim();
        }
        catch (IOException)
        {
            // Gone meanwhile.
            return "";
        }
    }
}
