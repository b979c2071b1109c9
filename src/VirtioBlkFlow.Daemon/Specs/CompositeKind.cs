using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Composite;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>A disk put together from others, as a file describes it.</summary>
internal sealed class CompositeKind : DiskKind
{
    public override string Name => "composite";

    public override string Form => "FILE.json";

    public override string Meaning =>
        "A disk of parts, with zeros between them. FILE: { \"parts\": [ { \"start\": SECTOR, \"disk\": \"KIND:WHAT\", KEY: VALUE } ], \"sectors\": N }.";

    public override string Example => "composite:/etc/vm/parts.json";

    public override IReadOnlyList<SpecKey> OwnKeys { get; } = [];

    public override string? FindFault(DiskSpec spec)
    {
        try
        {
            _ = CompositeFile.Read(spec.What);
            return null;
        }
        catch (SpecException exception)
        {
            return exception.Message;
        }
    }

    public override IDisk Open(DiskSpec spec, ILogger logger)
    {
        CompositeFile file;
        try
        {
            file = CompositeFile.Read(spec.What);
        }
        catch (Exception exception) when (exception is SpecException or StartupException)
        {
            // It was right a moment ago, when the command line was read.
            throw new DiskOpenException(exception.Message, exception);
        }

        List<CompositePart> parts = [];
        try
        {
            foreach ((ulong start, DiskSpec part) in file.Parts)
            {
                DiskSpec wanted = part with { ReadOnly = part.ReadOnly || spec.ReadOnly };
                // Nothing of a part does I/O on its own: any engine will do.
                parts.Add(new CompositePart(start, DiskStack.Open(wanted, new SharedParts([]), IoEngineKind.Threads, logger).Top));
            }
        }
        catch
        {
            parts.ForEach(part => part.Disk.Dispose());
            throw;
        }

        return CompositeDisk.Open(new CompositeDiskOptions(parts, file.SectorCount));
    }
}
