using VirtioBlkFlow.Disks;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;
using static VirtioBlkFlow.UnitTests.Disks.ScriptedDisk;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>What a file disk says is durable, and what it says after the kernel could not make something so.</summary>
public sealed class DurabilityTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Only_a_durable_write_asks_for_RWF_DSYNC(bool durable)
    {
        using var disk = new ScriptedDisk();
        disk.Transfer(0, DiskOperation.Write, 0, 1, 512, durable);
        disk.EndWhole();
        Assert.Equal(durable, Assert.Single(disk.Engine.Operations).Durable);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(DiskOperation.Discard)]
    [InlineData(DiskOperation.WriteZeroes)]
    public void Durable_ranges_are_followed_by_a_sync(DiskOperation operation)
    {
        using var disk = new ScriptedDisk();
        disk.Ranges(0, operation, durable: true, new DiskRange(0, 512, false), new DiskRange(1024, 512, false));
        disk.EndWhole();
        disk.EndWhole();
        Assert.False(disk.HasEnded(0));
        Assert.Equal(FakeCall.Fdatasync, disk.EndWhole().Call);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Fact]
    public void Zeros_that_were_written_durably_are_followed_by_a_sync()
    {
        using var disk = new ScriptedDisk();
        disk.Ranges(0, DiskOperation.WriteZeroes, durable: true, new DiskRange(0, 512, false));
        disk.End(-EOPNOTSUPP);
        Assert.Equal(FakeCall.Write, disk.EndWhole().Call);
        Assert.Equal(FakeCall.Fdatasync, disk.EndWhole().Call);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    public static TheoryData<string> WaysToLoseIt => ["flush", "durable write", "sync of ranges"];

    [Theory]
    [MemberData(nameof(WaysToLoseIt))]
    public void After_a_failed_sync_nothing_is_durable_any_more_on_any_queue(string way)
    {
        using var disk = new ScriptedDisk();
        using var otherEngine = new FakeEngine();
        var others = new Outcomes();
        using IDiskQueue other = disk.Disk.OpenQueue(otherEngine, others, 4);
        switch (way)
        {
            case "flush":
                disk.Flush(0);
                break;
            case "durable write":
                disk.Transfer(0, DiskOperation.Write, 0, 1, 512, durable: true);
                break;
            default:
                disk.Ranges(0, DiskOperation.Discard, durable: true, new DiskRange(0, 512, false));
                disk.EndWhole();
                break;
        }

        disk.End(-EIO);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));

        // The kernel would say yes now: it has forgotten. We have not.
        int before = disk.Engine.Operations.Count;
        disk.Flush(0);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
        disk.Transfer(0, DiskOperation.Write, 0, 1, 512, durable: true);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
        disk.Ranges(0, DiskOperation.WriteZeroes, durable: true, new DiskRange(0, 512, false));
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
        Assert.Equal(before, disk.Engine.Operations.Count);
        other.Submit(1, new DiskRequest { Operation = DiskOperation.Flush });
        other.Submit(2, new DiskRequest { Operation = DiskOperation.Write, Durable = true, LengthBytes = 512 });
        Assert.Equal([(1, DiskOutcome.Failed), (2, DiskOutcome.Failed)], others);
        Assert.Equal(DiskOutcome.Failed, disk.Disk.Flush());

        // Reads, and writes nobody was promised anything for, go on.
        disk.Transfer(0, DiskOperation.Read, 0, 1, 512);
        disk.EndWhole();
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        disk.Transfer(0, DiskOperation.Write, 0, 1, 512);
        disk.EndWhole();
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Fact]
    public void A_write_that_was_not_durable_takes_no_durability_with_it()
    {
        using var disk = new ScriptedDisk();
        disk.Transfer(0, DiskOperation.Write, 0, 1, 512);
        disk.End(-EIO);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
        disk.Flush(0);
        Assert.Equal(FakeCall.Fdatasync, disk.EndWhole().Call);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Fact]
    public void Of_two_syncs_at_once_none_succeeds_after_the_other_heard_of_an_error()
    {
        using var disk = new ScriptedDisk();
        disk.Flush(0);
        disk.Flush(1);
        disk.Transfer(2, DiskOperation.Write, 0, 1, 512, durable: true);
        disk.Ranges(3, DiskOperation.Discard, durable: true, new DiskRange(4096, 512, false));
        disk.Transfer(4, DiskOperation.Write, 8192, 1, 512);
        disk.End(-EIO);
        while (disk.Engine.HasWaiting)
        {
            disk.EndWhole();
        }

        Assert.Equal(
            [DiskOutcome.Failed, DiskOutcome.Failed, DiskOutcome.Failed, DiskOutcome.Failed, DiskOutcome.Done], Enumerable.Range(0, 5).Select(disk.OutcomeOf));
    }

    [Fact]
    public void A_read_only_disk_has_nothing_to_flush()
    {
        using var disk = new ScriptedDisk(readOnly: true);
        disk.Flush(0);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        Assert.Empty(disk.Engine.Operations);
        Assert.Equal(DiskOutcome.Done, disk.Disk.Flush());
    }

    [Fact]
    public void The_control_path_can_flush()
    {
        using var image = new TemporaryImage();
        using var disk = image.Open();
        Assert.Equal(DiskOutcome.Done, disk.Flush());
    }

    private sealed class Outcomes : List<(int Slot, DiskOutcome Outcome)>, IDiskCompletions
    {
        public void OnCompleted(int slot, DiskOutcome outcome) => Add((slot, outcome));
    }
}
