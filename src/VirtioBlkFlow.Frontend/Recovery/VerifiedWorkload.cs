using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Recovery;

/// <summary>The device lost, doubled or spoiled something; the message says what and gives the seed.</summary>
public sealed class WorkloadException(string message) : Exception(message);

/// <summary>What the requests of a workload are, in parts of all of them.</summary>
/// <param name="Reads">IN.</param>
/// <param name="Writes">OUT.</param>
/// <param name="Flushes">FLUSH.</param>
/// <param name="Zeroes">WRITE_ZEROES.</param>
/// <param name="Discards">DISCARD.</param>
public readonly record struct RequestMix(int Reads, int Writes, int Flushes, int Zeroes, int Discards)
{
    /// <summary>Mostly reads and writes; no DISCARD, after which nothing is certain.</summary>
    public static RequestMix Usual => new(10, 16, 1, 2, 0);
}

/// <summary>
/// Random requests from a seed on a stretch of a disk, as many in flight as the driver can have, each checked when it comes back. Every
/// write carries a stamp of its own; requests in flight never overlap, so what each must see, and what must be there after it, is certain:
/// also when the back-end dies in between and another one goes on. Owned by the driver's thread; allocates nothing while it runs.
/// </summary>
public sealed class VerifiedWorkload
{
    // Larger ones are rare, as with guests, and so that many fit. Arbitrary.
    private const int UsualSectors = 8;

    // How often to look for a place where nothing is in flight before the step is left out. Arbitrary.
    private const int PlaceTries = 8;

    // Fixed at construction.
    private readonly BlkDriver _driver;
    private readonly DiskModel _model;
    private readonly int _firstSector;
    private readonly int _sectorCount;
    private readonly int _seed;
    private readonly RequestMix _mix;
    private readonly int _maxSectors;

    // Owned by the driver's thread.
    private readonly Random _random;
    private readonly Pending[] _pending;
    private readonly bool[] _busy;
    private ulong _nextTag = 1;
    private long _completedCount;

    /// <summary>Prepares; the stretch must hold what the model says.</summary>
    /// <param name="driver">Idle, and used for nothing else.</param>
    /// <param name="model">Shared only with workloads on other stretches, on the same thread.</param>
    /// <param name="firstSector">First sector of the stretch.</param>
    /// <param name="sectorCount">Its length.</param>
    /// <param name="seed">Decides about everything.</param>
    /// <param name="mix">What to do; by default <see cref="RequestMix.Usual"/>.</param>
    public VerifiedWorkload(BlkDriver driver, DiskModel model, int firstSector, int sectorCount, int seed, RequestMix? mix = null)
    {
        ArgumentNullException.ThrowIfNull(driver);
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstSector + sectorCount, model.SectorCount);
        _driver = driver;
        _model = model;
        _firstSector = firstSector;
        _sectorCount = sectorCount;
        _seed = seed;
        _mix = mix ?? RequestMix.Usual;
        _maxSectors = Math.Min(driver.MaxTransferBytes / BlkRequest.SectorBytes, sectorCount);
        _random = new Random(seed);
        _pending = new Pending[driver.QueueDepth];
        _busy = new bool[sectorCount];
    }

    /// <summary>Requests that came back as they should. Other threads may look.</summary>
    public long CompletedCount => Volatile.Read(ref _completedCount);

    /// <summary>Requests that did not come back yet.</summary>
    public int PendingCount { get; private set; }

    /// <summary>Runs a number of requests; all of them come back.</summary>
    /// <exception cref="WorkloadException">Something is wrong.</exception>
    public void Run(int requestCount, Deadline deadline)
    {
        ulong end = _nextTag + (ulong)requestCount;
        while (_nextTag < end)
        {
            Submit(_nextTag, end);
            if (!WaitAndComplete(deadline))
            {
                throw Wrong($"{PendingCount} requests do not come back.");
            }
        }

        Drain(deadline);
    }

    /// <summary>
    /// Runs until told to stop, and leaves in flight what is in flight. For a back-end that is killed meanwhile: it stops looking for
    /// completions when nothing comes for a few milliseconds and the word is given.
    /// </summary>
    /// <param name="isOver">Asked between steps; another thread may change the answer.</param>
    /// <exception cref="WorkloadException">Something is wrong.</exception>
    public void RunUntil(Func<bool> isOver)
    {
        ArgumentNullException.ThrowIfNull(isOver);
        // The end of a back-end is not signalled where completions are waited for, so the wait is cut into pieces. Arbitrary.
        const int PieceMs = 5;
        while (!isOver())
        {
            Submit(0, ulong.MaxValue);
            WaitAndComplete(Deadline.In(PieceMs));
        }
    }

    /// <summary>Waits until all that is in flight has come back. After a crash, call it when the next back-end is attached.</summary>
    /// <exception cref="WorkloadException">Something is lost, or wrong.</exception>
    public void Drain(Deadline deadline)
    {
        while (PendingCount > 0)
        {
            if (!WaitAndComplete(deadline))
            {
                throw Wrong($"{PendingCount} requests are lost: {DescribePending()}.");
            }
        }

        if (_driver.TryComplete(out BlkCompletion extra))
        {
            throw Wrong($"Request {extra.Tag} came back though nothing was in flight.");
        }
    }

    /// <summary>Reads the whole stretch, with nothing in flight, and compares.</summary>
    /// <exception cref="WorkloadException">A sector holds something else.</exception>
    public void VerifyAll()
    {
        byte[] read = new byte[_maxSectors * BlkRequest.SectorBytes];
        for (int done = 0; done < _sectorCount; done += _maxSectors)
        {
            ulong sector = (ulong)(_firstSector + done);
            Span<byte> part = read.AsSpan(0, Math.Min(_maxSectors, _sectorCount - done) * BlkRequest.SectorBytes);
            BlkStatus status = _driver.Read(sector, part);
            if (status != BlkStatus.VIRTIO_BLK_S_OK)
            {
                throw Wrong($"Reading {part.Length} bytes at sector {sector} ended with {status}.");
            }

            Compare(sector, part, "at the end");
        }
    }

    private void Submit(ulong from, ulong end)
    {
        for (ulong tag = from; tag < end && _driver.NextSlot >= 0 && TrySubmitOne(); tag++)
        {
        }

        _driver.Kick();
    }

    private bool WaitAndComplete(Deadline deadline)
    {
        if (PendingCount == 0)
        {
            return true;
        }

        if (!_driver.WaitForCompletion(deadline))
        {
            return false;
        }

        while (_driver.TryComplete(out BlkCompletion completion))
        {
            Complete(in completion);
        }

        return true;
    }

    private bool TrySubmitOne()
    {
        int slot = _driver.NextSlot;
        BlkRequestType type = PickType();
        if (type == BlkRequestType.VIRTIO_BLK_T_FLUSH)
        {
            return Submit(slot, type, 0, 0, new Pending(_nextTag, type, 0, 0));
        }

        if (!TryPickPlace(out int start, out int count))
        {
            return false;
        }

        ulong sector = (ulong)(_firstSector + start);
        var pending = new Pending(_nextTag, type, start, count);
        uint lengthBytes = (uint)(count * BlkRequest.SectorBytes);
        switch (type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                // So that a read that does nothing is noticed.
                _driver.Data(slot)[..(int)lengthBytes].Fill(0xa5);
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                DiskModel.Fill(sector, pending.Tag, _driver.Data(slot)[..(int)lengthBytes]);
                break;
            default:
                var segment = new BlkSegment { Sector = sector, SectorCount = (uint)count };
                MemoryMarshal.Write(_driver.Data(slot), in segment);
                return Submit(slot, type, 0, BlkSegment.SizeBytes, pending);
        }

        return Submit(slot, type, sector, lengthBytes, pending);
    }

    private BlkRequestType PickType()
    {
        int pick = _random.Next(_mix.Reads + _mix.Writes + _mix.Flushes + _mix.Zeroes + _mix.Discards);
        return (pick -= _mix.Reads) < 0 ? BlkRequestType.VIRTIO_BLK_T_IN
            : (pick -= _mix.Writes) < 0 ? BlkRequestType.VIRTIO_BLK_T_OUT
            : (pick -= _mix.Flushes) < 0 ? BlkRequestType.VIRTIO_BLK_T_FLUSH
            : pick - _mix.Zeroes < 0 ? BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES
            : BlkRequestType.VIRTIO_BLK_T_DISCARD;
    }

    private bool TryPickPlace(out int start, out int count)
    {
        for (int i = 0; i < PlaceTries; i++)
        {
            int limit = _random.Next(8) == 0 ? _maxSectors : Math.Min(_maxSectors, UsualSectors);
            count = _random.Next(1, limit + 1);
            start = _random.Next(_sectorCount - count + 1);
            if (!_busy.AsSpan(start, count).Contains(true))
            {
                return true;
            }
        }

        start = count = 0;
        return false;
    }

    private bool Submit(int slot, BlkRequestType type, ulong sector, uint dataBytes, in Pending pending)
    {
        if (!_driver.TrySubmit(type, sector, dataBytes, pending.Tag))
        {
            // The ring has no room for the chain, though a slot is free.
            return false;
        }

        _busy.AsSpan(pending.Start, pending.Count).Fill(true);
        _pending[slot] = pending;
        _nextTag++;
        PendingCount++;
        return true;
    }

    private void Complete(in BlkCompletion completion)
    {
        ref Pending pending = ref _pending[completion.Slot];
        if (pending.Tag != completion.Tag || pending.Tag == 0)
        {
            throw Wrong($"Request {completion.Tag} came back twice.");
        }

        if (completion.Status != BlkStatus.VIRTIO_BLK_S_OK)
        {
            throw Wrong($"{pending.Type} of {pending.Count} sectors at {_firstSector + pending.Start} ended with {completion.Status}.");
        }

        ulong sector = (ulong)(_firstSector + pending.Start);
        switch (pending.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                Compare(sector, _driver.Data(completion.Slot)[..(pending.Count * BlkRequest.SectorBytes)], "in a read");
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                _model.Set(sector, pending.Count, pending.Tag);
                break;
            case BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES:
                _model.Set(sector, pending.Count, DiskModel.Zeros);
                break;
            case BlkRequestType.VIRTIO_BLK_T_DISCARD:
                _model.Set(sector, pending.Count, DiskModel.Anything);
                break;
        }

        _busy.AsSpan(pending.Start, pending.Count).Clear();
        pending = default;
        PendingCount--;
        Volatile.Write(ref _completedCount, _completedCount + 1);
    }

    private void Compare(ulong sector, ReadOnlySpan<byte> read, string where)
    {
        long wrong = _model.FirstDifference(sector, read);
        if (wrong >= 0)
        {
            throw Wrong($"Sector {wrong} does not hold what was written last, {where} of {read.Length} bytes at {sector}.");
        }
    }

    private string DescribePending() =>
        string.Join(", ", _pending.Where(pending => pending.Tag != 0).Select(pending => $"{pending.Type} of {pending.Count} sectors at {_firstSector + pending.Start}"));

    private WorkloadException Wrong(string what) => new($"{what} (seed {_seed}, after {CompletedCount} requests that were right)");

    // Tag 0: none.
    private readonly record struct Pending(ulong Tag, BlkRequestType Type, int Start, int Count);
}
