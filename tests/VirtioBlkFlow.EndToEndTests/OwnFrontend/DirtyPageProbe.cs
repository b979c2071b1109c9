using System.Runtime.InteropServices;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>How the ring is logged.</summary>
internal sealed record ProbeOptions(bool Packed, bool EventIndex)
{
    /// <summary>VHOST_F_LOG_ALL.</summary>
    public bool LogAll { get; init; } = true;

    /// <summary>VHOST_VRING_F_LOG.</summary>
    public bool LogRing { get; init; } = true;

    /// <summary>The ring's log address is another than its own, as the protocol allows.</summary>
    public bool LogElsewhere { get; init; }
}

/// <summary>
/// Looks at one request with nothing beside it. The queue is stopped before and after, and the guest writes nothing meanwhile: so each byte
/// that changes was written by the device or by the kernel for it, and each mark is this request's.
/// </summary>
internal sealed class DirtyPageProbe : IDisposable
{
    public const ulong RegionBytes = 1 << 20;

    private const int QueueSize = 1024;

    // Rings of 1024 entries have several pages: elements begin in the middle one, event words and index are elsewhere.
    private const int StartEntry = 600;

    private const int DeadlineMs = 20_000;

    private readonly ProbeOptions _options;
    private readonly VhostUserFrontend _frontend;
    private readonly DirtyLog _log;
    private readonly FrontendQueue _queue;
    private readonly ulong _ringLogAddress;

    public DirtyPageProbe(string socketPath, ProbeOptions options)
    {
        _options = options;
        // Two regions that touch, each a file of its own, and one far away.
        Memory = new SharedMemory(
            new SharedRegionOptions(0, RegionBytes), new SharedRegionOptions(RegionBytes, RegionBytes), new SharedRegionOptions(1ul << 32, RegionBytes));
        _log = DirtyLog.For(Memory);
        _frontend = VhostUserFrontend.Connect(socketPath);
        Negotiation negotiation = Negotiation.Run(_frontend, new NegotiationOptions
        {
            Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC
                | (options.Packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0)
                | (options.EventIndex ? VirtioFeatures.VIRTIO_RING_F_EVENT_IDX : 0)
                | (options.LogAll ? (VirtioFeatures)ProtocolLimits.VHOST_F_LOG_ALL : 0),
        });
        negotiation.SendMemory(_frontend, Memory);
        Assert.Equal(0ul, _frontend.SetLogBase(_log.Area, _log.Handle));
        _queue = new FrontendQueue(Memory, 0, QueueSize, negotiation.RingFeatures, new DriverRingOptions
        {
            IndirectEntries = 8,
            StartIndex = StartEntry,
            StartOffset = StartEntry,
        });
        negotiation.SendDriverOk(_frontend);
        _ringLogAddress = options.LogElsewhere ? AllocatePages(4) : _queue.Ring.DeviceAreaAddress;
    }

    public SharedMemory Memory { get; }

    /// <summary>Status of the last request.</summary>
    public BlkStatus Status { get; private set; }

    /// <summary>Pages for buffers, shared with nothing else.</summary>
    public ulong AllocatePages(int count) => Memory.Regions[0].Allocate((ulong)count * DirtyLog.PageBytes, DirtyLog.PageBytes);

    public DriverBuffer Header(BlkRequestType type, ulong sector)
    {
        ulong address = AllocatePages(1);
        MemoryMarshal.Write(Memory.Span(address, 8), (ulong)type);
        MemoryMarshal.Write(Memory.Span(address + 8, 8), sector);
        return DriverBuffer.Readable(address, BlkRequest.HeaderBytes);
    }

    /// <summary>Has the device serve one request and says what is wrong with its marks; nothing if none is.</summary>
    /// <param name="chain">Header first, status last.</param>
    /// <param name="indirect">Whether to put it into a table.</param>
    /// <param name="written">The ranges that are written, status apart.</param>
    public List<string> FindFaults(DriverBuffer[] chain, bool indirect, (ulong Address, ulong LengthBytes)[] written)
    {
        DriverBuffer last = chain[^1];
        ulong statusAddress = last.GuestAddress + last.LengthBytes - 1;
        foreach (DriverBuffer buffer in chain.Where(buffer => buffer.DeviceWritable))
        {
            Fill(buffer.GuestAddress, buffer.LengthBytes);
        }

        DriverRing ring = _queue.Ring;
        uint position = ring.BaseAfterCrash;
        Assert.True(indirect ? ring.TryAddIndirect(chain, out _) : ring.TryAdd(chain, out _));
        ring.Publish();
        byte[][] before = [.. Memory.Regions.Select(region => Memory.Span(region.GuestAddress, (int)region.LengthBytes).ToArray())];
        Assert.Empty(_log.FetchAndClear());
        _queue.Start(_frontend, nextAvailable: position, address: _queue.Address() with
        {
            Flags = _options.LogRing ? VringAddress.LogEnabled : 0,
            Log = _options.LogRing ? _ringLogAddress : 0,
        });
        _queue.Kick.Signal();
        Assert.True(SpinWait.SpinUntil(() => ring.HasUsed, DeadlineMs), "The request does not come back.");
        HashSet<ulong> marked = [.. _log.FetchAndClear()];
        HashSet<ulong> markedBeforeUse = [.. marked];
        _queue.Stop(_frontend);
        marked.UnionWith(_log.FetchAndClear());
        HashSet<ulong> changed = ChangedPages(before);
        Assert.True(ring.TryTakeUsed(out _));
        Status = (BlkStatus)Memory.Span(statusAddress, 1)[0];

        HashSet<ulong> data =
            [.. DirtyLog.PagesOf(statusAddress, 1), .. written.SelectMany(range => DirtyLog.PagesOf(range.Address, range.LengthBytes))];
        HashSet<ulong> ringPages = [.. RingPages(position, _ringLogAddress)];
        HashSet<ulong> eventPages = [.. EventPages(_ringLogAddress)];
        HashSet<ulong> trueRingPages = [.. RingPages(position, ring.DeviceAreaAddress), .. EventPages(ring.DeviceAreaAddress)];
        List<string> faults = [];
        Report("written, and not marked when the request was used", data.Except(markedBeforeUse));
        Report("changed, and not marked", changed.Except(marked).Except(_options.LogRing && !_options.LogElsewhere ? [] : trueRingPages));
        Report("changed, and not foreseen by the test", changed.Except(data).Except(trueRingPages));
        Report("of the ring, and not marked", _options.LogRing ? ringPages.Except(marked) : []);
        Report("marked, and not written", marked.Except(data).Except(_options.LogRing ? ringPages.Concat(eventPages) : []));
        return faults;

        void Report(string what, IEnumerable<ulong> pages)
        {
            if (pages.Any())
            {
                faults.Add($"{what}: {string.Join(' ', pages.Order().Select(page => $"0x{page:x}"))}");
            }
        }
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _queue.Dispose();
        _log.Dispose();
        Memory.Dispose();
    }

    // A buffer may straddle two regions.
    private void Fill(ulong address, uint lengthBytes)
    {
        for (uint i = 0; i < lengthBytes; i++)
        {
            Memory.Span(address + i, 1)[0] = 0xa5;
        }
    }

    private HashSet<ulong> ChangedPages(byte[][] before)
    {
        HashSet<ulong> changed = [];
        for (int i = 0; i < before.Length; i++)
        {
            ulong start = Memory.Regions[i].GuestAddress;
            for (int offset = 0; offset < before[i].Length; offset += DirtyLog.PageBytes)
            {
                if (!Memory.Span(start + (ulong)offset, DirtyLog.PageBytes).SequenceEqual(before[i].AsSpan(offset, DirtyLog.PageBytes)))
                {
                    changed.Add((start + (ulong)offset) / DirtyLog.PageBytes);
                }
            }
        }

        return changed;
    }

    // The used element and used.idx; of a packed ring the used descriptor, whose true address counts (VIRTIO 1.4, "The Virtqueue Used Ring").
    private IEnumerable<ulong> RingPages(uint position, ulong usedRing) => _options.Packed
        ? DirtyLog.PagesOf(_queue.Ring.DescriptorAreaAddress + ((position & 0x7fff) * 16), 16)
        : DirtyLog.PagesOf(usedRing + 2, 2).Concat(DirtyLog.PagesOf(usedRing + 4 + (position % QueueSize * 8), 8));

    // What may be written or not, as the device goes to sleep or does not: avail_event or used.flags, or the device event area. The log
    // address of a packed ring is marked besides the true one.
    private IEnumerable<ulong> EventPages(ulong deviceArea) => _options.Packed
        ? DirtyLog.PagesOf(deviceArea, 4).Concat(DirtyLog.PagesOf(_queue.Ring.DeviceAreaAddress, 4))
        : DirtyLog.PagesOf(_options.EventIndex ? deviceArea + 4 + (QueueSize * 8) : deviceArea, 2);
}
