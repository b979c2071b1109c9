using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Clients;

/// <summary>libblkio's own example programs, the smallest vhost-user-blk front-ends there are.</summary>
internal static class BlkioTool
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(60);

    public static string LibraryFolder => Path.Combine(RepoPaths.Blkio, "usr/lib/x86_64-linux-gnu");

    public static IReadOnlyDictionary<string, string> Environment => new Dictionary<string, string> { ["LD_LIBRARY_PATH"] = LibraryFolder };

    /// <summary>Runs blkio-info, blkio-copy or blkio-bench to its end and returns what it printed.</summary>
    public static Task<string> RunAsync(string tool, params string[] arguments) =>
        ChildProcess.RunAsync(Path.Combine(RepoPaths.Blkio, "bin", tool), arguments, s_deadline, Environment);
}
