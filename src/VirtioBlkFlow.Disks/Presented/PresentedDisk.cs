using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Disks.Presented;

/// <summary>
/// A disk that is shown with other blocks than it has. Costs nothing for a request: the queues are those of the disk underneath, and who asks
/// keeps to what is shown. Shared by all queues.
/// </summary>
public sealed class PresentedDisk : WrappingDisk
{
    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;

    private PresentedDisk(IDisk inner, DiskProperties properties)
        : base(inner) => _properties = properties;

    /// <inheritdoc/>
    public override DiskProperties Properties => _properties;

    /// <summary>Shows a disk with other blocks.</summary>
    /// <param name="inner">Belongs to this one from now on, also if this fails.</param>
    /// <param name="sizes">What to show; each is one of <see cref="BlockSizes.IsBlockSize"/>.</param>
    /// <exception cref="DiskOpenException">The disk cannot be shown like this.</exception>
    public static PresentedDisk Open(IDisk inner, BlockSizes sizes)
    {
        try
        {
            return new PresentedDisk(inner, Show(inner.Properties, sizes));
        }
        catch
        {
            inner.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override DiskResize Refresh()
    {
        DiskResize resize = Inner.Refresh();
        DiskProperties before = _properties;
        // Blocks that are larger than those underneath may leave more of the end unused.
        ulong rest = resize.NewBytes % before.LogicalBlockBytes;
        _properties = before with { CapacityBytes = resize.NewBytes - rest };
        return new DiskResize(before.CapacityBytes, resize.NewBytes - rest, resize.UnusedBytes + rest);
    }

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => Inner.OpenQueue(engine, completions, slotCount);

    private static DiskProperties Show(DiskProperties disk, BlockSizes sizes)
    {
        uint logical = sizes.LogicalBytes;
        if (sizes.PhysicalBytes < logical)
        {
            throw new DiskOpenException(
                $"A physical sector of {sizes.PhysicalBytes} bytes is smaller than a logical one of {logical}. Take {logical} or more.");
        }

        if (logical != disk.LogicalBlockBytes && disk.Zones is not null)
        {
            throw new DiskOpenException("A disk with zones keeps its blocks. Leave out the sector size, or the zones.");
        }

        if (logical < disk.LogicalBlockBytes)
        {
            throw new DiskOpenException(
                $"Sectors of {logical} bytes are smaller than those of the disk, {disk.LogicalBlockBytes} bytes. Take {disk.LogicalBlockBytes} or more.");
        }

        if (disk.CapacityBytes % logical != 0)
        {
            ulong below = disk.CapacityBytes / logical * logical;
            throw new DiskOpenException(
                $"The size of the disk, {disk.CapacityBytes} bytes, is not a multiple of its sectors of {logical} bytes. Give it {below} or {below + logical}.");
        }

        bool fits = disk.DiscardGranularityBytes % logical == 0;
        return disk with
        {
            LogicalBlockBytes = logical,
            PhysicalBlockBytes = sizes.PhysicalBytes,
            DiscardGranularityBytes = fits ? disk.DiscardGranularityBytes : 0,
        };
    }
}
