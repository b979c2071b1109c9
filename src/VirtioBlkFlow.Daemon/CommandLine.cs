using System.CommandLine;
using System.CommandLine.Parsing;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;

namespace VirtioBlkFlow.Daemon;

/// <summary>
/// The options of the program. --socket-path, --fd, --print-capabilities, --blk-file and --read-only are as QEMU's document wants them
/// (vhost-user.rst, "Backend program conventions"). What can be said about a disk is an option too, and then the default for all disks.
/// </summary>
internal sealed class CommandLine
{
    private readonly Option<string?> _socketPath = new("--socket-path")
    {
        HelpName = "PATH",
        Description = $"Listen on this unix socket. Default: {DaemonOptions.DefaultSocketPath}",
    };

    private readonly Option<string?> _socketFolder = new("--socket-dir")
    {
        HelpName = "DIR",
        Description = "Listen on sockets in this directory, DIR/ID.sock for each disk.",
    };

    private readonly Option<int?> _fd = new("--fd")
    {
        HelpName = "N",
        Description = "Use this inherited descriptor: a unix socket, listening or connected.",
    };

    private readonly Option<string?> _blkFile = new("--blk-file")
    {
        HelpName = "PATH",
        Description = $"The raw image to serve. Default: {DaemonOptions.DefaultImagePath}, made sparse with 1 GiB if it is not there",
    };

    private readonly Option<string[]> _disk = new("--disk")
    {
        HelpName = SpecReader.DiskForm,
        Description = "Serve this disk. Repeatable; kinds and keys are below.",
        Arity = ArgumentArity.OneOrMore,
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string[]> _slot = new("-s")
    {
        HelpName = SlotText.Form,
        Description = "Serve this image, in the words of device models; the socket is DIR/SLOT.sock in --socket-dir. Repeatable.",
        Arity = ArgumentArity.OneOrMore,
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string?> _config = new("--config")
    {
        HelpName = "FILE",
        Description = "Serve the disks of this JSON file.",
    };

    private readonly Option<bool> _readOnly = new("--read-only") { Description = "Serve read-only." };

    private readonly Option<bool> _direct = new("--direct") { Description = FileKind.Direct.Meaning };

    private readonly Option<bool> _noLock = new("--no-lock") { Description = "Do not lock images against other writers." };

    private readonly Option<string[]> _feature = new("--feature")
    {
        HelpName = "NAME=on|off",
        Description = "Hide a feature, or insist on it: discard, event-idx, flush, mq, ... Repeatable.",
        Arity = ArgumentArity.OneOrMore,
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string?> _zoned = new("--zoned")
    {
        HelpName = "zone-size=SIZE,...",
        Description = "Give the image zones, as a host-managed zoned disk has; the manual has the rest of the value.",
    };

    private readonly Option<string> _ioEngine = new("--io-engine")
    {
        HelpName = "auto|io_uring|threads",
        Description = "How to do I/O. auto takes threads where io_uring is refused.",
        DefaultValueFactory = _ => "auto",
    };

    private readonly Option<bool> _poll = new("--poll") { Description = "Never sleep: lowest latency, a whole core for each queue." };

    private readonly Option<bool> _noPoll = new("--no-poll") { Description = "Never spin before sleeping: least CPU." };

    private readonly Option<bool> _registerMemory = new("--register-memory") { Description = QueueKeys.RegisterMemory.Meaning };

    private readonly Option<int?> _reactors = new("--reactors")
    {
        HelpName = "N",
        Description = "Serve all queues of all disks with so many threads. Default: one for each queue",
    };

    private readonly Option<bool> _lint = new("--lint") { Description = DeviceKeys.Lint.Meaning };

    private readonly Option<string?> _control = new("--control")
    {
        HelpName = "PATH",
        Description = "Answer HTTP on this unix socket: status, disks, where latency comes from, metrics.",
    };

    private readonly Option<string> _logLevel = new("--log-level")
    {
        HelpName = "trace|debug|information|warning|error|critical|none",
        Description = "What to log, to stderr.",
        DefaultValueFactory = _ => "warning",
    };

    // Keys that are options under their own name, and what they are unless given.
    private readonly List<(SpecKey Key, Option<string?> Option)> _keyOptions =
    [
        OptionOf(SocketKeys.SocketMode, "0600"),
        OptionOf(DeviceKeys.Cache, "writethrough"),
        OptionOf(DeviceKeys.Serial, null),
        OptionOf(DeviceKeys.QueueCount, $"{BlkDeviceOptions.DefaultQueueCount}"),
        OptionOf(DeviceKeys.Parallelism, $"{BlkDeviceOptions.DefaultParallelism}"),
        OptionOf(DeviceKeys.SegMax, $"{BlkDeviceOptions.DefaultSegMax}"),
        OptionOf(DeviceKeys.SizeMax, null),
        OptionOf(DeviceKeys.DiscardMax, DefaultSegments),
        OptionOf(DeviceKeys.WriteZeroesMax, DefaultSegments),
        OptionOf(DeviceKeys.SecureEraseMax, DefaultSegments),
        OptionOf(QueueKeys.Merge, "on"),
        OptionOf(QueueKeys.CallModeration, "off"),
        OptionOf(QueueKeys.Processors, "any"),
        OptionOf(DeviceKeys.StageLatency, "on"),
    ];

    // Keys that are options without a value, and the value that these stand for.
    private readonly List<(Option<bool> Option, SpecKey Key, string Value)> _switches;

    public CommandLine()
    {
        _switches =
        [
            (_readOnly, StackKeys.ReadOnly, "on"), (_direct, FileKind.Direct, "on"), (_noLock, FileKind.Lock, "off"), (_lint, DeviceKeys.Lint, "on"),
            (_poll, QueueKeys.Poll, "always"), (_noPoll, QueueKeys.Poll, "never"), (_registerMemory, QueueKeys.RegisterMemory, "on"),
        ];
        _ioEngine.AcceptOnlyFromAmong("auto", "io_uring", "threads");
        _logLevel.AcceptOnlyFromAmong([.. Enum.GetNames<LogLevel>().Select(name => name.ToLowerInvariant())]);
        _fd.Validators.Add(RequireDescriptor);
        _reactors.Validators.Add(RequireReactors);
        Root = new RootCommand("Serves disks to virtual machines: a vhost-user-blk back-end.")
        {
            _socketPath, _socketFolder, _fd, _blkFile, _disk, _slot, _config, _readOnly, _direct, _noLock,
        };
        _keyOptions.ForEach(option => Root.Add(option.Option));
        foreach (Option option in new Option[] { _feature, _zoned, _ioEngine, _poll, _noPoll, _registerMemory, _reactors, _lint, _control, _logLevel })
        {
            Root.Add(option);
        }

        // Handled before anything is parsed; here for --help.
        Root.Add(new Option<bool>(Capabilities.OptionName) { Description = "Print what this back-end can do, as JSON, and exit." });
        HelpText.AddTo(Root);
        Root.Validators.Add(result => RejectPair(result, _socketPath, _fd));
        Root.Validators.Add(result => RejectPair(result, _socketPath, _socketFolder));
        Root.Validators.Add(result => RejectPair(result, _socketFolder, _fd));
        Root.Validators.Add(result => RejectPair(result, KeyOption(SocketKeys.SocketMode), _fd));
        Root.Validators.Add(result => RejectPair(result, _poll, _noPoll));
    }

    public RootCommand Root { get; }

    private static string DefaultSegments => $"{BlkDeviceOptions.DefaultSegments.MaxSectors},{BlkDeviceOptions.DefaultSegments.MaxSegments}";

    /// <summary>Reads the options out of a command line that the library has no objection to.</summary>
    /// <exception cref="SpecException">A disk is specified wrongly.</exception>
    /// <exception cref="StartupException">The configuration cannot be read.</exception>
    public DaemonOptions Read(ParseResult result)
    {
        ConfigFile? config = result.GetValue(_config) is { } path ? ConfigFile.Read(path) : null;
        DiskSpec defaults = ReadDefaults(result);
        var reader = new SpecReader(defaults);
        List<DiskSpec> disks = [];
        if (result.GetValue(_blkFile) is { } image)
        {
            disks.Add(reader.Read($"--blk-file '{image}'", DiskKinds.File, image, []));
        }

        disks.AddRange(TextsOf(result, _disk).Select(reader.ReadDisk));
        disks.AddRange(TextsOf(result, _slot).Select(text => SlotText.Read(reader, text)));
        disks.AddRange(config?.Disks(defaults) ?? []);
        bool makesDefaultImage = disks.Count == 0;
        if (makesDefaultImage)
        {
            disks.Add(reader.Read("the default image", DiskKinds.File, DaemonOptions.DefaultImagePath, []));
        }

        return new DaemonOptions
        {
            Disks = DiskSet.Complete(disks, PlacesOf(result, config)),
            Reactors = result.GetValue(_reactors) is { } count ? SharedReactors.Of(count, defaults, disks) : null,
            MakesDefaultImage = makesDefaultImage,
            Engine = result.GetValue(_ioEngine) switch
            {
                "io_uring" => EngineChoice.IoUring,
                "threads" => EngineChoice.Threads,
                _ => EngineChoice.Auto,
            },
            ControlPath = result.GetValue(_control),
            LogLevel = Enum.Parse<LogLevel>(result.GetValue(_logLevel)!, ignoreCase: true),
        };
    }

    private static Option<string?> OptionOf(string name, SpecKey key, string? defaultText)
    {
        var option = new Option<string?>(name) { HelpName = key.Form, Description = key.Meaning };
        if (defaultText is not null)
        {
            option.DefaultValueFactory = _ => defaultText;
        }

        return option;
    }

    private static (SpecKey Key, Option<string?> Option) OptionOf(SpecKey key, string? defaultText) => (key, OptionOf($"--{key.Name}", key, defaultText));

    private static string[] TextsOf(ParseResult result, Option<string[]> option) => result.GetValue(option) ?? [];

    private static bool IsGiven(SymbolResult result, Option option) => result.GetResult(option) is { Implicit: false };

    private Option<string?> KeyOption(SpecKey key) => _keyOptions.First(option => option.Key == key).Option;

    private DiskSpec ReadDefaults(ParseResult result)
    {
        var defaults = new DiskSpec();
        foreach ((SpecKey key, Option<string?> option) in _keyOptions)
        {
            if (IsGiven(result.RootCommandResult, option))
            {
                defaults = SpecReader.Apply(defaults, key, new SpecEntry(option.Name, result.GetValue(option), option.Name));
            }
        }

        foreach (string choice in TextsOf(result, _feature))
        {
            defaults = ApplyFeature(defaults, choice);
        }

        if (result.GetValue(_zoned) is { } zones)
        {
            defaults = ZoneKeys.TrySet(defaults, zones) ?? throw new SpecException($"--zoned takes {ZoneKeys.OptionForm}, not '{zones}'.");
        }

        foreach ((Option<bool> option, SpecKey key, string value) in _switches)
        {
            if (result.GetValue(option))
            {
                defaults = key.Set(defaults, value)!;
            }
        }

        return defaults;
    }

    // The last of a name wins.
    private static DiskSpec ApplyFeature(DiskSpec defaults, string choice)
    {
        string[] parts = choice.Split('=');
        if (parts.Length != 2 || parts[1] is not ("on" or "off"))
        {
            throw new SpecException($"--feature takes NAME=on or NAME=off, not '{choice}'.");
        }

        return SpecReader.ApplyDefault(defaults, new SpecEntry(DeviceKeys.FeaturePrefix + parts[0], parts[1], "--feature"));
    }

    private SocketPlaces PlacesOf(ParseResult result, ConfigFile? config)
    {
        string? folder = result.GetValue(_socketFolder);
        if (config?.SocketFolder is { } other)
        {
            folder = folder is null ? other.Value : throw new SpecException($"{other.Origin}: {other.Key} is given, and --socket-dir too: give one of them.");
        }

        return new SocketPlaces(result.GetValue(_socketPath), result.GetValue(_fd), folder);
    }

    private static void RequireDescriptor(OptionResult result)
    {
        // A value that is no number has its own error.
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, out int value) && value < 0)
        {
            result.AddError("--fd takes the number of an inherited descriptor, 0 or more.");
        }
    }

    private static void RequireReactors(OptionResult result)
    {
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, out int value) && (value < 1 || value > ReactorPool.MaxCount))
        {
            result.AddError($"--reactors takes 1 to {ReactorPool.MaxCount}.");
        }
    }

    private static void RejectPair(CommandResult result, Option one, Option other)
    {
        if (IsGiven(result, one) && IsGiven(result, other))
        {
            result.AddError($"{one.Name} and {other.Name} exclude each other: give one of them.");
        }
    }
}
