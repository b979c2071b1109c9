using System.Text.Json;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Bench;

/// <summary>The <c>jobs[0]</c> of a run of <c>vblkflow bench</c>.</summary>
internal sealed class BenchJob(JsonElement job)
{
    public long Reads => job.GetProperty("read").GetProperty("total_ios").GetInt64();

    public long Writes => job.GetProperty("write").GetProperty("total_ios").GetInt64();

    public JsonElement Own => job.GetProperty("vblkflow");

    public long OwnCount(string name) => Own.GetProperty(name).GetInt64();
}

/// <summary>Runs <c>vblkflow bench</c> as somebody in a shell does.</summary>
internal static class BenchProgram
{
    // A few thousand requests on a machine that builds something beside it.
    private static readonly TimeSpan s_deadline = TimeSpan.FromMinutes(2);

    /// <summary>A run that must go well, with its results.</summary>
    public static async Task<BenchJob> RunAsync(TestFolder folder, string socketPath, string options)
    {
        string output = await ChildProcess.RunAsync(
            RepoPaths.Daemon, ["bench", socketPath, "--warm-up", "0s", "--json", "-", .. options.Split(' ')], s_deadline, folder: folder.FullName);
        using JsonDocument json = JsonDocument.Parse(output);
        return new BenchJob(json.RootElement.GetProperty("jobs")[0].Clone());
    }

    /// <summary>A run however it ends.</summary>
    public static Task<ProgramEnd> EndOfAsync(TestFolder folder, string socketPath, string options) =>
        Vblkflow.EndOfAsync(Start(folder, socketPath, options));

    /// <summary>A run that goes on.</summary>
    public static ChildProcess Start(TestFolder folder, string socketPath, string options) =>
        Vblkflow.Start(folder, ["bench", socketPath, .. options.Split(' ', StringSplitOptions.RemoveEmptyEntries)]);
}
