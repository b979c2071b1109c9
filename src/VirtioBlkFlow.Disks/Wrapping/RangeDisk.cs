using System.Numerics;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>Which part of a disk.</summary>
/// <param name="StartSector">Its first sector, of 512 bytes.</param>
/// <param name="SectorCount">How many; null for all to the end, wherever that is.</param>
public sealed record RangeDiskOptions(ulong StartSector, ulong? SectorCount = null);

/// <summary>A part of another disk as a disk of its own. What is outside is never read, written, discarded, zeroed or erased.</summary>
public sealed class RangeDisk : WrappingDisk
{
    private const ulong SectorBytes = 512;

    private readonly ulong _startBytes;
    private readonly ulong? _wantedBytes;

    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;

    private RangeDisk(IDisk inner, RangeDiskOptions options)
        : base(inner)
    {
        _startBytes = options.StartSector * SectorBytes;
        _wantedBytes = options.SectorCount * SectorBytes;
        _properties = PropertiesOf(inner.Properties);
    }

    /// <inheritdoc/>
    public override DiskProperties Properties => _properties;

    /// <summary>Takes a part of a disk.</summary>
    /// <param name="inner">The whole; belongs to the range from now on, also if this fails.</param>
    /// <param name="options">Which part.</param>
    /// <exception cref="DiskOpenException">There is no such part, or it cannot be a disk.</exception>
    public static RangeDisk Open(IDisk inner, RangeDiskOptions options)
    {
        try
        {
            RequirePart(inner.Properties, options);
            return new RangeDisk(inner, options);
        }
        catch
        {
            inner.Dispose();
            throw;
        }
    }

    /// <summary>Looks whether the whole has another size. If it now ends inside the range, so does this disk.</summary>
    public override DiskResize Refresh()
    {
        ulong before = _properties.CapacityBytes;
        DiskResize inner = Inner.Refresh();
        _properties = PropertiesOf(Inner.Properties);
        ulong after = _properties.CapacityBytes;
        return new DiskResize(before, after, _wantedBytes == null ? inner.UnusedBytes : 0);
    }

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(this, Inner.OpenQueue(engine, completions, slotCount), completions);

    private static void RequirePart(DiskProperties whole, RangeDiskOptions options)
    {
        ulong sectors = whole.CapacityBytes / SectorBytes;
        if (whole.Zones != null)
        {
            throw new DiskOpenException("A disk with zones has no range: its zones would not fit. Leave out the range or the zones.");
        }

        if (options.SectorCount == 0)
        {
            throw new DiskOpenException("A range of 0 sectors is no disk. Give it some, or leave out the number for all to the end.");
        }

        if (options.StartSector >= sectors || options.SectorCount > sectors - options.StartSector)
        {
            string range = options.SectorCount is { } count ? $"{count} sectors from sector {options.StartSector} on" : $"from sector {options.StartSector} on";
            throw new DiskOpenException($"The range, {range}, is not inside the disk, which has {sectors} sectors of 512 bytes. Choose a smaller one, or make the disk larger.");
        }

        ulong blockSectors = whole.LogicalBlockBytes / SectorBytes;
        if (options.StartSector % blockSectors != 0 || options.SectorCount % blockSectors > 0)
        {
            throw new DiskOpenException(
                $"The disk has blocks of {whole.LogicalBlockBytes} bytes: start and length of a range must be multiples of {blockSectors} sectors.");
        }
    }

    private DiskProperties PropertiesOf(DiskProperties whole)
    {
        ulong behind = whole.CapacityBytes > _startBytes ? whole.CapacityBytes - _startBytes : 0;
        // A physical block of the whole that begins inside one of ours would be read, modified and written after all: ours are as large as
        // the start allows.
        uint startAllows = _startBytes == 0 ? uint.MaxValue : (uint)Math.Min(1UL << BitOperations.TrailingZeroCount(_startBytes), 1UL << 31);
        return whole with
        {
            CapacityBytes = Math.Min(_wantedBytes ?? ulong.MaxValue, behind),
            PhysicalBlockBytes = Math.Min(whole.PhysicalBlockBytes, startAllows),
            // What a discard gives back would begin inside one of ours: then it is as good as unknown.
            DiscardGranularityBytes = whole.DiscardGranularityBytes != 0 && _startBytes % whole.DiscardGranularityBytes == 0 ? whole.DiscardGranularityBytes : 0,
        };
    }

    private sealed unsafe class Queue(RangeDisk disk, IDiskQueue inner, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            DiskRequest moved = request;
            DiskOutcome outcome = Move(ref moved);
            if (outcome == DiskOutcome.Done)
            {
                inner.Submit(slot, in moved);
            }
            else
            {
                completions.OnCompleted(slot, outcome);
            }
        }

        public void OnIoCompleted(int slot, int result) => inner.OnIoCompleted(slot, result);

        public bool EndHeld() => inner.EndHeld();

        public void Dispose() => inner.Dispose();

        // To where it is in the whole. The caller has checked all against a capacity that may have been larger; here it is checked for good,
        // and all ranges before the first of them is moved.
        private DiskOutcome Move(ref DiskRequest request)
        {
            ulong capacityBytes = disk._properties.CapacityBytes;
            switch (request.Operation)
            {
                case DiskOperation.Flush:
                    return DiskOutcome.Done;
                case DiskOperation.Read:
                case DiskOperation.Write:
                    if (!IsInside(request.OffsetBytes, request.LengthBytes, capacityBytes))
                    {
                        return DiskOutcome.Failed;
                    }

                    request.OffsetBytes += disk._startBytes;
                    return DiskOutcome.Done;
                case DiskOperation.Discard:
                case DiskOperation.WriteZeroes:
                case DiskOperation.SecureErase:
                    foreach (ref DiskRange range in new Span<DiskRange>(request.Ranges, request.RangeCount))
                    {
                        if (!IsInside(range.OffsetBytes, range.LengthBytes, capacityBytes))
                        {
                            return DiskOutcome.Failed;
                        }
                    }

                    foreach (ref DiskRange range in new Span<DiskRange>(request.Ranges, request.RangeCount))
                    {
                        range = range with { OffsetBytes = range.OffsetBytes + disk._startBytes };
                    }

                    return DiskOutcome.Done;
                default:
                    return DiskOutcome.Unsupported;
            }
        }

        private static bool IsInside(ulong offsetBytes, ulong lengthBytes, ulong capacityBytes) =>
            offsetBytes <= capacityBytes && lengthBytes <= capacityBytes - offsetBytes;
    }
}
