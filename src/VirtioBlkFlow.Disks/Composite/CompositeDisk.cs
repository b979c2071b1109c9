using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Composite;

/// <summary>A disk as a part of another one.</summary>
/// <param name="StartSector">Where it begins, in sectors of 512 bytes.</param>
/// <param name="Disk">What is there; all of it. A range of a disk, or a disk made read-only, is a disk too.</param>
public sealed record CompositePart(ulong StartSector, IDisk Disk);

/// <summary>What a composite disk is made of.</summary>
/// <param name="Parts">In any order; none reaches into another.</param>
/// <param name="SectorCount">Sectors of 512 bytes in all; null to end with the last part.</param>
public sealed record CompositeDiskOptions(IReadOnlyList<CompositePart> Parts, ulong? SectorCount = null);

/// <summary>
/// A disk made of others. What is between them reads as zeros; to write there, or to a part that is read-only, fails. A request that would do
/// so changes nothing at all.
/// </summary>
public sealed class CompositeDisk : IDisk
{
    private const ulong SectorBytes = 512;

    private CompositeDisk(Segment[] segments, DiskProperties properties)
    {
        Segments = segments;
        Properties = properties;
    }

    /// <inheritdoc/>
    public DiskProperties Properties { get; }

    /// <summary>The parts by where they begin.</summary>
    internal Segment[] Segments { get; }

    /// <summary>Puts disks together.</summary>
    /// <param name="options">They belong to this one from now on, also if this fails.</param>
    /// <exception cref="DiskOpenException">They do not fit together; the message says how.</exception>
    public static CompositeDisk Open(CompositeDiskOptions options)
    {
        try
        {
            Segment[] segments = [.. options.Parts.OrderBy(part => part.StartSector).Select(ToSegment)];
            return new CompositeDisk(segments, PropertiesOf(segments, options.SectorCount));
        }
        catch
        {
            foreach (CompositePart part in options.Parts)
            {
                part.Disk.Dispose();
            }

            throw;
        }
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new CompositeDiskQueue(this, engine, completions, slotCount);

    /// <inheritdoc/>
    public DiskOutcome Flush()
    {
        bool succeeded = true;
        foreach (Segment segment in Segments)
        {
            succeeded &= segment.Disk.Flush() == DiskOutcome.Done;
        }

        return succeeded ? DiskOutcome.Done : DiskOutcome.Failed;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Segment segment in Segments)
        {
            segment.Disk.Dispose();
        }
    }

    private static Segment ToSegment(CompositePart part)
    {
        DiskProperties properties = part.Disk.Properties;
        if (properties.Zones != null)
        {
            throw new DiskOpenException($"The part at sector {part.StartSector} has zones, which cannot be a part. Leave out its zones.");
        }

        if (part.StartSector > (long.MaxValue / SectorBytes) - (properties.CapacityBytes / SectorBytes))
        {
            throw new DiskOpenException($"The part at sector {part.StartSector} ends beyond what a disk can have. Give it a smaller start.");
        }

        return new Segment(part.StartSector * SectorBytes, (part.StartSector * SectorBytes) + properties.CapacityBytes, part.Disk);
    }

    private static DiskProperties PropertiesOf(Segment[] segments, ulong? sectorCount)
    {
        if (segments.Length == 0)
        {
            throw new DiskOpenException("A composite disk needs at least one part. Name one.");
        }

        ulong blockBytes = segments.Max(segment => segment.Disk.Properties.LogicalBlockBytes);
        ulong endBytes = 0;
        foreach (Segment segment in segments)
        {
            if (segment.StartBytes < endBytes)
            {
                throw new DiskOpenException(
                    $"The part at sector {segment.StartBytes / SectorBytes} begins inside the one before, which ends at sector {endBytes / SectorBytes}. Move it there.");
            }

            if (segment.StartBytes % blockBytes != 0 || segment.EndBytes % blockBytes != 0)
            {
                throw new DiskOpenException(
                    $"One of the parts has blocks of {blockBytes} bytes: start and size of the part at sector {segment.StartBytes / SectorBytes} must be multiples of {blockBytes / SectorBytes} sectors.");
            }

            endBytes = segment.EndBytes;
        }

        ulong sectors = sectorCount ?? (endBytes / SectorBytes);
        if (sectors < endBytes / SectorBytes || sectors > long.MaxValue / SectorBytes || sectors % (blockBytes / SectorBytes) != 0)
        {
            throw new DiskOpenException(
                $"A composite disk of {sectors} sectors cannot be: its parts end at sector {endBytes / SectorBytes}. Give it at least as many, in whole blocks of {blockBytes} bytes.");
        }

        DiskProperties[] writable = [.. segments.Select(segment => segment.Disk.Properties).Where(properties => !properties.ReadOnly)];
        return new DiskProperties
        {
            CapacityBytes = sectors * SectorBytes,
            LogicalBlockBytes = (uint)blockBytes,
            PhysicalBlockBytes = segments.Max(segment => segment.Disk.Properties.PhysicalBlockBytes),
            ReadOnly = writable.Length == 0,
            DiscardGranularityBytes = segments.Max(segment => segment.Disk.Properties.DiscardGranularityBytes),
            // A discard is a hint, which some of the parts may not understand; zeros must be zeros everywhere.
            CanDiscard = writable.Any(properties => properties.CanDiscard),
            CanWriteZeroes = writable.Length > 0 && writable.All(properties => properties.CanWriteZeroes),
        };
    }

    /// <summary>A part, in bytes of the whole.</summary>
    internal sealed record Segment(ulong StartBytes, ulong EndBytes, IDisk Disk);
}
