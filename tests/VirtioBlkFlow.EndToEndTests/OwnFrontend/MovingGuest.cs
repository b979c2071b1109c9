using System.Runtime.InteropServices;
using Mono.Unix.Native;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Recovery;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>What a guest's move is about.</summary>
internal sealed record MoveOptions(bool Packed)
{
    /// <summary>False: the first daemon is never told to mark what it writes.</summary>
    public bool Log { get; init; } = true;

    public bool DeviceState { get; init; }

    /// <summary>How long a request may be away before it counts as lost.</summary>
    public int PatienceMs { get; init; } = 20_000;

    public NegotiationOptions Negotiation => new()
    {
        Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | (Packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0),
        ProtocolFeatures = new NegotiationOptions().ProtocolFeatures | (DeviceState ? ProtocolFeatures.DEVICE_STATE : 0),
    };
}

/// <summary>
/// A guest under load that moves from one daemon to another, and from one memory to another: what the first daemon wrote comes along by
/// its marks alone. The second memory takes the first one's place under the very addresses the drivers use.
/// </summary>
internal sealed class MovingGuest : IDisposable
{
    private const int QueueCount = 2;
    private const int QueueDepth = 16;
    private const ulong MemoryBytes = 8 << 20;

    private readonly MoveOptions _options;
    private readonly SharedMemory _memory;
    private readonly SharedMemory _arrived;
    private readonly List<FrontendQueue> _queues = [];
    private readonly List<BlkDriver> _drivers = [];
    private readonly List<VerifiedWorkload> _workloads = [];
    private VhostUserFrontend _connection;
    private Negotiation _negotiation;

    public MovingGuest(string socketPath, MoveOptions options, int diskSectors, int seed)
    {
        _options = options;
        _memory = SharedMemory.OfSize(MemoryBytes);
        _arrived = new SharedMemory(new SharedRegionOptions(0, MemoryBytes) { UserAddress = _memory.Regions[0].UserAddress });
        (_connection, _negotiation) = Connect(socketPath, _memory);
        DiskModel[] models = [new(diskSectors), new(diskSectors)];
        for (int i = 0; i < QueueCount; i++)
        {
            _queues.Add(new FrontendQueue(_memory, i, 128, _negotiation.RingFeatures, new DriverRingOptions()));
            _drivers.Add(new BlkDriver(_memory, _queues[i], new BlkDriverOptions { QueueDepth = QueueDepth, TimeoutMs = options.PatienceMs }));
            int share = diskSectors / QueueCount;
            _workloads.Add(new VerifiedWorkload(_drivers[i], models[i], i * share, share, seed + i));
        }

        _negotiation.StartQueues(_connection, [.. _queues]);
    }

    public long CompletedCount => _workloads.Sum(workload => workload.CompletedCount);

    /// <summary>Moves while the load runs.</summary>
    /// <returns>Pages copied in each round; the last one is after the stop.</returns>
    public async Task<List<int>> MoveToAsync(string socketPath)
    {
        const int Rounds = 5;
        List<int> copied = [];
        using DirtyLog log = DirtyLog.For(_memory);
        bool isOver = false;
        Task[] loads = StartLoads(() => Volatile.Read(ref isOver));
        WaitForMore(200, loads);
        if (_options.Log)
        {
            // As QEMU does: the log, then the feature, then each ring.
            Assert.Equal(0ul, _connection.SetLogBase(log.Area, log.Handle));
            Assert.Equal(0ul, _connection.SetFeatures(_negotiation.Features | ProtocolLimits.VHOST_F_LOG_ALL, needReply: true));
            _queues.ForEach(queue => Assert.Equal(0ul, _connection.SetVringAddr(queue.Address(VringAddress.LogEnabled), needReply: true)));
        }

        Copy(0, MemoryBytes);
        for (int round = 0; round < Rounds; round++)
        {
            WaitForMore(100, loads);
            copied.Add(CopyMarked(log));
        }

        Volatile.Write(ref isOver, true);
        await Task.WhenAll(loads);
        uint[] bases = [.. _queues.Select(queue => queue.Stop(_connection))];
        byte[] state = _options.DeviceState ? DeviceState.SaveFrom(_connection) : [];
        copied.Add(CopyMarked(log));
        CopyWhatTheDriversWrote();
        _connection.Dispose();
        SwitchMemory();

        (_connection, _negotiation) = Connect(socketPath, _arrived);
        if (_options.DeviceState)
        {
            Assert.NotEmpty(state);
            DeviceState.LoadInto(_connection, state);
        }

        for (int i = 0; i < QueueCount; i++)
        {
            _queues[i].Start(_connection, nextAvailable: bases[i]);
            _queues[i].Kick.Signal();
            _queues[i].Call.Signal();
        }

        _negotiation.SendDriverOk(_connection);
        return copied;
    }

    /// <summary>Goes on for a while; then all comes back, and the disk holds what was written.</summary>
    public async Task FinishAsync()
    {
        long enough = CompletedCount + 500;
        await Task.WhenAll(_workloads.Select(workload => Task.Run(() =>
        {
            Deadline deadline = Deadline.In(_options.PatienceMs);
            workload.RunUntil(() => CompletedCount >= enough || deadline.HasPassed);
            workload.Drain(Deadline.In(_options.PatienceMs));
        })));
        if (CompletedCount < enough)
        {
            throw new WorkloadException($"The load stands still after {CompletedCount} requests.");
        }

        _workloads.ForEach(workload => workload.VerifyAll());
    }

    public void Dispose()
    {
        _connection.Dispose();
        _queues.ForEach(queue => queue.Dispose());
        _arrived.Dispose();
        _memory.Dispose();
    }

    private (VhostUserFrontend Connection, Negotiation Negotiation) Connect(string socketPath, SharedMemory memory)
    {
        VhostUserFrontend connection = VhostUserFrontend.Connect(socketPath);
        Negotiation negotiation = Negotiation.Run(connection, _options.Negotiation);
        Assert.Equal(_options.DeviceState, negotiation.ProtocolFeatures.HasFlag(ProtocolFeatures.DEVICE_STATE));
        negotiation.SendMemory(connection, memory);
        return (connection, negotiation);
    }

    private Task[] StartLoads(Func<bool> isOver) => [.. _workloads.Select(workload => Task.Run(() => workload.RunUntil(isOver)))];

    private void WaitForMore(int requests, Task[] loads)
    {
        long enough = CompletedCount + requests;
        Assert.True(
            SpinWait.SpinUntil(() => CompletedCount >= enough || loads.Any(load => load.IsCompleted), _options.PatienceMs),
            $"The load stands still after {CompletedCount} requests.");
    }

    private int CopyMarked(DirtyLog log)
    {
        IReadOnlyList<ulong> pages = log.FetchAndClear();
        foreach (ulong page in pages)
        {
            Copy(page * DirtyLog.PageBytes, DirtyLog.PageBytes);
        }

        return pages.Count;
    }

    private void Copy(ulong address, ulong lengthBytes) =>
        _memory.Span(address, (int)lengthBytes).CopyTo(_arrived.Span(address, (int)lengthBytes));

    // The guest's own writes, which the hypervisor would know from the page tables. Nothing the device wrote is among them: no used ring, no
    // used descriptor, no status byte, no data of a read.
    private void CopyWhatTheDriversWrote()
    {
        foreach (FrontendQueue queue in _queues)
        {
            DriverRing ring = queue.Ring;
            for (ulong i = 0; i < (ulong)ring.QueueSize; i++)
            {
                ulong descriptor = ring.DescriptorAreaAddress + (i * 16);
                if (ring is not PackedDriverRing packed || IsOfDriver(packed.Raw.ReadFlags((int)i)))
                {
                    Copy(descriptor, 16);
                }
            }

            Copy(ring.DriverAreaAddress, _options.Packed ? 4 : 6 + (2 * (ulong)ring.QueueSize));
        }

        foreach (BlkDriver driver in _drivers)
        {
            for (int slot = 0; slot < QueueDepth; slot++)
            {
                ulong header = driver.HeaderAddress(slot);
                Copy(header, BlkRequest.HeaderBytes);
                if (MemoryMarshal.Read<uint>(_memory.Span(header, sizeof(uint))) != (uint)BlkRequestType.VIRTIO_BLK_T_IN)
                {
                    Copy(driver.DataAddress(slot), (ulong)driver.MaxTransferBytes);
                }
            }
        }
    }

    // Available, or skipped behind a used one: the device makes AVAIL and USED the same.
    private static bool IsOfDriver(ushort flags) =>
        (flags & RawPackedRing.AvailableAndUsed) is not 0 and not RawPackedRing.AvailableAndUsed;

    private unsafe void SwitchMemory()
    {
        SharedRegion region = _memory.Regions[0];
        nint place = Syscall.mmap(
            (nint)region.Host,
            region.LengthBytes,
            MmapProts.PROT_READ | MmapProts.PROT_WRITE,
            MmapFlags.MAP_SHARED | MmapFlags.MAP_FIXED,
            (int)_arrived.Regions[0].Handle.DangerousGetHandle(),
            0);
        Assert.Equal((nint)region.Host, place);
    }
}
