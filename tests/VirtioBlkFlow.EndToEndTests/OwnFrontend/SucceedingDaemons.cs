using System.Diagnostics;
using VirtioBlkFlow.EndToEndTests.Harness;
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

/// <summary>Which daemon, front-end and load a row of kills is about.</summary>
internal sealed record SuccessionOptions
{
    public bool Packed { get; init; }

    public bool EventIndex { get; init; }

    public bool InOrder { get; init; }

    public bool Indirect { get; init; }

    public int QueueCount { get; init; } = 1;

    public int QueueDepth { get; init; } = 32;

    /// <summary>False: nothing outlives a daemon that tells the next one what was in flight.</summary>
    public bool Inflight { get; init; } = true;

    public string IoEngine { get; init; } = "io_uring";

    public PackedBaseAfterCrash PackedBase { get; init; }

    /// <summary>How long a request may be away before it counts as lost.</summary>
    public int PatienceMs { get; init; } = 20_000;

    public NegotiationOptions Negotiation => new()
    {
        Features = VirtioFeatures.VIRTIO_F_VERSION_1
            | (Packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0)
            | (EventIndex ? VirtioFeatures.VIRTIO_RING_F_EVENT_IDX : 0)
            | (InOrder ? VirtioFeatures.VIRTIO_F_IN_ORDER : 0)
            | (Indirect ? VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC : 0),
        ProtocolFeatures = new NegotiationOptions().ProtocolFeatures & ~(Inflight ? ProtocolFeatures.None : ProtocolFeatures.INFLIGHT_SHMFD),
    };
}

/// <summary>
/// A guest's disk under load, and one daemon after the other that is killed under it. Memory, rings and what the disk must hold are the
/// guest's and outlive them all. Anything lost, doubled or spoiled is an exception.
/// </summary>
internal sealed class SucceedingDaemons : IAsyncDisposable
{
    private const int Mebibytes = 16;

    // Fixed at construction.
    private readonly TestFolder _folder;
    private readonly DiskImage _image;
    private readonly SuccessionOptions _options;
    private readonly Random _random;
    private readonly SharedMemory _memory;
    private readonly RecoveringFrontend _frontend;
    private readonly List<DiskModel> _models = [];
    private readonly List<VerifiedWorkload> _workloads = [];

    // None while one has ended and the next has not begun.
    private DaemonProcess? _daemon;

    private SucceedingDaemons(TestFolder folder, DiskImage image, SuccessionOptions options, int seed, DaemonProcess first)
    {
        _folder = folder;
        _image = image;
        _options = options;
        _random = new Random(seed);
        _daemon = first;
        _memory = SharedMemory.OfSize(((ulong)options.QueueCount + 2) << 22);
        _frontend = new RecoveringFrontend(_memory, new RecoveryOptions
        {
            QueueCount = options.QueueCount,
            // Three descriptors for a request, so that chains cross the end of a packed ring in ever new places.
            QueueSize = 128,
            Ring = new DriverRingOptions
            {
                IndirectEntries = options.Indirect ? 8 : 0,
                BufferIds = BufferIds.Permuted,
                Seed = seed,
                // Ours returns each by itself; the last of a batch for all of it would look like a wrong order, and be accepted.
                AcceptInOrderBatches = false,
            },
            Negotiation = options.Negotiation,
            PackedBase = options.PackedBase,
        });
    }

    private DaemonProcess Daemon => _daemon ?? throw new InvalidOperationException("No daemon runs.");

    /// <summary>Daemons that ended before they were done with taking over.</summary>
    public int KilledWhileAttaching { get; private set; }

    public long CompletedCount => _workloads.Sum(workload => workload.CompletedCount);

    public static async Task<SucceedingDaemons> StartAsync(TestFolder folder, SuccessionOptions options, int seed)
    {
        DiskImage image = folder.CreateImage(Mebibytes);
        SucceedingDaemons daemons = new(folder, image, options, seed, await StartDaemonAsync(folder, image, options));
        daemons._frontend.Attach(VhostUserFrontend.Connect(daemons.Daemon.SocketPath));
        daemons.PrepareLoad(seed);
        return daemons;
    }

    /// <summary>
    /// Kills the daemon after a random number of requests, and lets another one take over, sometimes after one that was killed while it did.
    /// The guest goes on meanwhile: it adds requests that no daemon has seen.
    /// </summary>
    public async Task KillUnderLoadAsync()
    {
        bool isOver = false;
        Task[] loads = [.. _workloads.Select(workload => Task.Run(() => workload.RunUntil(() => Volatile.Read(ref isOver))))];
        long enough = CompletedCount + _random.Next(400);
        bool isAlive = SpinWait.SpinUntil(() => CompletedCount >= enough || loads.Any(load => load.IsFaulted), _options.PatienceMs);
        Linger(_random.Next(300));
        await Daemon.KillAsync();
        Volatile.Write(ref isOver, true);
        await Task.WhenAll(loads);
        if (!isAlive)
        {
            throw new WorkloadException($"The load stands still after {CompletedCount} requests.");
        }

        while (!await TryAttachNextAsync(killMeanwhile: _random.Next(4) == 0))
        {
            KilledWhileAttaching++;
        }

        if (_random.Next(2) == 0)
        {
            Drain();
        }
    }

    /// <summary>All requests come back, and the disk holds what was written: read through the device, and in the file.</summary>
    public async Task FinishAsync()
    {
        Drain();
        _workloads.ForEach(workload => workload.VerifyAll());
        foreach (FrontendQueue queue in _frontend.Queues)
        {
            uint @base = queue.Stop(_frontend.Connection);
            Assert.Equal(queue.Ring.Base, @base);
            (queue.Ring as PackedDriverRing)?.VerifyUntouched();
        }

        await Daemon.StopAsync();
        int share = ShareOf(_models[0]);
        for (int i = 0; i < _models.Count; i++)
        {
            byte[] stretch = _image.Read((long)i * share * BlkRequest.SectorBytes, share * BlkRequest.SectorBytes);
            Assert.Equal(-1, _models[i].FirstDifference((ulong)(i * share), stretch));
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_daemon is not null)
        {
            await _daemon.DisposeAsync();
        }

        _frontend.Dispose();
        _memory.Dispose();
    }

    private static Task<DaemonProcess> StartDaemonAsync(TestFolder folder, DiskImage image, SuccessionOptions options) =>
        // With the lock on the image: that of the dead one must be gone.
        DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = options.QueueCount, IoEngine = options.IoEngine });

    private void PrepareLoad(int seed)
    {
        BlkDriverOptions driver = new() { QueueDepth = _options.QueueDepth, UseIndirect = _options.Indirect, TimeoutMs = _options.PatienceMs };
        for (int i = 0; i < _options.QueueCount; i++)
        {
            // One for each queue, as each queue is a thread's; and each has a stretch of the disk of its own.
            DiskModel model = new((Mebibytes << 20) / BlkRequest.SectorBytes);
            int share = ShareOf(model);
            _models.Add(model);
            _workloads.Add(new VerifiedWorkload(new BlkDriver(_memory, _frontend.Queues[i], driver), model, i * share, share, seed + i));
        }
    }

    private int ShareOf(DiskModel model) => model.SectorCount / _options.QueueCount;

    private void Drain() => Task.WaitAll(_workloads.Select(workload => Task.Run(() => workload.Drain(Deadline.In(_options.PatienceMs)))));

    private async Task<bool> TryAttachNextAsync(bool killMeanwhile)
    {
        string stale = Daemon.SocketPath;
        await Daemon.DisposeAsync();
        _daemon = null;
        File.Delete(stale);
        _daemon = await StartDaemonAsync(_folder, _image, _options);
        if (!killMeanwhile)
        {
            _frontend.Attach(VhostUserFrontend.Connect(Daemon.SocketPath));
            return true;
        }

        // From the first message to some time after the last one: recovered requests are on their way then.
        int moment = _random.Next(30_000);
        Task killing = Task.Run(async () =>
        {
            Linger(moment);
            await Daemon.KillAsync();
        });
        try
        {
            _frontend.Attach(VhostUserFrontend.Connect(Daemon.SocketPath));
        }
        catch (IOException)
        {
            // It did not live to see the end of it.
        }

        await killing;
        return false;
    }

    // Finer than a timer, and nothing depends on how long it really is.
    private static void Linger(int microseconds)
    {
        long start = Stopwatch.GetTimestamp();
        SpinWait.SpinUntil(() => Stopwatch.GetElapsedTime(start).TotalMicroseconds >= microseconds);
    }
}
