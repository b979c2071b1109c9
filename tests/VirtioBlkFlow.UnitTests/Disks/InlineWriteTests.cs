using System.Diagnostics;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>Which writes the queue's thread does itself, and when it leaves them to the engine.</summary>
public sealed unsafe class InlineWriteTests
{
    private const int RWF_NOWAIT = 8;
    private const int EIO = 5;
    private const int EAGAIN = 11;
    private const int ENOSPC = 28;
    private const int EOPNOTSUPP = 95;
    private const int Page = 4096;

    private static readonly long s_slow = Stopwatch.Frequency * StallGuard.SlowMicroseconds / 1_000_000;

    private readonly List<(int Count, long Offset, int Flags)> _calls = [];
    private long _now;
    private Func<int, int> _answer = flags => (flags & RWF_NOWAIT) != 0 ? -EOPNOTSUPP : Page;

    [Fact]
    public void Where_the_kernel_cannot_say_whether_it_would_block_writes_are_done_at_once()
    {
        InlineWrites writes = Create();
        Assert.Equal((true, Page), Try(writes, Request()));
        Assert.Equal((true, Page), Try(writes, Request(offsetBytes: 8 * Page, pieces: 3)));
        // It is asked once.
        Assert.Equal([(1, 0, RWF_NOWAIT), (1, 0, 0), (3, 8 * Page, 0)], _calls);
    }

    [Theory]
    [InlineData(Page)]
    [InlineData(-EAGAIN)]
    [InlineData(-EIO)]
    public void Where_it_can_io_uring_needs_no_worker_and_gets_them(int answer)
    {
        _answer = _ => answer;
        InlineWrites writes = Create();
        // What was written in order to find out is not written again.
        Assert.Equal(answer > 0, Try(writes, Request()).Taken);
        Assert.False(Try(writes, Request()).Taken);
        Assert.Equal([(1, 0, RWF_NOWAIT)], _calls);
    }

    [Fact]
    public void A_write_that_must_be_durable_is_long_or_needs_something_read_is_left_to_the_engine()
    {
        InlineWrites writes = Create();
        Assert.False(Try(writes, Request(durable: true)).Taken);
        Assert.False(Try(writes, Request(lengthBytes: InlineWrites.MaxBytes + Page)).Taken);
        Assert.False(Try(writes, Request(lengthBytes: 512)).Taken);
        Assert.False(Try(writes, Request(offsetBytes: 512)).Taken);
        Assert.Empty(_calls);
        Assert.True(Try(writes, Request(lengthBytes: InlineWrites.MaxBytes)).Taken);
    }

    [Theory]
    [InlineData(512)]
    [InlineData(-ENOSPC)]
    public void Short_writes_and_errors_are_what_the_engine_would_have_reported(int answer)
    {
        InlineWrites writes = Create();
        Try(writes, Request());
        _answer = _ => answer;
        Assert.Equal((true, answer), Try(writes, Request()));
    }

    [Fact]
    public void After_a_write_that_was_slow_the_engine_gets_them_for_a_while()
    {
        InlineWrites writes = Create();
        Try(writes, Request());
        _answer = _ =>
        {
            _now += s_slow;
            return Page;
        };
        Assert.True(Try(writes, Request()).Taken);
        Assert.False(Try(writes, Request()).Taken);
        _now += s_slow * StallGuard.FirstRest;
        Assert.True(Try(writes, Request()).Taken);
    }

    [Fact]
    public void Who_was_slow_rests_ten_times_as_long_and_twice_as_long_each_time_up_to_a_bound()
    {
        var guard = new StallGuard();
        long slow = s_slow;
        long now = 1_000_000_000;
        for (int rest = StallGuard.FirstRest; rest <= 2 * StallGuard.LongestRest; rest *= 2)
        {
            Assert.True(guard.Allows(now));
            guard.OnEnded(now, now + slow);
            long over = now + slow + (slow * Math.Min(rest, StallGuard.LongestRest));
            Assert.False(guard.Allows(over - 1));
            Assert.True(guard.Allows(over));
            now = over;
        }

        for (int i = 0; i < StallGuard.QuickToForget; i++)
        {
            guard.OnEnded(now, now + slow - 1);
        }

        Assert.True(guard.Allows(now));
        guard.OnEnded(now, now + slow);
        Assert.True(guard.Allows(now + slow + (slow * StallGuard.FirstRest)));
    }

    private InlineWrites Create() => new(7, Write, () => _now);

    private nint Write(int descriptor, Iovec* pieces, int count, long offsetBytes, int flags)
    {
        Assert.Equal(7, descriptor);
        _calls.Add((count, offsetBytes, flags));
        int answer = _answer(flags);
        Marshal.SetLastPInvokeError(answer < 0 ? -answer : 0);
        return answer < 0 ? -1 : answer;
    }

    private static DiskRequest Request(ulong offsetBytes = 0, uint lengthBytes = Page, int pieces = 1, bool durable = false) => new()
    {
        Operation = DiskOperation.Write,
        OffsetBytes = offsetBytes,
        LengthBytes = lengthBytes,
        PieceCount = pieces,
        Durable = durable,
    };

    private static (bool Taken, int Result) Try(InlineWrites writes, DiskRequest request)
    {
        bool taken = writes.TryWrite(in request, request.PieceCount, out int result);
        return (taken, taken ? result : 0);
    }
}
