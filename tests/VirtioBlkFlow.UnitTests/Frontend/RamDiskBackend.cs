using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using GuestMemoryRegion = VirtioBlkFlow.Virtio.GuestMemoryRegion;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>
/// The simplest device behind a session: a disk that is an array, one thread per queue, no pipeline and no io_uring. It is what the
/// front-end is tried against. The session's thread takes a queue's lock where the real device would post a command.
/// </summary>
internal sealed class RamDiskBackend(int queueCount, int capacitySectors) : IVhostUserBackend
{
    public const string Serial = "ram-disk-serial";

    // Longer than any test, so that a lost kick shows as a timeout of the driver.
    private const int PatienceMs = 60_000;

    private readonly Queue?[] _queues = new Queue?[queueCount];

    public byte[] Disk { get; } = new byte[capacitySectors * BlkRequest.SectorBytes];

    public BlkLimits Limits { get; } = new((ulong)capacitySectors, 512, false)
    {
        Discard = new SegmentLimits(128, 8),
        WriteZeroes = new SegmentLimits(128, 8),
    };

    /// <summary>The front-end that is connected, if one is.</summary>
    public IFrontendNotifications? Attachment { get; private set; }

    public ulong OfferedFeatures =>
        (ulong)(VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC)
        | (ulong)(BlkFeatures.VIRTIO_BLK_F_FLUSH | BlkFeatures.VIRTIO_BLK_F_DISCARD | BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES | BlkFeatures.VIRTIO_BLK_F_MQ);

    public int QueueCount => queueCount;

    public void Attached(IFrontendNotifications frontend) => Attachment = frontend;

    public bool TrySetFeatures(ulong features) => true;

    public void ReadConfig(uint offset, Span<byte> destination)
    {
        Span<byte> space = stackalloc byte[512];
        space.Clear();
        MemoryMarshal.Write(space, new BlkConfig
        {
            Capacity = Limits.CapacitySectors,
            NumQueues = (ushort)queueCount,
            MaxDiscardSectors = Limits.Discard.MaxSectors,
            MaxDiscardSeg = Limits.Discard.MaxSegments,
            MaxWriteZeroesSectors = Limits.WriteZeroes.MaxSectors,
            MaxWriteZeroesSeg = Limits.WriteZeroes.MaxSegments,
        });
        space.Slice((int)offset, destination.Length).CopyTo(destination);
    }

    public ConfigWriteOutcome WriteConfig(uint offset, ReadOnlySpan<byte> data, uint flags) => ConfigWriteOutcome.NotWritable;

    public void StartQueue(int index, in QueueSetup setup) => _queues[index] = new Queue(this, setup);

    public ushort StopQueue(int index)
    {
        ushort next = _queues[index]!.Stop();
        _queues[index] = null;
        return next;
    }

    public void ReplaceKick(int index, SafeFileHandle? kickDescriptor) => throw new NotSupportedException();

    public void ReplaceCall(int index, SafeFileHandle? callDescriptor) => _queues[index]!.ReplaceCall(callDescriptor);

    public void ReplaceError(int index, SafeFileHandle? errorDescriptor)
    {
    }

    public void ReplaceMemory(GuestMemoryTable table, ReadOnlySpan<QueueRings> runningQueues)
    {
        foreach (QueueRings rings in runningQueues)
        {
            _queues[rings.QueueIndex]!.ReplaceMemory(table, rings);
        }
    }

    public ulong InflightBytesFor(int queueCount, int queueSize, ulong features) => 0;

    public void SetDirtyLog(DirtyLogMapping? log, ReadOnlySpan<LoggedUsedRing> loggedUsedRings) => throw new NotSupportedException();

    public byte[] SaveState() => [];

    public bool TryLoadState(ReadOnlySpan<byte> state) => state.IsEmpty;

    public void Reset()
    {
    }

    public void Detached() => Attachment = null;

    private static GuestMemory Convert(GuestMemoryTable table) =>
        new(table.Regions.Select(region => new GuestMemoryRegion(region.GuestAddress, region.LengthBytes, region.HostAddress)));

    private static RingAddresses Convert(QueueRings rings) => new(rings.DescriptorTable, rings.AvailableRing, rings.UsedRing);

    private unsafe uint Execute(in DescriptorChain chain)
    {
        if (!BlkRequest.TryParse(in chain, out BlkRequest request, out _))
        {
            return request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_IOERR, 0);
        }

        int start = (int)(request.Sector * BlkRequest.SectorBytes);
        BlkStatus status;
        switch (request.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                status = Limits.CheckTransfer(request.Sector, request.DataInBytes);
                return status == BlkStatus.VIRTIO_BLK_S_OK
                    ? request.Reply.Finish(status, (uint)Iovec.Scatter(Disk.AsSpan(start, (int)request.DataInBytes), request.DataIn, request.DataInCount))
                    : request.Reply.Finish(status, 0);
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                status = Limits.CheckTransfer(request.Sector, request.DataOutBytes);
                if (status == BlkStatus.VIRTIO_BLK_S_OK)
                {
                    Iovec.Gather(request.DataOut, request.DataOutCount, Disk.AsSpan(start, (int)request.DataOutBytes));
                }

                return request.Reply.Finish(status, 0);
            case BlkRequestType.VIRTIO_BLK_T_FLUSH:
                return request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_OK, 0);
            case BlkRequestType.VIRTIO_BLK_T_GET_ID:
                byte[] id = new byte[Math.Min(20, request.DataInBytes)];
                Encoding.ASCII.GetBytes(Serial).AsSpan(0, Math.Min(id.Length, Serial.Length)).CopyTo(id);
                return request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_OK, (uint)Iovec.Scatter(id, request.DataIn, request.DataInCount));
            case BlkRequestType.VIRTIO_BLK_T_DISCARD or BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES:
                var segments = new BlkSegment[Math.Min(BlkLimits.MaxSegments, request.DataOutBytes / BlkSegment.SizeBytes)];
                Iovec.Gather(request.DataOut, request.DataOutCount, MemoryMarshal.AsBytes(segments.AsSpan()));
                status = Limits.CheckSegments(request.Type, request.DataOutBytes, segments);
                foreach (BlkSegment segment in status == BlkStatus.VIRTIO_BLK_S_OK ? segments : [])
                {
                    Disk.AsSpan((int)segment.Sector * BlkRequest.SectorBytes, (int)segment.SectorCount * BlkRequest.SectorBytes).Clear();
                }

                return request.Reply.Finish(status, 0);
            default:
                return request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_UNSUPP, 0);
        }
    }

    private sealed class Queue
    {
        private readonly RamDiskBackend _backend;
        private readonly Virtqueue _ring;
        private readonly EventDescriptor _kick;
        private readonly Thread _thread;
        private readonly Lock _turn = new();
        private EventDescriptor? _call;
        private volatile bool _stop;

        public Queue(RamDiskBackend backend, in QueueSetup setup)
        {
            _backend = backend;
            _ring = Virtqueue.Create(new VirtqueueSetup
            {
                QueueSize = setup.Rings.Size,
                Addresses = Convert(setup.Rings),
                Memory = Convert(setup.Memory),
                Features = (VirtioFeatures)setup.Features,
                Position = new RingPosition(setup.NextAvailable, setup.NextUsed),
            });
            _kick = new EventDescriptor(setup.Kick!);
            _call = setup.Call is null ? null : new EventDescriptor(setup.Call);
            _thread = new Thread(Run) { Name = $"ram-disk-queue-{setup.Rings.QueueIndex}" };
            _thread.Start();
        }

        public ushort Stop()
        {
            _stop = true;
            _kick.Signal();
            _thread.Join();
            ushort next = _ring.Position.NextAvailable;
            _ring.Dispose();
            return next;
        }

        public void ReplaceCall(SafeFileHandle? call)
        {
            lock (_turn)
            {
                _call = call is null ? null : new EventDescriptor(call);
                _call?.Signal();
            }
        }

        public void ReplaceMemory(GuestMemoryTable table, QueueRings rings)
        {
            lock (_turn)
            {
                _ring.ReplaceMemory(Convert(table), Convert(rings));
            }
        }

        private void Run()
        {
            while (!_stop)
            {
                bool more;
                lock (_turn)
                {
                    Turn();
                    more = _ring.RequestKicks();
                }

                if (!more && _kick.Wait(Deadline.In(PatienceMs)))
                {
                    _kick.Take();
                }
            }
        }

        private void Turn()
        {
            _ring.SuppressKicks();
            int used = 0;
            while (_ring.TryPop(out DescriptorChain chain) == PopOutcome.Popped)
            {
                _ring.AddUsed(chain.Slot, _backend.Execute(in chain), 0);
                used++;
            }

            if (used > 0 && _ring.PublishUsed())
            {
                _call?.Signal();
            }
        }
    }
}
