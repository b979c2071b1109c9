using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Rbd;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.Disks.Zoned;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>What the operator wants of one disk: what is behind it, what its device offers, where its socket is. Immutable.</summary>
internal sealed record DiskSpec
{
    /// <summary>Where this was written, as the beginning of a message about it.</summary>
    public string Origin { get; init; } = "";

    /// <summary>Names the disk among those of the process. Empty until it has been given one.</summary>
    public string Id { get; init; } = "";

    /// <summary>What the disk is made of.</summary>
    public DiskKind Kind { get; init; } = DiskKinds.File;

    /// <summary>What keeps the sectors, in the words of its kind: the path of an image, a size.</summary>
    public string What { get; init; } = "";

    /// <summary>What it is called in a log: the path of an image, or the kind too.</summary>
    public string Label => Kind == DiskKinds.File ? What : $"{Kind}:{What}";

    public bool ReadOnly { get; init; }

    public bool Direct { get; init; }

    public bool Lock { get; init; } = true;

    /// <summary>Zones of the disk; null for none.</summary>
    public ZoneGeometry? Zones { get; init; }

    /// <summary>For a disk in memory: all but its size.</summary>
    public MemoryDiskOptions Memory { get; init; } = new(0);

    /// <summary>For a disk that keeps nothing: all but its size.</summary>
    public NullDiskOptions Null { get; init; } = new(0);

    /// <summary>For an image of a Ceph cluster: all but what it is called.</summary>
    public RbdDiskOptions Rbd { get; init; } = new("", "");

    /// <summary>For an export of an NBD server: all but where it is.</summary>
    public NbdDiskOptions Nbd { get; init; } = new();

    /// <summary>The part that is served; null for all.</summary>
    public RangeDiskOptions? Range { get; init; }

    /// <summary>Sizes of the sectors that the guest sees; null for the disk's own.</summary>
    public BlockSizes? BlockSizes { get; init; }

    /// <summary>What goes wrong on purpose.</summary>
    public IReadOnlyList<FaultRule> Faults { get; init; } = [];

    /// <summary>Where the chances of faults and delays come from; null for another one at each start.</summary>
    public int? FaultSeed { get; init; }

    /// <summary>What to do about errors; null to report them.</summary>
    public ErrorPolicyOptions? Errors { get; init; }

    /// <summary>How much is done in a second; null for no limit, or for that of the group.</summary>
    public ThrottleLimits? Throttle { get; init; }

    /// <summary>Whom the limits are shared with; null for nobody.</summary>
    public string? ThrottleGroup { get; init; }

    /// <summary>What tells of its health, and what is done about it.</summary>
    public HealthSpec Health { get; init; } = new();

    /// <summary>How it is read in the background; null for not at all.</summary>
    public RefreshSpec? Refresh { get; init; }

    /// <summary>Whether the refresh at the start writes again what it has read.</summary>
    public bool RewritesAtStart { get; init; }

    /// <summary>Serial number; null for one that fits.</summary>
    public string? Serial { get; init; }

    /// <summary>Queues, limits and features of the device. Its engine is the process's choice and not set here.</summary>
    public BlkDeviceOptions Device { get; init; } = new();

    /// <summary>Where to listen; null with <see cref="SocketDescriptor"/>, or if it has not been decided yet.</summary>
    public string? SocketPath { get; init; }

    /// <summary>Permissions of the socket file.</summary>
    public int SocketMode { get; init; } = SocketKeys.DefaultMode;

    /// <summary>An inherited socket, listening or connected.</summary>
    public int? SocketDescriptor { get; init; }

    /// <summary>Whether the first front-end is the only one.</summary>
    public bool EndsWithFrontend { get; init; }

    public DiskSpec WithMemory(Func<MemoryDiskOptions, MemoryDiskOptions> change) => this with { Memory = change(Memory) };

    public DiskSpec WithNull(Func<NullDiskOptions, NullDiskOptions> change) => this with { Null = change(Null) };

    public DiskSpec WithRbd(Func<RbdDiskOptions, RbdDiskOptions> change) => this with { Rbd = change(Rbd) };

    public DiskSpec WithNbd(Func<NbdDiskOptions, NbdDiskOptions> change) => this with { Nbd = change(Nbd) };

    public DiskSpec WithDevice(Func<BlkDeviceOptions, BlkDeviceOptions> change) => this with { Device = change(Device) };
}
