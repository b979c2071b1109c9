using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>Requests that were accepted before a file disk shrank.</summary>
public sealed class ShrinkTests
{
    private const int Bytes = 1 << 20;

    public static TheoryData<DiskOperation> Transfers => [DiskOperation.Read, DiskOperation.Write];

    [Theory]
    [MemberData(nameof(Transfers))]
    public void A_request_that_comes_late_fails_and_the_file_does_not_grow(DiskOperation operation)
    {
        using var image = new TemporaryImage(Bytes);
        using var disk = image.Open();
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(0, Syscall.truncate(image.Path, Bytes / 2));
        disk.Refresh();
        bench.Start(0, operation, Bytes - 4096, 0, 1, 4096);
        bench.Start(1, operation, (Bytes / 2) - 4096, 0, 1, 4096);
        Dictionary<int, DiskOutcome> outcomes = bench.Finish(2);
        Assert.Equal((DiskOutcome.Failed, DiskOutcome.Done), (outcomes[0], outcomes[1]));
        Assert.Equal(Bytes / 2, new FileInfo(image.Path).Length);
    }

    [Theory]
    [MemberData(nameof(Transfers))]
    public void A_transfer_that_was_in_flight_across_the_new_end_fails(DiskOperation operation)
    {
        using var disk = new ScriptedDisk();
        ulong capacity = disk.Disk.Properties.CapacityBytes;
        disk.Transfer(0, operation, capacity - 4096, 1, 4096);
        disk.Transfer(1, operation, 0, 1, 4096);
        Assert.Equal(0, Syscall.truncate(disk.Disk.Path, (long)capacity - 512));
        disk.Disk.Refresh();
        disk.EndWhole();
        disk.EndWhole();
        Assert.Equal((DiskOutcome.Failed, DiskOutcome.Done), (disk.OutcomeOf(0), disk.OutcomeOf(1)));
    }

    [Fact]
    public void What_is_left_of_a_short_write_is_not_written_beyond_the_new_end()
    {
        using var disk = new ScriptedDisk();
        ulong capacity = disk.Disk.Properties.CapacityBytes;
        disk.Transfer(0, DiskOperation.Write, capacity - 4096, 1, 4096);
        Assert.Equal(0, Syscall.truncate(disk.Disk.Path, (long)capacity - 2048));
        disk.Disk.Refresh();
        disk.End(1024);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
        Assert.False(disk.Engine.HasWaiting);
    }
}
