using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Virtio.Blk.BlkZoneState;

namespace VirtioBlkFlow.Disks.Zoned;

/// <summary>A zone, in bytes from its start.</summary>
internal struct Zone
{
    /// <summary>Where the next write goes: behind what was accepted, completed or not. Reads see nothing from here on.</summary>
    public ulong WritePointer;

    /// <summary>End of the furthest write that has completed: what is kept on storage.</summary>
    public ulong Written;

    public BlkZoneState State;

    /// <summary>Full because of ZONE_FINISH, whatever was written.</summary>
    public bool IsFinished;

    /// <summary>Its data is being thrown away: only reads and reports until that has ended.</summary>
    public bool IsResetting;

    /// <summary>That is one of a ZONE_RESET_ALL, and not for anyone else to go on with.</summary>
    public bool IsInResetAll;

    /// <summary>Writes that were accepted and have not ended.</summary>
    public int InFlightWrites;

    public static bool IsOpen(BlkZoneState state) => state is VIRTIO_BLK_ZS_IOPEN or VIRTIO_BLK_ZS_EOPEN;

    public static bool IsActive(BlkZoneState state) => IsOpen(state) || state == VIRTIO_BLK_ZS_CLOSED;
}
