using System.Text.Json;
using System.Text.Json.Serialization;
using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Benchmarks.Ratio;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>The figures of one variant in one cell. CPU time is that of the whole process, the driver's part included.</summary>
/// <param name="Variant">Its name.</param>
/// <param name="CpuNanoseconds">CPU time per request, of each slice.</param>
/// <param name="OtherThreadsNanoseconds">How much of it was not the driver's thread's: the median.</param>
/// <param name="Ratio">CPU time divided by the hand-written loop's of the same round.</param>
/// <param name="BytesPerRequest">Bytes allocated per request, on all threads.</param>
/// <param name="RoundP50Microseconds">Half of the rounds took no longer.</param>
/// <param name="RoundP99Microseconds">99 of 100 rounds took no longer.</param>
internal sealed record VariantFigures(
    string Variant, Sample CpuNanoseconds, double OtherThreadsNanoseconds, Sample Ratio, double BytesPerRequest, double RoundP50Microseconds, double RoundP99Microseconds);

/// <summary>The figures of one disk and depth.</summary>
/// <param name="Disk">null or file.</param>
/// <param name="Depth">Requests of a round.</param>
/// <param name="DriverNanoseconds">CPU time per request of the driver's part alone.</param>
/// <param name="Variants">In the order of <see cref="Study.Variants.All"/>.</param>
internal sealed record StudyCell(string Disk, int Depth, Sample DriverNanoseconds, IReadOnlyList<VariantFigures> Variants);

/// <summary>All figures of a run, and what they belong to.</summary>
/// <param name="SchemaVersion">Changes when a field changes its meaning or goes.</param>
/// <param name="StartedAt">When the run began.</param>
/// <param name="Machine">Where.</param>
/// <param name="FrameworkIsPrecompiled">
/// Whether .NET's own libraries ran as they were delivered. Compiled ahead of time and without tiers they stay slower than what is compiled
/// here, and of the variants those with stock blocks would pay for it.
/// </param>
/// <param name="Rounds">Slices of each variant in each cell.</param>
/// <param name="SliceMilliseconds">Length of a slice by the clock.</param>
/// <param name="Cells">Disk by disk, depth by depth.</param>
internal sealed record StudyFigures(
    int SchemaVersion, DateTimeOffset StartedAt, Machine Machine, bool FrameworkIsPrecompiled, int Rounds, double SliceMilliseconds, IReadOnlyList<StudyCell> Cells)
{
    /// <summary>The schema of this build.</summary>
    public const int CurrentSchema = 1;

    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
    };

    /// <summary>As the results file has it.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, s_json) + "\n";
}
