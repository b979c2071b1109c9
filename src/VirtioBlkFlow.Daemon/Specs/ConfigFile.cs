namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// Many disks in a JSON file, with the keys of --disk: <c>{ "socket-dir": DIR, "defaults": { KEY: VALUE }, "disks": [ { "disk": "KIND:WHAT", KEY: VALUE } ] }</c>.
/// Comments and trailing commas are allowed. Whatever is wrong is named with its line.
/// </summary>
internal sealed class ConfigFile
{
    /// <summary>A file that works.</summary>
    public const string Example =
        """
        {
          "socket-dir": "/run/vm",              // the sockets are system.sock and data.sock in it
          "defaults": { "num-queues": 4 },
          "disks": [
            { "disk": "file:/var/lib/vm/system.img", "id": "system", "ro": true },
            { "disk": "file:/var/lib/vm/data.img", "id": "data", "cache": "writeback", "feature.discard": false },
          ]
        }
        """;

    private const string DisksName = "disks";
    private const string DefaultsName = "defaults";
    private const string FolderName = "socket-dir";

    private readonly List<(SpecEntry Disk, List<SpecEntry> Entries)> _disks = [];
    private readonly List<SpecEntry> _defaults = [];

    private ConfigFile()
    {
    }

    /// <summary>Where the sockets are; null if the file does not say.</summary>
    public SpecEntry? SocketFolder { get; private set; }

    /// <exception cref="SpecException">It is wrong.</exception>
    /// <exception cref="StartupException">It cannot be read.</exception>
    public static ConfigFile Read(string path)
    {
        var config = new ConfigFile();
        ConfigReader.ReadFile(path, config.ReadAll);
        return config.Checked(path);
    }

    /// <exception cref="SpecException">It is wrong.</exception>
    public static ConfigFile Parse(string path, ReadOnlySpan<byte> text)
    {
        var config = new ConfigFile();
        ConfigReader.Read(path, text, config.ReadAll);
        return config.Checked(path);
    }

    /// <summary>The disks, each with its own keys over the file's defaults over those of the command line.</summary>
    /// <exception cref="SpecException">Keys or values are wrong.</exception>
    public IEnumerable<DiskSpec> Disks(DiskSpec defaults)
    {
        foreach (SpecEntry entry in _defaults)
        {
            defaults = SpecReader.ApplyDefault(defaults, entry);
        }

        var reader = new SpecReader(defaults);
        return _disks.Select(disk => reader.Read(disk.Disk.Origin, disk.Disk.Value!, disk.Entries));
    }

    private void ReadAll(ref ConfigReader reader)
    {
        reader.EnterObject("the configuration");
        while (reader.NextName() is { } name)
        {
            switch (name.Key)
            {
                case DisksName:
                    reader.EnterArray(DisksName);
                    while (reader.NextElement())
                    {
                        _disks.Add(reader.ReadDisk("a disk"));
                    }

                    break;
                case DefaultsName:
                    reader.EnterObject(DefaultsName);
                    while (reader.NextName() is { } key)
                    {
                        _defaults.Add(reader.ReadValue(key));
                    }

                    break;
                case FolderName:
                    SocketFolder = reader.ReadValue(name);
                    break;
                default:
                    throw new SpecException($"{name.Origin}: there is no '{name.Key}' in a configuration. Names are: {DisksName}, {DefaultsName}, {FolderName}.");
            }
        }
    }

    private ConfigFile Checked(string path) => _disks.Count > 0
        ? this
        : throw new SpecException($"{path}: there is no disk in it. It takes \"{DisksName}\": [ {{ \"disk\": \"file:disk.img\" }} ].");
}
