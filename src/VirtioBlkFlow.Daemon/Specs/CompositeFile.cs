namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>What a composite disk is made of: <c>{ "parts": [ { "start": SECTOR, "disk": "KIND:WHAT", KEY: VALUE } ], "sectors": N }</c>.</summary>
internal sealed class CompositeFile
{
    private const string PartsName = "parts";
    private const string SectorsName = "sectors";
    private const string StartName = "start";

    // File offsets are signed in Linux, and a sector has 512 bytes.
    private const ulong MostSectors = long.MaxValue / 512;

    private readonly List<(ulong Start, DiskSpec Disk)> _parts = [];

    private CompositeFile()
    {
    }

    /// <summary>What is where, in sectors of 512 bytes.</summary>
    public IReadOnlyList<(ulong Start, DiskSpec Disk)> Parts => _parts;

    /// <summary>Sectors in all; null to end with the last part.</summary>
    public ulong? SectorCount { get; private set; }

    /// <exception cref="SpecException">It is wrong; the message begins with file and line.</exception>
    /// <exception cref="StartupException">It cannot be read.</exception>
    public static CompositeFile Read(string path)
    {
        var file = new CompositeFile();
        ConfigReader.ReadFile(path, file.ReadAll);
        return file._parts.Count > 0 ? file : throw new SpecException($"{path}: a composite disk has parts: \"{PartsName}\": [ {{ \"{StartName}\": 0, \"disk\": \"file:disk.img\" }} ].");
    }

    private void ReadAll(ref ConfigReader reader)
    {
        reader.EnterObject("a composite disk");
        while (reader.NextName() is { } name)
        {
            switch (name.Key)
            {
                case PartsName:
                    reader.EnterArray(PartsName);
                    while (reader.NextElement())
                    {
                        ReadPart(ref reader);
                    }

                    break;
                case SectorsName:
                    SectorCount = SectorOf(reader.ReadValue(name));
                    break;
                default:
                    throw new SpecException($"{name.Origin}: there is no '{name.Key}' in a composite disk. Names are: {PartsName}, {SectorsName}.");
            }
        }
    }

    private void ReadPart(ref ConfigReader reader)
    {
        (SpecEntry disk, List<SpecEntry> entries) = reader.ReadDisk("a part");
        SpecEntry[] starts = [.. entries.Where(entry => entry.Key == StartName)];
        if (starts.Length == 0)
        {
            throw new SpecException($"{disk.Origin}: this part does not say where it begins. Give it \"{StartName}\": SECTOR.");
        }

        _parts.Add((SectorOf(starts[0]), new SpecReader(new DiskSpec()).ReadPart(disk, entries.Except(starts))));
    }

    private static ulong SectorOf(SpecEntry entry) => ValueText.TryParseCount(entry.Value!, out ulong sector) && sector <= MostSectors
        ? sector
        : throw new SpecException($"{entry.Origin}: {entry.Key} takes a number of sectors of 512 bytes, not '{entry.Value}'.");
}
