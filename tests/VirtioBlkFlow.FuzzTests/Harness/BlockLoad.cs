using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>
/// Reads and writes without end, on a thread of its own, and compares with what it wrote before: each block is in flight once at most. It goes on
/// submitting while its queue is stopped, reset or its front-end gone, as a driver does that knows nothing of it.
/// </summary>
internal sealed class BlockLoad : IDisposable
{
    /// <summary>Bytes of a block.</summary>
    public const int BlockBytes = 2048;

    private const int BlockSectors = BlockBytes / BlkRequest.SectorBytes;
    private const int Blocks = (DiskImage.PlaygroundEnd - DiskImage.PlaygroundStart) / BlockSectors;
    private const ulong ElsewhereTag = 1ul << 32;

    private readonly FrontendQueue _queue;
    private readonly BlkDriver _driver;
    private readonly FuzzRandom _random;
    private readonly ulong _elsewhere;
    private readonly byte[][] _shadow = new byte[Blocks][];
    private readonly bool[] _busy = new bool[Blocks];
    private readonly bool[] _writes = new bool[Blocks];
    private readonly byte[][] _next = new byte[Blocks][];
    private readonly Thread _thread;
    private readonly AutoResetEvent _settled = new(initialState: false);
    private volatile bool _isAsked;
    private volatile bool _ending;
    private volatile Exception? _failure;
    private long _completed;
    private uint _base;

    /// <summary>Starts the thread.</summary>
    /// <param name="queue">A queue; it may be started later.</param>
    /// <param name="driver">The driver on it; the thread's from now on.</param>
    /// <param name="image">What the blocks hold at the beginning.</param>
    /// <param name="random">Forked off: the thread's alone.</param>
    /// <param name="elsewhere">Guest address that some reads go to, which may be no memory at times.</param>
    public BlockLoad(FrontendQueue queue, BlkDriver driver, DiskImage image, FuzzRandom random, ulong elsewhere)
    {
        _queue = queue;
        _driver = driver;
        _random = random;
        _elsewhere = elsewhere;
        for (int i = 0; i < Blocks; i++)
        {
            _shadow[i] = image.Expected(SectorOf(i), BlockBytes).ToArray();
            _next[i] = new byte[BlockBytes];
        }

        _thread = new Thread(Run) { Name = "load", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Requests that came back.</summary>
    public long CompletedCount => Volatile.Read(ref _completed);

    /// <summary>Throws what has gone wrong on the thread.</summary>
    public void RequireHealthy()
    {
        if (_failure is { } failure)
        {
            throw failure is DeviceBrokeRingException
                ? new FindingException(FindingKind.HeadNotOurs, failure.Message, failure)
                : failure as FindingException ?? new FindingException(FindingKind.Unexpected, failure.ToString(), failure);
        }
    }

    /// <summary>Waits until some more requests came back; the queue must be running.</summary>
    public void RequireProgress(int requests)
    {
        long goal = CompletedCount + requests;
        if (!SpinWait.SpinUntil(() => CompletedCount >= goal || _failure is not null, FuzzSession.DeadlineMs))
        {
            throw new FindingException(FindingKind.Hang, $"The load does not go on: {CompletedCount} requests came back, {_driver.InFlightCount} are in flight.");
        }

        RequireHealthy();
    }

    /// <summary>Where a device goes on with the queue, once everything that came back was taken; the queue must rest.</summary>
    /// <returns>What SET_VRING_BASE says.</returns>
    public uint Settle()
    {
        if (!_thread.IsAlive)
        {
            RequireHealthy();
            return _queue.Ring.BaseAfterCrash;
        }

        _isAsked = true;
        bool isSettled = _settled.WaitOne(FuzzSession.DeadlineMs);
        RequireHealthy();
        return isSettled ? _base : throw new FindingException(FindingKind.Hang, "The load does not come to rest, though its queue has stopped.");
    }

    /// <summary>Submits no more, and waits until everything came back; the queue must be running. Then compares with the image.</summary>
    public void Finish(DiskImage image)
    {
        _ending = true;
        if (!_thread.Join(FuzzSession.DeadlineMs))
        {
            throw new FindingException(FindingKind.Hang, $"{_driver.InFlightCount} requests of the load do not come back.");
        }

        RequireHealthy();
        for (int i = 0; i < Blocks; i++)
        {
            if (!image.Current(SectorOf(i), BlockBytes).SequenceEqual(_shadow[i]))
            {
                throw new FindingException(FindingKind.WrongAnswer, $"The image does not hold what was written to sector {SectorOf(i)}.");
            }
        }
    }

    /// <summary>Gives the thread up, if it has not ended.</summary>
    public void Dispose()
    {
        _ending = true;
        _failure ??= new ObjectDisposedException(nameof(BlockLoad));
        _thread.Join();
        _settled.Dispose();
    }

    private static int SectorOf(int block) => DiskImage.PlaygroundStart + (block * BlockSectors);

    private void Run()
    {
        try
        {
            while (_failure is null && !(_ending && _driver.InFlightCount == 0))
            {
                bool worked = false;
                // Before the look: what was returned before the question is in the answer.
                bool isAsked = _isAsked;
                while (_driver.TryComplete(out BlkCompletion completion))
                {
                    Verify(completion);
                    Interlocked.Increment(ref _completed);
                    worked = true;
                }

                if (isAsked)
                {
                    _isAsked = false;
                    _base = _queue.Ring.BaseAfterCrash;
                    _settled.Set();
                }

                if (!_ending && _driver.NextSlot >= 0 && TrySubmit())
                {
                    worked = true;
                }

                _driver.Kick();
                if (!worked)
                {
                    Thread.Yield();
                }
            }
        }
        catch (Exception exception)
        {
            _failure = exception;
            _settled.Set();
        }
    }

    private bool TrySubmit()
    {
        int block = _random.Below(Blocks);
        if (_busy[block])
        {
            return false;
        }

        if (_random.OneIn(4))
        {
            return _driver.TrySubmit(
                BlkRequestType.VIRTIO_BLK_T_IN, (ulong)SectorOf(block), [DriverBuffer.Writable(_elsewhere, BlockBytes)], ElsewhereTag);
        }

        _writes[block] = _random.OneIn(2);
        if (_writes[block])
        {
            _random.Fill(_next[block]);
            _next[block].CopyTo(_driver.Data(_driver.NextSlot));
        }

        _busy[block] = _driver.TrySubmit(
            _writes[block] ? BlkRequestType.VIRTIO_BLK_T_OUT : BlkRequestType.VIRTIO_BLK_T_IN, (ulong)SectorOf(block), BlockBytes, (ulong)block);
        return _busy[block];
    }

    private void Verify(BlkCompletion completion)
    {
        if (completion.Tag == ElsewhereTag)
        {
            // Without that memory it cannot be done.
            Require(completion.Status is BlkStatus.VIRTIO_BLK_S_OK or BlkStatus.VIRTIO_BLK_S_IOERR, $"A read ends with {completion.Status}.");
            return;
        }

        int block = (int)completion.Tag;
        _busy[block] = false;
        Require(completion.Status == BlkStatus.VIRTIO_BLK_S_OK, $"A request at sector {SectorOf(block)} ends with {completion.Status}.");
        if (_writes[block])
        {
            (_shadow[block], _next[block]) = (_next[block], _shadow[block]);
        }
        else
        {
            Require(_driver.Data(completion.Slot)[..BlockBytes].SequenceEqual(_shadow[block]), $"Sector {SectorOf(block)} reads as something else than was written.");
        }
    }

    private static void Require(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new FindingException(FindingKind.WrongAnswer, otherwise);
        }
    }
}
