using System.Runtime.CompilerServices;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// What a queue has done since its device was made. Written by the queue's thread alone, each counter whole and only ever growing; read by
/// whoever takes a copy, in which two counters may be a few requests apart.
/// </summary>
internal sealed class QueueCounters
{
    /// <summary>Where requests are counted whose type has no number below, or that could not be parsed.</summary>
    public const byte OtherType = 31;

    private const int StatusCount = 8;

    private readonly ulong[] _requests = new ulong[OtherType + 1];
    private readonly ulong[] _errors = new ulong[StatusCount];

    private ulong _bytesRead;
    private ulong _bytesWritten;
    private ulong _batches;
    private ulong _bursts;
    private ulong _kicks;
    private ulong _calls;
    private uint _othersInBurst;

    /// <summary>The number under which requests of a type are counted: that of the specification, as far as it is small.</summary>
    public static byte NumberOf(BlkRequestType type) => (byte)Math.Min((uint)type, OtherType);

    /// <summary>A batch was popped.</summary>
    public void CountBatch() => _batches++;

    /// <summary>The driver has kicked; kicks in quick succession may be seen as one.</summary>
    public void CountKick() => _kicks++;

    /// <summary>
    /// Whether a request is a read that succeeded, as most are: those are counted by the burst, and all that one of them costs is this look
    /// and an addition.
    /// </summary>
    public static bool IsPlainRead(in RequestSlot slot) =>
        (slot.TypeNumber | (int)slot.Status) == ((int)BlkRequestType.VIRTIO_BLK_T_IN | (int)BlkStatus.VIRTIO_BLK_S_OK);

    /// <summary>A request that is no plain read is returned to the driver, with the burst at hand.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public void CountOther(in RequestSlot slot)
    {
        _othersInBurst++;
        _requests[slot.TypeNumber]++;
        if (slot.Status != BlkStatus.VIRTIO_BLK_S_OK)
        {
            _errors[Math.Min((int)slot.Status, StatusCount - 1)]++;
        }
        else if (slot.TypeNumber is (byte)BlkRequestType.VIRTIO_BLK_T_OUT or (byte)BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND)
        {
            _bytesWritten += slot.Io.LengthBytes;
        }
    }

    /// <summary>A burst was published.</summary>
    /// <param name="requests">Requests in it.</param>
    /// <param name="readBytes">Bytes that its plain reads have read.</param>
    /// <param name="called">Whether the driver was called.</param>
    public void CountBurst(int requests, ulong readBytes, bool called)
    {
        _bursts++;
        _calls += called ? 1u : 0;
        _requests[(int)BlkRequestType.VIRTIO_BLK_T_IN] += (uint)requests - _othersInBurst;
        _bytesRead += readBytes;
        _othersInBurst = 0;
    }

    /// <summary>The driver was called for bursts that were published before.</summary>
    public void CountLateCall() => _calls++;

    /// <summary>Copies all. From any thread.</summary>
    public QueueCounts Copy() => new(CopyOf(_requests), CopyOf(_errors))
    {
        BytesRead = Volatile.Read(ref _bytesRead),
        BytesWritten = Volatile.Read(ref _bytesWritten),
        Batches = Volatile.Read(ref _batches),
        Bursts = Volatile.Read(ref _bursts),
        Kicks = Volatile.Read(ref _kicks),
        Calls = Volatile.Read(ref _calls),
    };

    private static ulong[] CopyOf(ulong[] counters)
    {
        ulong[] copy = new ulong[counters.Length];
        for (int i = 0; i < copy.Length; i++)
        {
            copy[i] = Volatile.Read(ref counters[i]);
        }

        return copy;
    }
}
