using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.UnitTests.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Refresh;

/// <summary>A refresh step by step, beside a guest, by a clock that the test moves.</summary>
public sealed class RefreshPassTests : IDisposable
{
    private const int Piece = RefreshPass.PieceBytes;
    private const int Block = 4096;

    // Eight pieces in a second.
    private const ulong Rate = 8 * Piece;

    // All in the first piece.
    private static readonly int[] s_badBlocks = [3, 4, 9];

    private readonly SteppedDisk _inner = new(4 * Piece);
    private readonly FakeEngine _engine = new();
    private readonly List<RefreshNotice> _notices = [];
    private readonly RefreshOptions _options;
    private RefreshDisk? _disk;
    private WrappingBench? _guest;
    private RefreshPass? _pass;
    private RefreshStatus _status = new();
    private bool _mayRewrite = true;

    public RefreshPassTests()
    {
        _options = new RefreshOptions(Rate, IoEngineKind.Threads) { Noticed = _notices.Add, MayRewriteNow = () => _mayRewrite };
        Array.Fill(_inner.Data, (byte)0x11);
    }

    public void Dispose()
    {
        _pass?.Dispose();
        _guest?.Dispose();
        _disk?.Dispose();
    }

    [Fact]
    public void It_reads_all_of_the_disk_at_its_rate_and_no_more()
    {
        Begin(rewrites: false);
        for (int i = 0; i < 4; i++)
        {
            Pass(i == 0 ? 0 : 0.001);
            Assert.Equal((DiskOperation.Read, (ulong)(i * Piece), (uint)Piece), _inner.Requests[^1]);
            Assert.Equal(i + 1, _inner.Requests.Count);
            // However long it took, the next begins 125 ms after this one.
            Pass(i * 10);
            _inner.Step();
            Pass(124.999 - (i * 10));
            Assert.Equal(0, _inner.WaitingCount);
            Assert.Equal(((ulong)((i + 1) * Piece), RefreshState.Running), (_status.PositionBytes, _status.State));
        }

        Pass(0.001);
        Assert.True(_pass!.HasEnded);
        Assert.Equal((RefreshState.Finished, 4ul * Piece, 0ul), (_status.State, _status.ReadBytes, _status.RewrittenBytes));
        Assert.Equal(RefreshNoticeKind.Finished, Assert.Single(_notices).Kind);
    }

    [Fact]
    public void A_rest_is_not_made_up_for()
    {
        Begin(rewrites: false);
        Pass(0);
        Pass(60_000);
        _inner.Step();
        Pass(0);
        _inner.Step();
        Pass(124.999);
        Assert.Equal(2, _inner.Requests.Count);
        Pass(0.001);
        Assert.Equal(3, _inner.Requests.Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void It_waits_while_the_guest_is_at_work_and_some_time_more(bool rewrites)
    {
        Begin(rewrites);
        _guest!.Submit(0, DiskOperation.Read, offsetBytes: 3 * Piece);
        for (int i = 0; i < 10; i++)
        {
            Pass(20);
            Assert.Single(_inner.Requests);
        }

        _inner.Step();
        Pass(19.999);
        Assert.Single(_inner.Requests);
        Pass(0.001);
        Assert.Equal(2, _inner.Requests.Count);
        Assert.True(_status.Pauses >= 10, $"{_status.Pauses} pauses.");
        // What began and ended between two looks counts as well.
        FinishPiece();
        _guest.Submit(0, DiskOperation.Flush);
        _inner.Step();
        int before = _inner.Requests.Count;
        Pass(125);
        Assert.Equal(before, _inner.Requests.Count);
        Pass(20);
        Assert.Equal(before + 1, _inner.Requests.Count);
    }

    [Fact]
    public void A_write_of_the_guest_waits_for_the_rewrite_of_its_range_and_is_what_stays()
    {
        // What the guest reads is what it writes, zeros: the bench has one memory for all.
        Array.Clear(_inner.Data, 0, 1024);
        Begin(rewrites: true);
        Pass(0);
        Assert.Equal((DiskOperation.Read, 0ul, (uint)Piece), _inner.Requests[0]);
        // To the same range, and beside it.
        _guest!.Submit(0, DiskOperation.Write, offsetBytes: Piece - 1024, lengthBytes: 2048);
        _guest.Submit(1, DiskOperation.Write, offsetBytes: Piece, lengthBytes: 1024);
        _guest.Submit(2, DiskOperation.Read, offsetBytes: 0, lengthBytes: 1024);
        Assert.Equal([(DiskOperation.Write, (ulong)Piece), (DiskOperation.Read, 0ul)], _inner.Requests[1..].Select(one => (one.Operation, one.OffsetBytes)));
        _inner.Step();
        Assert.Equal((DiskOperation.Write, 0ul, (uint)Piece), _inner.Requests[^1]);
        _guest.Submit(3, DiskOperation.Discard, offsetBytes: 512, lengthBytes: 1024);
        Assert.Equal(4, _inner.Requests.Count);
        // Others end in between, and nothing of this goes on before the rewrite has ended.
        _inner.Step();
        _inner.Step();
        _guest.Pass(1000);
        Assert.Equal(4, _inner.Requests.Count);
        _inner.Step();
        Assert.Equal(4, _inner.Requests.Count);
        _guest.Pass(0);
        Assert.Equal([DiskOperation.Write, DiskOperation.Discard], _inner.Requests[4..].Select(one => one.Operation));
        _inner.Step();
        _inner.Step();
        Assert.Equal(-1, _inner.Data.AsSpan(Piece - 1024, 2048).IndexOfAnyExcept((byte)0));
        Assert.Equal(-1, _inner.Data.AsSpan(1024, Piece - 2048).IndexOfAnyExcept((byte)0x11));
        Assert.Equal([1, 2, 0, 3], _guest.Take().Select(one => one.Slot));
    }

    [Fact]
    public void While_a_request_is_under_way_nothing_is_claimed()
    {
        Begin(rewrites: true);
        _guest!.Submit(0, DiskOperation.Write, offsetBytes: 0);
        Assert.False(_disk!.Traffic.TryClaim(0, Piece));
        Assert.Null(_disk.Traffic.Claim);
        _inner.Step();
        Assert.True(_disk.Traffic.TryClaim(0, Piece));
        _guest.Submit(0, DiskOperation.Write, offsetBytes: 0);
        Assert.Equal(0, _inner.WaitingCount);
        // One that is held is under way too.
        _disk.Traffic.Release();
        Assert.False(_disk.Traffic.TryClaim(0, Piece));
        _guest.Pass(0);
        Assert.Equal(1, _inner.WaitingCount);
        _inner.Step();
    }

    [Theory]
    [InlineData(DiskOperation.Write, true)]
    [InlineData(DiskOperation.Discard, true)]
    [InlineData(DiskOperation.WriteZeroes, true)]
    [InlineData(DiskOperation.SecureErase, true)]
    [InlineData(DiskOperation.Read, false)]
    [InlineData(DiskOperation.Flush, false)]
    public void What_changes_the_range_is_held_and_only_that(DiskOperation operation, bool isHeld)
    {
        Begin(rewrites: true);
        Assert.True(_disk!.Traffic.TryClaim(Piece, Piece));
        // Ends where the range begins; reaches into it; begins in its last sector; begins behind it.
        _guest!.Submit(0, operation, offsetBytes: Piece - 1024);
        _guest.Submit(1, operation, offsetBytes: Piece - 512);
        _guest.Submit(2, operation, offsetBytes: (2 * Piece) - 512);
        _guest.Submit(3, operation, offsetBytes: 2 * Piece);
        Assert.Equal(isHeld ? 2 : 4, _inner.WaitingCount);
        _disk.Traffic.Release();
        _guest.Pass(0);
        Assert.Equal(4, _inner.WaitingCount);
        while (_inner.WaitingCount > 0)
        {
            _inner.Step();
        }
    }

    [Fact]
    public void A_queue_that_drains_with_held_writes_has_the_rewrite_hurry()
    {
        Begin(rewrites: true);
        int hurries = 0;
        _disk!.Traffic.Hurry = () =>
        {
            hurries++;
            _pass!.Hurry();
        };
        Pass(0);
        _guest!.Queue.EndHeld();
        Assert.Equal(0, hurries);
        _guest.Submit(0, DiskOperation.Write);
        int before = _inner.EndHeldCount;
        Assert.False(_guest.Queue.EndHeld());
        Assert.Equal(1, hurries);
        // The queue's own, the pass's own, and once more for the write that follows.
        Assert.Equal(before + 2, _inner.EndHeldCount);
        _inner.Step();
        Assert.Equal(before + 3, _inner.EndHeldCount);
        _inner.Step();
        _guest.Pass(0);
        _inner.Step();
        Assert.Single(_guest.Take());
    }

    [Fact]
    public void Blocks_of_zeros_are_left_alone()
    {
        Array.Clear(_inner.Data);
        _inner.Data[Block] = 1;
        _inner.Data[(3 * Block) - 1] = 1;
        _inner.Data[5 * Block] = 1;
        Begin(rewrites: true);
        Pass(0);
        _inner.Step();
        Assert.Equal((DiskOperation.Write, (ulong)Block, (uint)(2 * Block)), _inner.Requests[^1]);
        _inner.Step();
        Assert.Equal((DiskOperation.Write, 5ul * Block, (uint)Block), _inner.Requests[^1]);
        _inner.Step();
        Assert.Equal(3ul * Block, _status.RewrittenBytes);
        Pass(125);
        _inner.Step();
        // The next piece is nothing but zeros.
        Assert.Equal(4, _inner.Requests.Count);
        Assert.Equal(2ul * Piece, _status.PositionBytes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_cannot_be_read_is_found_to_the_block_said_and_counted(bool rewrites)
    {
        bool IsBad(ulong offset, uint length) => s_badBlocks.Any(block => offset < (ulong)((block + 1) * Block) && (ulong)(block * Block) < offset + length);
        _inner.Outcome = (operation, offset, length) => operation == DiskOperation.Read && IsBad(offset, length) ? DiskOutcome.Failed : DiskOutcome.Done;
        Begin(rewrites);
        RunToTheEnd();
        Assert.Equal([new DiskExtent(3 * Block, 2 * Block), new DiskExtent(9 * Block, Block)], _status.Unreadable);
        Assert.Equal((3ul * Block, (4ul * Piece) - (3 * Block)), (_status.UnreadableBytes, _status.ReadBytes));
        Assert.Equal(3, _notices.Count(notice => notice.Kind == RefreshNoticeKind.Unreadable));
        Assert.Equal(rewrites ? (4ul * Piece) - (3 * Block) : 0, _status.RewrittenBytes);
        Assert.DoesNotContain(_inner.Requests, one => one.Operation == DiskOperation.Write && IsBad(one.OffsetBytes, one.LengthBytes));
        Assert.Null(_disk!.Traffic.Claim);
    }

    [Fact]
    public void A_disk_that_is_broken_all_over_is_counted_and_not_listed_for_ever()
    {
        _inner.Outcome = (_, offset, length) => length > Block || offset / Block % 2 == 0 ? DiskOutcome.Failed : DiskOutcome.Done;
        using var large = new RefreshPassTests(new SteppedDisk(8 * Piece) { Outcome = _inner.Outcome });
        large.Begin(rewrites: false);
        large.RunToTheEnd();
        Assert.Equal(RefreshStatus.MostUnreadable, large._status.Unreadable.Count);
        Assert.Equal(4ul * Piece, large._status.UnreadableBytes);
    }

    [Fact]
    public void A_write_that_fails_is_tried_again_and_then_nothing_is_rewritten_any_more()
    {
        _inner.Outcome = (operation, _, _) => operation == DiskOperation.Write ? DiskOutcome.NoSpace : DiskOutcome.Done;
        Begin(rewrites: true);
        RunToTheEnd();
        Assert.Equal(3, _inner.Requests.Count(one => one.Operation == DiskOperation.Write));
        Assert.Equal(4ul * Piece, _status.ReadBytes);
        Assert.Equal((RefreshState.Finished, false, 0ul), (_status.State, _status.Rewrites, _status.RewrittenBytes));
        Assert.Contains("NoSpace", _status.Error, StringComparison.Ordinal);
        Assert.Equal((RefreshNoticeKind.NotRewritten, 0ul, (ulong)Piece), (_notices[0].Kind, _notices[0].OffsetBytes, _notices[0].LengthBytes));
        Assert.Null(_disk!.Traffic.Claim);
    }

    [Fact]
    public void One_write_that_fails_and_then_does_not_is_nobodys_business()
    {
        int fails = 2;
        _inner.Outcome = (operation, _, _) => operation == DiskOperation.Write && fails-- > 0 ? DiskOutcome.Failed : DiskOutcome.Done;
        Begin(rewrites: true);
        RunToTheEnd();
        Assert.Equal((true, 4ul * Piece, null), (_status.Rewrites, _status.RewrittenBytes, _status.Error));
    }

    [Fact]
    public void While_writing_is_forbidden_a_rewrite_waits_and_a_read_does_not()
    {
        _mayRewrite = false;
        Begin(rewrites: true);
        Pass(0);
        Pass(10_000);
        Assert.Empty(_inner.Requests);
        _mayRewrite = true;
        Pass(1000);
        Assert.Single(_inner.Requests);
        _inner.Step();
        _inner.Step();
        _mayRewrite = false;
        using var reader = new RefreshPassTests(_inner);
        reader._mayRewrite = false;
        reader.Begin(rewrites: false);
        reader.Pass(0);
        Assert.Equal(1, _inner.WaitingCount);
        _inner.Step();
    }

    [Fact]
    public void It_stops_when_what_is_in_flight_has_ended_and_holds_nothing_after_that()
    {
        Begin(rewrites: true);
        Pass(0);
        _guest!.Submit(0, DiskOperation.Write);
        _pass!.Stop();
        Assert.False(_pass.HasEnded);
        Assert.Equal(1, _inner.EndHeldCount);
        _inner.Step();
        Assert.Equal((true, RefreshState.Stopped), (_pass.HasEnded, _status.State));
        // What was read and not written is as it was.
        Assert.Single(_inner.Requests);
        _guest.Pass(0);
        Assert.Equal(2, _inner.Requests.Count);
        _inner.Step();
        Pass(10_000);
        Assert.Equal(2, _inner.Requests.Count);
    }

    [Fact]
    public void Between_two_pieces_it_stops_at_once()
    {
        Begin(rewrites: false);
        Pass(0);
        _inner.Step();
        _pass!.Stop();
        Assert.True(_pass.HasEnded);
        Pass(10_000);
        Assert.Single(_inner.Requests);
    }

    [Fact]
    public void A_disk_that_gets_smaller_meanwhile_is_read_to_its_new_end()
    {
        Begin(rewrites: false);
        Pass(0);
        _inner.Step();
        Pass(125);
        _inner.Properties = _inner.Properties with { CapacityBytes = Piece + 1536 };
        _inner.Outcome = (_, _, length) => length > 1536 ? DiskOutcome.Failed : DiskOutcome.Done;
        _inner.Step();
        Pass(125);
        Assert.Equal((DiskOperation.Read, (ulong)Piece, 1536u), _inner.Requests[^1]);
        _inner.Step();
        Pass(125);
        Assert.Equal((RefreshState.Finished, 0ul, (ulong)Piece + 1536), (_status.State, _status.UnreadableBytes, _status.ReadBytes));
    }

    private RefreshPassTests(SteppedDisk inner)
        : this() => _inner = inner;

    private void Begin(bool rewrites)
    {
        _disk = new RefreshDisk(_inner, _options);
        _guest = new WrappingBench(_disk);
        _pass = new RefreshPass(_inner, _engine, _disk.Traffic, _options, rewrites, status => _status = status);
        _pass.Begin();
    }

    private void Pass(double milliseconds) => _engine.Pass(TimeSpan.FromMilliseconds(milliseconds));

    private void FinishPiece()
    {
        while (_inner.WaitingCount > 0)
        {
            _inner.Step();
        }
    }

    private void RunToTheEnd()
    {
        for (int i = 0; !_pass!.HasEnded; i++)
        {
            Assert.True(i < 10_000, "It comes to an end.");
            Pass(125);
            FinishPiece();
        }
    }
}
