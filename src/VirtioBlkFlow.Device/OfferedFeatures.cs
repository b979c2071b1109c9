using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Virtio.Blk.BlkFeatures;
using static VirtioBlkFlow.Virtio.VirtioFeatures;

namespace VirtioBlkFlow.Device;

/// <summary>Which features a disk and the device can have, less what the operator does not want.</summary>
internal sealed class OfferedFeatures(DiskProperties disk, BlkDeviceOptions options)
{
    /// <summary>Decides.</summary>
    /// <exception cref="OfferException">A choice cannot be met.</exception>
    public ulong Choose()
    {
        (ulong on, ulong off) = options.Features;
        ulong possible = Possible();
        if ((on & ~possible) is not 0 and ulong rest)
        {
            ulong bit = rest & (0 - rest);
            throw new OfferException($"Feature {FeatureChoices.NameOf(bit)} cannot be offered: {WhyNot(bit)}");
        }

        RequireWhatCannotBeHidden(off);
        ulong offered = possible & ~off;
        // Only for who asks: completions that wait for older ones cost what out-of-order I/O gains.
        offered &= ~(ulong)VIRTIO_F_IN_ORDER | on;
        // Who cannot flush cannot be given a cache to flush (VIRTIO 1.4, "Block Device", "Device Requirements: Device Initialization").
        if ((offered & (ulong)VIRTIO_BLK_F_FLUSH) == 0)
        {
            if ((on & (ulong)VIRTIO_BLK_F_CONFIG_WCE) != 0)
            {
                throw new OfferException("Feature config-wce needs flush: leave out one of config-wce=on and flush=off.");
            }

            offered &= ~(ulong)VIRTIO_BLK_F_CONFIG_WCE;
        }

        return offered;
    }

    private ulong Possible()
    {
        BlkFeatures features = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_GEOMETRY | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_TOPOLOGY
            | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_MQ
            | If(options.SizeMax != null, VIRTIO_BLK_F_SIZE_MAX)
            | If(disk.ReadOnly, VIRTIO_BLK_F_RO)
            // What a read-only disk would only refuse is not offered there.
            | If(disk.CanDiscard && !disk.ReadOnly, VIRTIO_BLK_F_DISCARD)
            | If(disk.CanWriteZeroes && !disk.ReadOnly, VIRTIO_BLK_F_WRITE_ZEROES)
            | If(disk.CanSecureErase && !disk.ReadOnly, VIRTIO_BLK_F_SECURE_ERASE)
            | If(disk.HasLifetime, VIRTIO_BLK_F_LIFETIME)
            | If(disk.Zones != null, VIRTIO_BLK_F_ZONED);
        return (ulong)features | (ulong)(VIRTIO_F_VERSION_1 | VIRTIO_RING_F_INDIRECT_DESC | VIRTIO_RING_F_EVENT_IDX | VIRTIO_F_RING_PACKED
            | VIRTIO_F_IN_ORDER);
    }

    private void RequireWhatCannotBeHidden(ulong off)
    {
        if ((off & (ulong)VIRTIO_F_VERSION_1) != 0)
        {
            throw new OfferException("Feature version-1 cannot be hidden: only modern drivers are served.");
        }

        if (disk.ReadOnly && (off & (ulong)VIRTIO_BLK_F_RO) != 0)
        {
            throw new OfferException("Feature ro cannot be hidden while the disk is read-only: leave out --read-only.");
        }

        if (disk.Zones != null && (off & (ulong)VIRTIO_BLK_F_ZONED) != 0)
        {
            throw new OfferException("Feature zoned cannot be hidden: a driver that knows no zones could not write to the disk. Leave out --zoned.");
        }

        if (disk.LogicalBlockBytes != BlkRequest.SectorBytes && (off & (ulong)VIRTIO_BLK_F_BLK_SIZE) != 0)
        {
            throw new OfferException(
                $"Feature blk-size cannot be hidden: the disk has blocks of {disk.LogicalBlockBytes} bytes, and a driver that does not know would fail.");
        }
    }

    private string WhyNot(ulong bit) => bit switch
    {
        (ulong)VIRTIO_BLK_F_SIZE_MAX => "it needs a value. Use --size-max BYTES.",
        (ulong)VIRTIO_BLK_F_RO => "the disk can be written. Use --read-only.",
        (ulong)VIRTIO_BLK_F_DISCARD or (ulong)VIRTIO_BLK_F_WRITE_ZEROES or (ulong)VIRTIO_BLK_F_SECURE_ERASE when disk.ReadOnly =>
            "the disk is read-only. Leave out --read-only.",
        (ulong)VIRTIO_BLK_F_SECURE_ERASE => "the disk cannot erase for good. Only some block devices can; leave it out.",
        (ulong)VIRTIO_BLK_F_LIFETIME => "the disk does not tell how worn it is. Only eMMC and UFS block devices do; leave it out.",
        (ulong)VIRTIO_BLK_F_ZONED => "the disk has no zones. Use --zoned.",
        _ => "the disk or this program cannot do it. Leave it out.",
    };

    private static BlkFeatures If(bool condition, BlkFeatures feature) => condition ? feature : BlkFeatures.None;
}
