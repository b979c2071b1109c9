using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Hunt;
using VirtioBlkFlow.FuzzTests.Target;

namespace VirtioBlkFlow.FuzzTests;

/// <summary>A device that does one thing wrong must be found, by the checks that find nothing in the real one.</summary>
public sealed class CanaryTests
{
    // Short, for those that let it pass; a device that is only slow must not be taken for one that does another thing wrong.
    private const int DeadlineMs = 3000;

    // Not each round gives the device an opportunity: a ring of one descriptor, say, does not.
    private const int DurationMs = 10_000;

    [Theory]
    [InlineData("bodies", nameof(Sabotage.HeadTwice), nameof(FindingKind.HeadNotOurs))]
    [InlineData("rings", nameof(Sabotage.HeadTwice), nameof(FindingKind.HeadNotOurs))]
    [InlineData("bodies", nameof(Sabotage.ByteBesideBuffer), nameof(FindingKind.MemoryTouched))]
    [InlineData("bodies", nameof(Sabotage.SectorBeside), nameof(FindingKind.DiskTouched))]
    [InlineData("bodies", nameof(Sabotage.LongerImage), nameof(FindingKind.DiskTouched))]
    [InlineData("rings", nameof(Sabotage.LongerImage), nameof(FindingKind.DiskTouched))]
    [InlineData("messages", nameof(Sabotage.LongerImage), nameof(FindingKind.DiskTouched))]
    [InlineData("lifecycle", nameof(Sabotage.LongerImage), nameof(FindingKind.DiskTouched))]
    [InlineData("bodies", nameof(Sabotage.NoData), nameof(FindingKind.WrongAnswer))]
    [InlineData("messages", nameof(Sabotage.NoData), nameof(FindingKind.WrongAnswer))]
    [InlineData("lifecycle", nameof(Sabotage.NoData), nameof(FindingKind.WrongAnswer))]
    [InlineData("bodies", nameof(Sabotage.WrongStatus), nameof(FindingKind.WrongAnswer))]
    [InlineData("bodies", nameof(Sabotage.LostRequest), nameof(FindingKind.Hang))]
    [InlineData("rings", nameof(Sabotage.LostRequest), nameof(FindingKind.Hang))]
    [InlineData("lifecycle", nameof(Sabotage.LostRequest), nameof(FindingKind.Hang))]
    [InlineData("inflight", nameof(Sabotage.LostRequest), nameof(FindingKind.Hang))]
    [InlineData("inflight", nameof(Sabotage.NoData), nameof(FindingKind.WrongAnswer))]
    [InlineData("inflight", nameof(Sabotage.ByteBesideBuffer), nameof(FindingKind.MemoryTouched))]
    [InlineData("messages", nameof(Sabotage.SilentSession), nameof(FindingKind.Hang))]
    [InlineData("rings", nameof(Sabotage.Crash), nameof(FindingKind.ProcessDied))]
    [InlineData("messages", nameof(Sabotage.Crash), nameof(FindingKind.ProcessDied))]
    [InlineData("messages", nameof(Sabotage.Descriptor), nameof(FindingKind.Leak))]
    public void A_device_that_does_one_thing_wrong_is_found(string generator, string sabotage, string expected)
    {
        WorkerOrder order = new(new RoundId(generator, 7), DurationMs, Enum.Parse<Sabotage>(sabotage), DeadlineMs);
        Finding? finding = WorkerProcess.Run(order).Finding;
        Assert.NotNull(finding);
        Assert.True(finding.Kind.ToString() == expected, finding.ToString());
        Assert.Equal(generator, finding.Round.Generator);
    }
}
