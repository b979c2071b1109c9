using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>
/// The device under test, as the daemon assembles it: server, session, device, file disk, behind a real socket. A round has one of its own,
/// with options drawn from the round's seed.
/// </summary>
internal sealed class FuzzTarget : IDisposable
{
    /// <summary>The hostile queue, an honest one, and one to spare.</summary>
    public const int QueueCount = 3;

    // Arbitrary: more than requests are held.
    private const int HeldBatches = 64;

    private readonly IDisk _disk;
    private readonly ReactorPool? _reactors;
    private readonly BlkDevice _device;
    private readonly VhostUserServer _server;
    private readonly Task<ServerOutcome> _serving;
    private readonly RecentLog _log = new();

    /// <summary>Opens a disk, and begins to listen.</summary>
    /// <param name="random">Draws the disk and the options.</param>
    /// <param name="sabotage">What the device does wrong; then the disk is the first one.</param>
    /// <param name="disks">Disks to draw from.</param>
    public FuzzTarget(FuzzRandom random, Sabotage sabotage, IReadOnlyList<DiskKind> disks)
    {
        DiskKind kind = disks[sabotage == Sabotage.None ? random.Below(disks.Count) : 0];
        Image = new DiskImage(random, isEmpty: kind == DiskKind.Zoned);
        FileDisk file = FileDisk.Open(new FileDiskOptions(Image.FilePath, ReadOnly: kind == DiskKind.ReadOnly));
        SabotagePlan plan = new(sabotage, file.Properties.CapacityBytes);
        Held = kind == DiskKind.Held ? new HeldDisk(file) : null;
        IDisk disk = kind == DiskKind.Zoned ? OpenZones(file, random) : Held ?? (IDisk)file;
        _disk = sabotage == Sabotage.None ? disk : new SabotagedDisk(disk, plan, Image.FilePath);
        BlkDeviceOptions options = new()
        {
            QueueCount = QueueCount,
            Serial = "fuzz",
            Engine = random.OneIn(4) || !IoEngines.IsUringAvailable(out _) ? IoEngineKind.Threads : IoEngineKind.IoUring,
            Polling = random.Pick(PollMode.Adaptive, PollMode.Never),
            // Each request that is held may hold a batch.
            Parallelism = kind == DiskKind.Held ? HeldBatches : random.Pick(1, 2, BlkDeviceOptions.DefaultParallelism),
            Cache = random.Pick(CacheMode.Writeback, CacheMode.Writeback, CacheMode.Writethrough),
            Discard = random.Pick(BlkDeviceOptions.DefaultSegments, new SegmentLimits(24, 3), new SegmentLimits(uint.MaxValue, BlkLimits.MaxSegments)),
            WriteZeroes = random.Pick(BlkDeviceOptions.DefaultSegments, new SegmentLimits(24, 3), new SegmentLimits(uint.MaxValue, BlkLimits.MaxSegments)),
            Features = Choices(random, kind, sabotage),
            // What is held is counted request by request.
            JoinAdjacent = kind != DiskKind.Held,
            CallModeration = random.OneIn(4) ? new CallModeration(random.Between(1, 2000), random.Between(2, 20)) : null,
            RegisterMemory = random.OneIn(4),
        };
        _reactors = random.OneIn(3) ? new ReactorPool([new ReactorOptions(options.Engine, options.Polling, Processor: null)], _log) : null;
        options = options with { Reactors = _reactors };
        _device = new BlkDevice(_disk, options, _log);
        IVhostUserBackend backend = sabotage == Sabotage.None ? _device : new SabotagedDevice(_device, plan);
        _server = VhostUserServer.OnListener(ListeningSocket.Listen(Image.SocketPath), backend, VhostUserSessionOptions.Default, _log);
        _serving = _server.Start();
    }

    public DiskImage Image { get; }

    /// <summary>The disk, if it is one that can be held.</summary>
    public HeldDisk? Held { get; }

    public string SocketPath => Image.SocketPath;

    /// <summary>The last lines of the device's log.</summary>
    public string RecentLog => _log.ToString();

    // The playground begins in conventional zones. Few zones can be open or active at once.
    private ZonedDisk OpenZones(FileDisk file, FuzzRandom random)
    {
        const int ZoneSectors = 64;
        int active = random.Below(4);
        ZonedDisk disk = ZonedDisk.Open(file, new ZoneGeometry
        {
            ZoneBytes = ZoneSectors * BlkRequest.SectorBytes,
            ConventionalZones = DiskImage.ConventionalSectors / ZoneSectors,
            ZoneCapacityBytes = (ulong)random.Pick(ZoneSectors, ZoneSectors - 8) * BlkRequest.SectorBytes,
            MaxOpen = active == 0 ? random.Below(3) : random.Between(0, active),
            MaxActive = active,
            MaxAppendBytes = random.Pick<uint?>(null, 0, 4 * BlkRequest.SectorBytes),
        });
        Image.FillConventional(random);
        return disk;
    }

    // A double that writes into the used ring itself knows only one kind of ring.
    private static FeatureChoices Choices(FuzzRandom random, DiskKind kind, Sabotage sabotage)
    {
        FeatureChoices choices = default(FeatureChoices)
            .With((ulong)VirtioFeatures.VIRTIO_F_IN_ORDER, on: random.OneIn(3) && sabotage == Sabotage.None)
            .With((ulong)VirtioFeatures.VIRTIO_F_RING_PACKED, on: sabotage != Sabotage.HeadTwice);
        return random.OneIn(8) && kind == DiskKind.Plain
            ? choices.With((ulong)random.Pick(BlkFeatures.VIRTIO_BLK_F_DISCARD, BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES), on: false)
            : choices;
    }

    /// <summary>Nothing a front-end does may end the server.</summary>
    public void RequireServing()
    {
        if (_serving.IsCompleted)
        {
            throw new FindingException(FindingKind.ProcessDied, $"The server has ended: {_serving.Exception?.GetBaseException()}");
        }
    }

    /// <summary>Ends the device. Not after a finding: what is stuck would be waited for.</summary>
    public void Dispose()
    {
        _server.Dispose();
        _device.Dispose();
        _reactors?.Dispose();
        _disk.Dispose();
        Image.Dispose();
    }
}
