using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>
/// Random reads, writes, flushes and zeroing on a stretch of the disk, as many in flight as the driver can have, each checked when it comes
/// back. Requests in flight never overlap, so what each must see is certain. Used by one thread.
/// </summary>
internal sealed class VerifiedTraffic(BlkDriver driver, ShadowDisk shadow, ulong firstSector, ulong sectorCount, int seed)
{
    private const int DeadlineMs = 20_000;

    private readonly Random _random = new(seed);
    private readonly Dictionary<ulong, Pending> _pending = [];
    private readonly bool[] _busy = new bool[sectorCount];
    private ulong _nextTag;

    /// <summary>Requests that came back as they should. Other threads may look.</summary>
    public int CompletedCount => Volatile.Read(ref _completedCount);

    private int _completedCount;

    /// <summary>Runs a number of requests, and all of them come back.</summary>
    public void Run(int requestCount)
    {
        ulong end = _nextTag + (ulong)requestCount;
        RunWhile(() => _nextTag < end);
    }

    /// <summary>Runs as long as told, then waits for what is in flight.</summary>
    public void RunWhile(Func<bool> goOn)
    {
        while (true)
        {
            while (goOn() && TrySubmit())
            {
            }

            if (_pending.Count == 0)
            {
                return;
            }

            driver.Kick();
            Assert.True(
                driver.WaitForCompletion(Deadline.In(DeadlineMs)),
                $"{_pending.Count} requests did not come back within {DeadlineMs} ms, after {CompletedCount} that did (seed {seed}).");
            CompleteAll();
        }
    }

    /// <summary>Waits, on another thread than the one that runs it, until more has come back than when it was called.</summary>
    public void WaitForProgress()
    {
        int before = CompletedCount;
        Assert.True(SpinWait.SpinUntil(() => CompletedCount != before, DeadlineMs), $"The load stands still, after {before} requests (seed {seed}).");
    }

    /// <summary>
    /// Runs until the front-end is cut off, by another thread, at any moment: then nothing comes back any more. Returns when told to.
    /// </summary>
    public void RunUntilCutOff(CancellationToken cutOff)
    {
        while (!cutOff.IsCancellationRequested)
        {
            while (TrySubmit())
            {
            }

            driver.Kick();
            // Short, for the end of it is not signalled.
            if (driver.WaitForCompletion(Deadline.In(5)))
            {
                CompleteAll();
            }
        }
    }

    /// <summary>
    /// After a cut: every sector of a write in flight is old or new; what it is now, is certain from now on. Reads in flight do not matter.
    /// </summary>
    /// <param name="survivor">A driver on a connection that lives.</param>
    public void Settle(BlkDriver survivor)
    {
        foreach (Pending pending in _pending.Values)
        {
            if (pending.Written is not null)
            {
                Settle(survivor, pending.Sector, pending.Written);
            }
        }

        _pending.Clear();
        Array.Clear(_busy);
    }

    /// <summary>Reads the whole stretch and compares.</summary>
    public void VerifyAll(BlkDriver by)
    {
        byte[] read = new byte[by.MaxTransferBytes];
        ulong step = (ulong)(read.Length / BlkRequest.SectorBytes);
        for (ulong sector = firstSector; sector < firstSector + sectorCount; sector += step)
        {
            int lengthBytes = (int)(Math.Min(step, firstSector + sectorCount - sector) * BlkRequest.SectorBytes);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, by.Read(sector, read.AsSpan(0, lengthBytes)));
            AssertSame(shadow.At(sector, lengthBytes), read.AsSpan(0, lengthBytes), sector);
        }
    }

    private void Settle(BlkDriver survivor, ulong firstOfWrite, byte[] written)
    {
        byte[] now = new byte[written.Length];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, survivor.Read(firstOfWrite, now));
        for (int offset = 0; offset < now.Length; offset += BlkRequest.SectorBytes)
        {
            ulong sector = firstOfWrite + (ulong)(offset / BlkRequest.SectorBytes);
            Span<byte> old = shadow.At(sector, BlkRequest.SectorBytes);
            ReadOnlySpan<byte> there = now.AsSpan(offset, BlkRequest.SectorBytes);
            Assert.True(
                there.SequenceEqual(old) || there.SequenceEqual(written.AsSpan(offset, BlkRequest.SectorBytes)),
                $"Sector {sector} is neither what it was nor what was being written (seed {seed}).");
            there.CopyTo(old);
        }
    }

    private bool TrySubmit()
    {
        int slot = driver.NextSlot;
        if (slot < 0)
        {
            return false;
        }

        int kind = _random.Next(32);
        if (kind == 0)
        {
            return Submit(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0, 0, new Pending(0, 0, null));
        }

        int sectors = _random.Next(1, (driver.MaxTransferBytes / BlkRequest.SectorBytes) + 1);
        // Mostly small, as guests do, and so that many fit.
        sectors = kind < 28 ? Math.Min(sectors, 8) : sectors;
        int start = _random.Next((int)sectorCount - sectors);
        if (Array.IndexOf(_busy, true, start, sectors) >= 0)
        {
            // Others are in flight here; the next round tries elsewhere.
            return false;
        }

        ulong sector = firstSector + (ulong)start;
        int lengthBytes = sectors * BlkRequest.SectorBytes;
        Array.Fill(_busy, true, start, sectors);
        switch (kind)
        {
            case 1:
                BlkSegment segment = new() { Sector = sector, SectorCount = (uint)sectors, Flags = (uint)_random.Next(2) };
                System.Runtime.InteropServices.MemoryMarshal.Write(driver.Data(slot), in segment);
                return Submit(BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES, 0, BlkSegment.SizeBytes, new Pending(sector, sectors, new byte[lengthBytes]));
            case < 16:
                byte[] data = new byte[lengthBytes];
                _random.NextBytes(data);
                data.CopyTo(driver.Data(slot));
                return Submit(BlkRequestType.VIRTIO_BLK_T_OUT, sector, (uint)lengthBytes, new Pending(sector, sectors, data));
            default:
                // So that a read that does nothing is noticed.
                driver.Data(slot)[..lengthBytes].Fill(0xa5);
                return Submit(BlkRequestType.VIRTIO_BLK_T_IN, sector, (uint)lengthBytes, new Pending(sector, sectors, null));
        }
    }

    private bool Submit(BlkRequestType type, ulong sector, uint dataBytes, Pending pending)
    {
        Assert.True(driver.TrySubmit(type, sector, dataBytes, _nextTag), "A slot was free, a descriptor was not.");
        _pending.Add(_nextTag++, pending);
        return true;
    }

    private void CompleteAll()
    {
        while (driver.TryComplete(out BlkCompletion completion))
        {
            Assert.True(_pending.Remove(completion.Tag, out Pending? pending), "A request came back twice.");
            Assert.True(
                completion.Status == BlkStatus.VIRTIO_BLK_S_OK, $"{completion.Status} for {pending.SectorCount} sectors from {pending.Sector} (seed {seed}).");
            if (pending.SectorCount > 0)
            {
                Finish(pending, completion.Slot);
            }

            Volatile.Write(ref _completedCount, _completedCount + 1);
        }
    }

    private void Finish(Pending pending, int slot)
    {
        int lengthBytes = pending.SectorCount * BlkRequest.SectorBytes;
        Span<byte> expected = shadow.At(pending.Sector, lengthBytes);
        if (pending.Written is not null)
        {
            pending.Written.CopyTo(expected);
        }
        else
        {
            AssertSame(expected, driver.Data(slot)[..lengthBytes], pending.Sector);
        }

        Array.Fill(_busy, false, (int)(pending.Sector - firstSector), pending.SectorCount);
    }

    private void AssertSame(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, ulong sector)
    {
        int same = expected.CommonPrefixLength(actual);
        Assert.True(
            same == expected.Length, $"Sector {sector + (ulong)(same / BlkRequest.SectorBytes)} does not hold what was written last (seed {seed}).");
    }

    // SectorCount 0: a flush. Written null: a read.
    private sealed record Pending(ulong Sector, int SectorCount, byte[]? Written);
}
