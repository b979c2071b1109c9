using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Wrapping;
using Xunit;
using static VirtioBlkFlow.Disks.DiskOutcome;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

public sealed class ErrorPolicyTests
{
    private readonly AnsweringDisk _inner = new();
    private readonly List<int> _heldCounts = [];

    [Theory]
    [InlineData(DiskOperation.Read)]
    [InlineData(DiskOperation.Write)]
    [InlineData(DiskOperation.Discard)]
    [InlineData(DiskOperation.WriteZeroes)]
    [InlineData(DiskOperation.SecureErase)]
    public void What_failed_is_tried_again_whole_after_a_delay(DiskOperation operation)
    {
        using ErrorPolicyDisk disk = Open(new ErrorPolicyOptions(Retries: 3, RetryDelay: TimeSpan.FromMilliseconds(100)));
        using var bench = new WrappingBench(disk);
        _inner.Answer = _ => _inner.Requests.Count < 3 ? Failed : Done;
        bench.Submit(0, operation, 4096, 3072, durable: true);
        Assert.Single(_inner.Requests);
        bench.Pass(99);
        Assert.Single(_inner.Requests);
        bench.Pass(1);
        Assert.Equal(2, _inner.Requests.Count);
        Assert.Empty(bench.Ended);
        bench.Pass(100);
        Assert.Equal((0, Done), Assert.Single(bench.Ended));
        // The disk uses up its lists, and each try still has them all.
        Assert.All(_inner.Requests, one =>
        {
            Assert.Equal((_inner.Requests[0].Operation, _inner.Requests[0].OffsetBytes, 3072u, true), (one.Operation, one.OffsetBytes, TotalOf(one), one.Durable));
            Assert.Equal(_inner.Requests[0].PieceBytes, one.PieceBytes);
            Assert.Equal(_inner.Requests[0].Ranges, one.Ranges);
        });
    }

    [Fact]
    public void After_the_last_try_the_guest_hears_of_it()
    {
        using ErrorPolicyDisk disk = Open(new ErrorPolicyOptions(Retries: 2));
        using var bench = new WrappingBench(disk);
        _inner.Answer = _ => NoSpace;
        bench.Submit(0, DiskOperation.Write);
        bench.Pass(0);
        Assert.Empty(bench.Ended);
        bench.Pass(0);
        Assert.Equal((0, NoSpace), Assert.Single(bench.Take()));
        Assert.Equal(3, _inner.Requests.Count);
        // The next request has its own tries.
        bench.Submit(0, DiskOperation.Write);
        Assert.Empty(bench.Ended);
    }

    [Theory]
    [InlineData(DiskOperation.Flush, Failed)]
    [InlineData(DiskOperation.Append, Failed)]
    [InlineData(DiskOperation.ZoneReset, Failed)]
    [InlineData(DiskOperation.Write, Unsupported)]
    [InlineData(DiskOperation.Write, ZoneUnalignedWrite)]
    [InlineData(DiskOperation.Read, Done)]
    public void What_a_second_try_cannot_help_is_reported_at_once(DiskOperation operation, DiskOutcome outcome)
    {
        using ErrorPolicyDisk disk = Open(new ErrorPolicyOptions(Retries: 5, Then: LastResort.Hold));
        using var bench = new WrappingBench(disk);
        _inner.Answer = _ => outcome;
        bench.Submit(0, operation);
        Assert.Equal((0, outcome), Assert.Single(bench.Ended));
        Assert.Single(_inner.Requests);
    }

    [Fact]
    public void What_is_held_waits_until_it_is_resumed_and_is_held_again_if_it_still_fails()
    {
        using ErrorPolicyDisk disk = Open(new ErrorPolicyOptions(Retries: 1, Then: LastResort.Hold));
        using var bench = new WrappingBench(disk);
        _inner.Answer = one => one.Operation == DiskOperation.Write ? Failed : Done;
        bench.Submit(0, DiskOperation.Write);
        bench.Submit(1, DiskOperation.Write);
        bench.Submit(2, DiskOperation.Read);
        bench.Pass(1e9);
        Assert.Equal((2, Done), Assert.Single(bench.Take()));
        Assert.Equal(2, disk.HeldCount);
        disk.Resume();
        bench.Pass(0);
        bench.Pass(0);
        Assert.Empty(bench.Ended);
        Assert.Equal(2, disk.HeldCount);
        _inner.Answer = _ => Done;
        disk.Resume();
        bench.Pass(0);
        Assert.Equal([(0, Done), (1, Done)], bench.Take());
        Assert.Equal(0, disk.HeldCount);
        Assert.Equal([1, 2, 1, 0, 1, 2, 1, 0], _heldCounts);
    }

    [Fact]
    public void Only_a_full_storage_holds_if_so_asked()
    {
        using ErrorPolicyDisk disk = Open(new ErrorPolicyOptions(Then: LastResort.HoldNoSpace));
        using var bench = new WrappingBench(disk);
        _inner.Answer = one => one.OffsetBytes == 0 ? NoSpace : Failed;
        bench.Submit(0, DiskOperation.Write, 0);
        bench.Submit(1, DiskOperation.Write, 4096);
        Assert.Equal((1, Failed), Assert.Single(bench.Take()));
        Assert.Equal(1, disk.HeldCount);
    }

    [Fact]
    public void A_queue_that_drains_holds_nothing_and_gives_what_waits_its_last_try()
    {
        using ErrorPolicyDisk disk = Open(new ErrorPolicyOptions(Retries: 9, RetryDelay: TimeSpan.FromHours(1), Then: LastResort.Hold));
        using var bench = new WrappingBench(disk);
        _inner.Answer = _ => Failed;
        bench.Submit(0, DiskOperation.Write);
        _inner.Answer = one => one.OffsetBytes == 0 ? Failed : null;
        bench.Submit(1, DiskOperation.Read, 4096);
        Assert.True(bench.Queue.EndHeld());
        // Its last try has failed, and it is held now.
        Assert.Equal((3, 1), (_inner.Requests.Count, disk.HeldCount));
        Assert.True(bench.Queue.EndHeld());
        Assert.False(bench.Queue.EndHeld());
        Assert.Equal((0, Failed), Assert.Single(bench.Take()));
        Assert.Equal(0, disk.HeldCount);
        _inner.End(1, Done);
        Assert.Equal((1, Done), Assert.Single(bench.Take()));
        bench.Pass(1e9);
        Assert.Empty(bench.Ended);
        Assert.Equal(3, _inner.Requests.Count);
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void Another_thread_resumes_a_queue_that_sleeps(IoEngineKind engine)
    {
        var faults = new FaultDiskOptions(1, [new FaultRule { Operations = [DiskOperation.Write], Times = 1, Outcome = NoSpace }]);
        ErrorPolicyDisk? disk = null;
        using (disk = ErrorPolicyDisk.Open(
            FaultDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(1 << 20)), faults),
            new ErrorPolicyOptions(Then: LastResort.HoldNoSpace, HeldChanged: count =>
            {
                if (count == 1)
                {
                    ThreadPool.QueueUserWorkItem(_ => disk!.Resume());
                }
            })))
        {
            using var bench = new DiskBench(disk, engine);
            bench.Memory[..4096].Fill(0x5a);
            Assert.Equal(Done, bench.Transfer(DiskOperation.Write, 512, 0, 4, 1024));
            bench.Memory.Clear();
            Assert.Equal(Done, bench.Transfer(DiskOperation.Read, 512, 0, 1, 4096));
            Assert.Equal(-1, bench.Memory[..4096].IndexOfAnyExcept((byte)0x5a));
        }
    }

    [Fact]
    public void Negative_numbers_are_refused()
    {
        Assert.Throws<DiskOpenException>(() => Open(new ErrorPolicyOptions(Retries: -1)));
        Assert.Throws<DiskOpenException>(() => Open(new ErrorPolicyOptions(RetryDelay: TimeSpan.FromSeconds(-1))));
        Assert.Equal(2, _inner.DisposeCount);
    }

    private static uint TotalOf(Got got) =>
        got.Ranges.Length > 0 ? (uint)got.Ranges.Sum(range => (long)range.LengthBytes) : (uint)got.PieceBytes.Sum(bytes => (long)bytes);

    private ErrorPolicyDisk Open(ErrorPolicyOptions options) => ErrorPolicyDisk.Open(_inner, options with { HeldChanged = _heldCounts.Add });
}
