using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Inflight;
using VirtioBlkFlow.Virtio.Ring;
using InflightArea = VirtioBlkFlow.Frontend.Protocol.InflightArea;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>
/// What a back-end that is killed now would leave: guest memory and the record of queue 0's requests in flight, copied. The back-end itself
/// lives on and knows nothing of it. A test may change the copy before it shows it to a successor.
/// </summary>
internal sealed unsafe class CrashSnapshot : IDisposable
{
    private readonly DriverRing _ring;
    private readonly NegotiationOptions _negotiation;
    private readonly InflightArea _area;
    private readonly SharedRegion _record;
    private readonly SharedMemory _memory;
    private readonly EventDescriptor _kick = new();
    private readonly EventDescriptor _call = new();
    private VhostUserFrontend? _frontend;

    /// <summary>Copies.</summary>
    /// <param name="session">Its queue 0 was started with this area.</param>
    /// <param name="area">The area, and <paramref name="file"/> its file.</param>
    /// <param name="file">Stays the caller's.</param>
    public CrashSnapshot(FrontendSession session, InflightArea area, SafeFileHandle file)
    {
        _ring = session.Queues[0].Ring;
        _negotiation = session.Options.Negotiation;
        _area = area with { Offset = 0 };
        _record = new SharedRegion(new SharedRegionOptions(0, area.LengthBytes));
        Assert.Equal((int)area.LengthBytes, RandomAccess.Read(file, Record, (long)area.Offset));
        int memoryBytes = (int)session.Memory.Regions[0].LengthBytes;
        _memory = SharedMemory.OfSize((ulong)memoryBytes);
        session.Memory.Span(0, memoryBytes).CopyTo(_memory.Span(0, memoryBytes));
        RingAddresses places = new(Place(_ring.DescriptorAreaAddress), Place(_ring.DriverAreaAddress), Place(_ring.DeviceAreaAddress));
        Split = _ring is SplitDriverRing ? new RawSplitRing(_ring.QueueSize, places) : null!;
        Packed = _ring is PackedDriverRing
            ? new RawPackedRing(_ring.QueueSize, new PackedRingPlaces(places.DescriptorArea, places.DriverArea, places.DeviceArea))
            : null!;
    }

    /// <summary>The record, of all queues.</summary>
    public Span<byte> Record => new(_record.Host, (int)_record.LengthBytes);

    /// <summary>The copied ring, if it is split.</summary>
    public RawSplitRing Split { get; }

    /// <summary>The copied ring, if it is packed.</summary>
    public RawPackedRing Packed { get; }

    /// <summary>The record of a split queue: what stands before the entries.</summary>
    public ref SplitInflightHeader SplitHeader => ref MemoryMarshal.AsRef<SplitInflightHeader>(Record);

    /// <summary>Its entries, by head.</summary>
    public Span<SplitInflightEntry> SplitEntries => MemoryMarshal.Cast<byte, SplitInflightEntry>(Record[16..])[.._ring.QueueSize];

    /// <summary>The record of a packed queue.</summary>
    public ref PackedInflightHeader PackedHeader => ref MemoryMarshal.AsRef<PackedInflightHeader>(Record);

    /// <summary>Its entries.</summary>
    public Span<PackedInflightEntry> PackedEntries => MemoryMarshal.Cast<byte, PackedInflightEntry>(Record[32..])[.._ring.QueueSize];

    /// <summary>Heads that the record of a split queue says are in flight.</summary>
    public int[] InFlight()
    {
        SplitInflightEntry[] entries = SplitEntries.ToArray();
        return [.. Enumerable.Range(0, entries.Length).Where(head => entries[head].Inflight != 0)];
    }

    /// <summary>Shows all of it to a successor, which starts the queue.</summary>
    /// <param name="successor">Another device.</param>
    /// <param name="base">What SET_VRING_BASE says.</param>
    /// <returns>The acknowledgement of the message that starts it.</returns>
    public ulong Resume(ServedDevice successor, uint @base)
    {
        _frontend = successor.Connect();
        Negotiation negotiation = Negotiation.Run(_frontend, _negotiation);
        Assert.Equal(0ul, _frontend.SetInflightFd(_area, _record.Handle, needReply: true));
        negotiation.SendMemory(_frontend, _memory);
        Assert.Equal(0ul, _frontend.SetVringNum(0, (uint)_ring.QueueSize, needReply: true));
        Assert.Equal(0ul, _frontend.SetVringBase(0, @base, needReply: true));
        VringAddress address = new(
            0, 0, _memory.UserAddressOf(_ring.DescriptorAreaAddress), _memory.UserAddressOf(_ring.DeviceAreaAddress), _memory.UserAddressOf(_ring.DriverAreaAddress), 0);
        Assert.Equal(0ul, _frontend.SetVringAddr(address, needReply: true));
        Assert.Equal(0ul, _frontend.SetVringCall(0, _call, needReply: true));
        Assert.Equal(0ul, _frontend.SetVringKick(0, _kick, needReply: true));
        _kick.Signal();
        return _frontend.SetVringEnable(0, enable: true, needReply: true);
    }

    /// <summary>Stops the queue of the successor; then its record rests.</summary>
    public uint Stop() => _frontend!.GetVringBase(0);

    public void Dispose()
    {
        _frontend?.Dispose();
        _kick.Dispose();
        _call.Dispose();
        _record.Dispose();
        _memory.Dispose();
    }

    private nint Place(ulong guestAddress) => (nint)_memory.Host(guestAddress, 1);
}
