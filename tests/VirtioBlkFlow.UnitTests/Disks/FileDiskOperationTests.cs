using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;
using Xunit;
using static VirtioBlkFlow.UnitTests.Disks.ScriptedDisk;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>How a file disk answers to operations that end in unusual ways.</summary>
public sealed class FileDiskOperationTests
{
    private const int KeepSize = 1;
    private const int PunchHole = 2;
    private const int ZeroRange = 16;

    [Theory]
    [InlineData(DiskOperation.Read)]
    [InlineData(DiskOperation.Write)]
    public void A_short_transfer_is_resumed_where_it_ended(DiskOperation operation)
    {
        using var disk = new ScriptedDisk();
        disk.Transfer(0, operation, 4096, pieceCount: 4, pieceBytes: 1000 * 8);
        // In the middle of the second piece, at the end of it, and in the middle of the last.
        disk.End(8004);
        Assert.False(disk.HasEnded(0));
        Assert.Equal((4096ul + 8004, 32000ul - 8004, 3), Extent(disk.End(7996)));
        Assert.Equal((4096ul + 16000, 16000ul, 2), Extent(disk.End(15999)));
        Assert.Equal((4096ul + 31999, 1ul, 1), Extent(disk.End(1)));
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        Assert.False(disk.Engine.HasWaiting);
    }

    [Fact]
    public void A_resumed_transfer_goes_on_in_the_memory_it_has_not_reached_yet()
    {
        using var disk = new ScriptedDisk();
        disk.Transfer(0, DiskOperation.Read, 0, pieceCount: 2, pieceBytes: 512);
        Iovec first = disk.Engine.Operations[0].Memory[1];
        disk.End(600);
        Iovec rest = disk.Engine.Operations[1].Memory[0];
        unsafe
        {
            Assert.Equal((nint)first.Base + 88, (nint)rest.Base);
        }

        Assert.Equal((nuint)(512 - 88), rest.LengthBytes);
        disk.EndWhole();
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(1024, 1)]
    [InlineData(1025, 2)]
    [InlineData(2000, 2)]
    public void More_pieces_than_the_kernel_takes_are_several_operations(int pieces, int operations)
    {
        using var disk = new ScriptedDisk();
        disk.Transfer(0, DiskOperation.Write, 0, pieces, 512, durable: true);
        while (disk.Engine.HasWaiting)
        {
            Assert.InRange(disk.EndWhole().Pieces, 1, IIoEngine.MaxPieces);
        }

        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        Assert.Equal(operations, disk.Engine.Operations.Count);
        Assert.All(disk.Engine.Operations, operation => Assert.True(operation.Durable));
    }

    [Theory]
    [InlineData(DiskOperation.Read, EINTR)]
    [InlineData(DiskOperation.Read, EAGAIN)]
    [InlineData(DiskOperation.Write, EINTR)]
    [InlineData(DiskOperation.Write, EAGAIN)]
    [InlineData(DiskOperation.Flush, EINTR)]
    [InlineData(DiskOperation.Discard, EINTR)]
    [InlineData(DiskOperation.WriteZeroes, EAGAIN)]
    public void An_interruption_is_answered_by_the_same_again(DiskOperation operation, int errno)
    {
        using var disk = new ScriptedDisk();
        Start(disk, operation);
        FakeOperation first = disk.End(-errno);
        FakeOperation second = disk.End(-errno);
        FakeOperation third = disk.EndWhole();
        Assert.Equal(first with { Memory = [] }, second with { Memory = [] });
        Assert.Equal(first with { Memory = [] }, third with { Memory = [] });
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(DiskOperation.Read)]
    [InlineData(DiskOperation.Write)]
    [InlineData(DiskOperation.Discard)]
    [InlineData(DiskOperation.WriteZeroes)]
    public void Interruptions_without_end_are_a_failure(DiskOperation operation)
    {
        using var disk = new ScriptedDisk();
        Start(disk, operation);
        for (int i = 0; i < 1000 && disk.Engine.HasWaiting; i++)
        {
            disk.End(-EAGAIN);
        }

        Assert.False(disk.Engine.HasWaiting);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(DiskOperation.Read, -EIO)]
    [InlineData(DiskOperation.Write, -EIO)]
    [InlineData(DiskOperation.Write, -ENOSPC)]
    // Somebody cut the file short.
    [InlineData(DiskOperation.Read, 0)]
    [InlineData(DiskOperation.Write, 0)]
    [InlineData(DiskOperation.Discard, -EIO)]
    [InlineData(DiskOperation.WriteZeroes, -EIO)]
    [InlineData(DiskOperation.WriteZeroes, -ENOSPC)]
    public void An_error_is_a_failure_of_this_request_only(DiskOperation operation, int result)
    {
        using var disk = new ScriptedDisk();
        Start(disk, operation);
        disk.End(result);
        Assert.Equal(result == -ENOSPC ? DiskOutcome.NoSpace : DiskOutcome.Failed, disk.OutcomeOf(0));
        Assert.False(disk.Engine.HasWaiting);
        Start(disk, operation);
        disk.EndWhole();
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Fact]
    public void A_transfer_of_nothing_needs_no_operation()
    {
        using var disk = new ScriptedDisk();
        disk.Transfer(0, DiskOperation.Read, 0, 0, 0);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        disk.Ranges(0, DiskOperation.Discard, durable: false, new DiskRange(0, 0, false), new DiskRange(512, 0, false));
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        Assert.Empty(disk.Engine.Operations);
    }

    [Fact]
    public void An_operation_nobody_knows_is_unsupported()
    {
        using var disk = new ScriptedDisk();
        disk.Submit(0, new DiskRequest { Operation = (DiskOperation)99 });
        Assert.Equal(DiskOutcome.Unsupported, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(DiskOperation.Discard, false, KeepSize | PunchHole)]
    [InlineData(DiskOperation.WriteZeroes, false, KeepSize | ZeroRange)]
    [InlineData(DiskOperation.WriteZeroes, true, KeepSize | PunchHole)]
    public void Ranges_become_fallocate_one_after_the_other(DiskOperation operation, bool mayDeallocate, int mode)
    {
        using var disk = new ScriptedDisk();
        disk.Ranges(0, operation, durable: false, new DiskRange(512, 1024, mayDeallocate), default, new DiskRange(8192, 4096, mayDeallocate));
        Assert.Single(disk.Engine.Operations);
        FakeOperation first = disk.EndWhole();
        Assert.Equal((FakeCall.Fallocate, 512ul, 1024ul, mode), (first.Call, first.OffsetBytes, first.LengthBytes, first.Mode));
        FakeOperation second = disk.EndWhole();
        Assert.Equal((FakeCall.Fallocate, 8192ul, 4096ul, mode), (second.Call, second.OffsetBytes, second.LengthBytes, second.Mode));
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        Assert.False(disk.Engine.HasWaiting);
    }

    [Fact]
    public void A_file_system_that_cannot_free_space_has_heard_a_discard()
    {
        using var disk = new ScriptedDisk();
        disk.Ranges(0, DiskOperation.Discard, durable: false, new DiskRange(0, 512, false), new DiskRange(1024, 512, false));
        disk.End(-EOPNOTSUPP);
        disk.End(-EOPNOTSUPP);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        Assert.DoesNotContain(disk.Engine.Operations, operation => operation.Call == FakeCall.Write);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_file_system_that_cannot_zero_is_written_zeros(bool mayDeallocate)
    {
        const ulong Length = (2 << 20) + 4096;
        using var disk = new ScriptedDisk();
        disk.Ranges(0, DiskOperation.WriteZeroes, durable: false, new DiskRange(4096, Length, mayDeallocate));
        disk.End(-EOPNOTSUPP);
        ulong next = 4096;
        bool wasShort = false;
        while (disk.Engine.HasWaiting)
        {
            FakeOperation write = disk.Engine.Operations[^1];
            Assert.Equal((FakeCall.Write, next), (write.Call, write.OffsetBytes));
            AssertZeros(write);
            int done = wasShort ? (int)write.LengthBytes : 512;
            wasShort = true;
            next += (ulong)done;
            disk.End(done);
        }

        Assert.Equal(4096 + Length, next);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
        // What the file system lacks is remembered, for the mode that was asked for.
        disk.Ranges(0, DiskOperation.WriteZeroes, durable: false, new DiskRange(0, 512, MayDeallocate: false));
        Assert.Equal(mayDeallocate ? FakeCall.Fallocate : FakeCall.Write, disk.EndWhole().Call);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-EIO)]
    public void Zeros_that_cannot_be_written_are_a_failure(int result)
    {
        using var disk = new ScriptedDisk();
        disk.Ranges(0, DiskOperation.WriteZeroes, durable: false, new DiskRange(0, 512, false));
        disk.End(-EOPNOTSUPP);
        disk.End(result);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(1, 512, 1)]
    [InlineData(8, 4096, 1)]
    [InlineData(512, 512, 4)]
    public void Memory_that_is_not_aligned_goes_through_a_buffer_that_is(int shift, int pieceBytes, int operations)
    {
        using var disk = new ScriptedDisk(direct: true);
        uint block = disk.Disk.Properties.LogicalBlockBytes;
        int pieces = operations == 1 ? 8 : 512;
        Assert.Equal(0u, (uint)(pieces * pieceBytes) % block);
        // 1 is never aligned; the last case is, for a disk of 512.
        disk.Transfer(0, DiskOperation.Write, 0, pieces, pieceBytes, durable: true, shift: operations == 1 ? shift : 1);
        while (disk.Engine.HasWaiting)
        {
            FakeOperation write = disk.EndWhole();
            Assert.Equal(1, write.Pieces);
            Assert.True(write.Durable);
            unsafe
            {
                Assert.Equal(0, (nint)write.Memory[0].Base % block);
            }
        }

        Assert.Equal(operations, disk.Engine.Operations.Count);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    private static void Start(ScriptedDisk disk, DiskOperation operation)
    {
        switch (operation)
        {
            case DiskOperation.Flush:
                disk.Flush(0);
                break;
            case DiskOperation.Discard:
            case DiskOperation.WriteZeroes:
                disk.Ranges(0, operation, durable: false, new DiskRange(4096, 4096, false));
                break;
            default:
                disk.Transfer(0, operation, 4096, 2, 512);
                break;
        }
    }

    private static unsafe void AssertZeros(FakeOperation write) =>
        Assert.Equal(-1, new ReadOnlySpan<byte>(write.Memory[0].Base, (int)write.Memory[0].LengthBytes).IndexOfAnyExcept((byte)0));

    private static (ulong OffsetBytes, ulong LengthBytes, int Pieces) Extent(FakeOperation operation) =>
        (operation.OffsetBytes, operation.LengthBytes, operation.Pieces);
}
