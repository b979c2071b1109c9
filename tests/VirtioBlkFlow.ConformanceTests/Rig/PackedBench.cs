using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>A packed ring by hand: lists put together slot by slot, used descriptors looked at as they stand there.</summary>
internal sealed class PackedBench : IDisposable
{
    /// <summary>What a driver of a packed ring takes; by <see cref="Options"/>.</summary>
    public const VirtioFeatures Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_F_RING_PACKED
        | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;

    /// <summary>The id of every descriptor but a list's last: it means nothing there.</summary>
    public const ushort IdOfNothing = 0xdead;

    private int _nextAvailable;
    private bool _availableWrap = true;
    private int _nextUsed;
    private bool _usedWrap = true;

    /// <summary>Places a ring, and starts it unless told otherwise.</summary>
    public PackedBench(FrontendSession session, int queueSize, bool start = true)
    {
        Queue = new FrontendQueue(session.Memory, 0, queueSize, session.Negotiation.RingFeatures);
        Request = new RequestPlace(session.Memory, Queue);
        if (start)
        {
            Queue.Start(session.Frontend);
        }
    }

    public FrontendQueue Queue { get; }

    public RawPackedRing Raw => Queue.PackedRing.Raw;

    /// <summary>Buffers for one request; sent by <see cref="Send"/>, not by its own ring.</summary>
    public RequestPlace Request { get; }

    /// <summary>Slot of the next used descriptor.</summary>
    public int NextUsed => _nextUsed;

    /// <summary>The device's wrap counter there.</summary>
    public bool UsedWrap => _usedWrap;

    /// <summary>A session of packed rings that a test places itself.</summary>
    public static FrontendOptions Options(VirtioFeatures features = Features, int queueCount = 0) => new()
    {
        QueueCount = queueCount,
        Negotiation = new NegotiationOptions { Features = features },
        Driver = new BlkDriverOptions { QueueDepth = 32 },
    };

    /// <summary>Buffers as a list: linked, with an id in the last descriptor only.</summary>
    public static PackedSlot[] List(ushort id, params DriverBuffer[] buffers) =>
    [
        .. buffers.Select((buffer, i) => new PackedSlot(
            buffer.GuestAddress,
            buffer.LengthBytes,
            i == buffers.Length - 1 ? id : IdOfNothing,
            (ushort)((i == buffers.Length - 1 ? 0 : RawPackedRing.VIRTQ_DESC_F_NEXT) | (buffer.DeviceWritable ? RawPackedRing.VIRTQ_DESC_F_WRITE : 0)))),
    ];

    /// <summary>Makes a list available, the first descriptor's flags last.</summary>
    public void Add(params PackedSlot[] list)
    {
        int first = _nextAvailable;
        ushort firstFlags = 0;
        for (int i = 0; i < list.Length; i++)
        {
            ushort flags = (ushort)(list[i].Flags | (_availableWrap ? RawPackedRing.VIRTQ_DESC_F_AVAIL : RawPackedRing.VIRTQ_DESC_F_USED));
            if (i == 0)
            {
                firstFlags = flags;
                Raw.WriteAllButFlags(first, list[i]);
            }
            else
            {
                Raw.WriteSlot(_nextAvailable, list[i] with { Flags = flags });
            }

            Advance(ref _nextAvailable, ref _availableWrap, 1);
        }

        Raw.WriteFlags(first, firstFlags);
    }

    /// <summary>The same, and a kick, whether the device wants it or not.</summary>
    public void Send(params PackedSlot[] list)
    {
        Add(list);
        Queue.Kick.Signal();
    }

    /// <summary>Waits for the next used descriptor, and goes on behind its list.</summary>
    /// <param name="listLength">Slots of the list that comes back.</param>
    public PackedSlot TakeUsed(int listLength)
    {
        int slot = _nextUsed;
        Await.Until(IsUsed, $"slot {slot} is used");
        Advance(ref _nextUsed, ref _usedWrap, listLength);
        return Raw.ReadSlot(slot);
    }

    /// <summary>Whether the next used descriptor is there. Both flags are the device's wrap counter then.</summary>
    public bool IsUsed() => (Raw.ReadFlags(_nextUsed) & RawPackedRing.AvailableAndUsed) == (_usedWrap ? RawPackedRing.AvailableAndUsed : 0);

    /// <summary>All slots as they are.</summary>
    public PackedSlot[] Slots() => [.. Enumerable.Range(0, Raw.QueueSize).Select(Raw.ReadSlot)];

    public void Dispose() => Queue.Dispose();

    private void Advance(ref int offset, ref bool wrap, int slots)
    {
        offset += slots;
        if (offset >= Raw.QueueSize)
        {
            offset -= Raw.QueueSize;
            wrap = !wrap;
        }
    }
}
