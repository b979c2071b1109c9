using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using EventDescriptor = VirtioBlkFlow.Frontend.EventDescriptor;
using GuestMemoryRegion = VirtioBlkFlow.VhostUser.Memory.GuestMemoryRegion;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>How a request ended, as the driver sees it.</summary>
internal readonly record struct Answer(RequestArea Area, byte Status, uint UsedBytes);

/// <summary>
/// One queue of a device in this process, and the driver that uses it. Owned by one thread, but for starting and stopping.
/// </summary>
internal sealed class DriverQueue : IDisposable
{
    public const int PatienceMs = 30_000;

    private readonly BlkDevice _device;
    private readonly SharedMemory _memory;
    private readonly VirtioFeatures _features;
    private readonly Stack<RequestArea> _freeAreas = new();
    private readonly RequestArea?[] _areaOfHead;
    private readonly DriverBuffer[] _chain = new DriverBuffer[3];

    public DriverQueue(BlkDevice device, SharedMemory memory, int index, int size, VirtioFeatures features)
    {
        _device = device;
        _memory = memory;
        _features = features;
        Index = index;
        Ring = new SplitDriverRing(memory, size, features, indirectEntries: 4);
        _areaOfHead = new RequestArea[size];
        for (int i = 0; i < Math.Min(size, 64); i++)
        {
            _freeAreas.Push(new RequestArea(memory));
        }
    }

    public int Index { get; }

    public SplitDriverRing Ring { get; }

    public EventDescriptor Kick { get; } = new();

    public EventDescriptor Call { get; } = new();

    public EventDescriptor Error { get; } = new();

    public bool CanAdd => _freeAreas.Count > 0;

    public void Start(ushort nextAvailable = 0) => Start(nextAvailable, Kick.Handle, Call.Handle);

    public void Start(ushort nextAvailable, SafeFileHandle? kick, SafeFileHandle? call) => _device.StartQueue(Index, new QueueSetup
    {
        Rings = RingsAt(0),
        NextAvailable = nextAvailable,
        NextUsed = 0,
        Kick = kick,
        Call = call,
        Error = Error.Handle,
        Memory = TableOf(_memory),
        Features = (ulong)(_features | VirtioFeatures.VIRTIO_F_VERSION_1),
    });

    public ushort Stop() => _device.StopQueue(Index);

    /// <summary>The ring's place in a mapping of guest memory that is that far from ours.</summary>
    public QueueRings RingsAt(nint distance) => new()
    {
        QueueIndex = Index,
        Size = (ushort)Ring.QueueSize,
        DescriptorTable = Ring.HostAddresses.DescriptorArea + distance,
        AvailableRing = Ring.HostAddresses.DriverArea + distance,
        UsedRing = Ring.HostAddresses.DeviceArea + distance,
        UserAddresses = new VringAddress((uint)Index, 0, 0, 0, 0, 0),
    };

    public static GuestMemoryTable TableOf(SharedMemory memory, nint distance = 0) => new(
    [
        .. memory.Regions.Select(region => new GuestMemoryRegion(
            region.GuestAddress, region.LengthBytes, region.UserAddress, HostOf(region) + distance)),
    ]);

    public RequestArea TakeArea() => _freeAreas.Pop();

    /// <summary>Adds a plain request; without allocating, as it is used to measure.</summary>
    public RequestArea Add(BlkRequestType type, ulong sector, uint dataBytes)
    {
        RequestArea area = TakeArea();
        area.WriteHeader(type, sector);
        bool deviceWrites = type is BlkRequestType.VIRTIO_BLK_T_IN or BlkRequestType.VIRTIO_BLK_T_GET_ID;
        int count = 0;
        _chain[count++] = area.Header;
        if (dataBytes > 0)
        {
            _chain[count++] = new DriverBuffer(area.DataAddress, dataBytes, deviceWrites);
        }

        _chain[count++] = area.Status;
        AddChain(area, _chain.AsSpan(0, count));
        return area;
    }

    public ushort AddChain(RequestArea area, ReadOnlySpan<DriverBuffer> chain)
    {
        Assert.True(Ring.TryAdd(chain, out ushort head), "The ring is full.");
        _areaOfHead[head] = area;
        return head;
    }

    public void Publish()
    {
        if (Ring.Publish())
        {
            Kick.Signal();
        }
    }

    /// <summary>Takes an answer if there is one.</summary>
    public bool TryTake(out Answer answer)
    {
        answer = default;
        if (!Ring.TryTakeUsed(out UsedChain used))
        {
            return false;
        }

        RequestArea area = _areaOfHead[used.Head]!;
        _areaOfHead[used.Head] = null;
        _freeAreas.Push(area);
        answer = new Answer(area, area.StatusByte, used.WrittenBytes);
        return true;
    }

    /// <summary>Waits for the next answer, asleep on the call.</summary>
    public Answer Take()
    {
        Deadline deadline = Deadline.In(PatienceMs);
        Answer answer;
        while (!TryTake(out answer))
        {
            if (!Ring.RequestCalls())
            {
                Assert.True(Call.Wait(deadline), $"No call within {PatienceMs} ms, with {Ring.InFlightCount} requests in flight.");
                Call.Take();
            }
        }

        return answer;
    }

    /// <summary>Waits for the next answer by looking at the ring, for queues without a call.</summary>
    public Answer TakePolling()
    {
        Answer answer = default;
        Eventually.Holds(() => TryTake(out answer), "a request is used");
        return answer;
    }

    /// <summary>One request from start to end.</summary>
    public Answer Do(BlkRequestType type, ulong sector, uint dataBytes = 0)
    {
        Add(type, sector, dataBytes);
        Publish();
        return Take();
    }

    public void Dispose()
    {
        Kick.Dispose();
        Call.Dispose();
        Error.Dispose();
    }

    private static unsafe nint HostOf(SharedRegion region) => (nint)region.Host;
}
