using System.CommandLine;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Bench;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks.Streaming;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>The options of <c>vblkflow exchange</c>: a file or a stream to a guest and one back, over a disk.</summary>
internal sealed class ExchangeCommand
{
    /// <summary>The subcommand's name.</summary>
    public const string Name = "exchange";

    private const string Description = "Takes a file to a guest and its output back, or stdin and stdout, over a disk that needs no file system.";

    private readonly Option<string?> _input = new("--input") { HelpName = "FILE", Description = "What the guest reads, from sector 0 on." };

    private readonly Option<string?> _output = new("--output")
    {
        HelpName = "FILE",
        Description = "What the guest's output becomes. Written when it is complete, and only then.",
    };

    private readonly Option<bool> _stream = new("--stream")
    {
        Description = "Instead of files: stdin to the guest, and what it writes to stdout, while it runs.",
    };

    private readonly Option<ulong?> _inputSectors = new("--input-sectors")
    {
        HelpName = "N",
        Description = "Sectors of 512 bytes for the input, behind which the output begins. Default: what it takes, in steps of 8",
    };

    private readonly Option<ulong?> _outputSize = new("--output-size")
    {
        HelpName = "SIZE",
        Description = "Most bytes of output. Default: up to a --status-sector that is given, or 1G",
        CustomParser = result => BenchText.ParseSize(result),
    };

    private readonly Option<ulong?> _statusSector = new("--status-sector")
    {
        HelpName = "N",
        Description = "Where the guest finds the layout and says that it is done. Default: 8 sectors before the end of the disk",
    };

    private readonly Option<ulong> _ringSize = new("--ring-size")
    {
        HelpName = "SIZE",
        Description = "With --stream: bytes on their way in each direction, a multiple of 4096. Default: 1M",
        DefaultValueFactory = _ => SectorRingLayout.DefaultBytes,
        CustomParser = BenchText.ParseSize,
    };

    private readonly Option<string?> _socketPath = new("--socket-path")
    {
        HelpName = "PATH",
        Description = $"Listen on this unix socket. Default: {DaemonOptions.DefaultSocketPath}",
    };

    private readonly Option<string?> _socketMode = new("--socket-mode")
    {
        HelpName = SocketKeys.SocketMode.Form,
        Description = $"{SocketKeys.SocketMode.Meaning} Default: 0600",
    };

    private readonly Option<int?> _fd = new("--fd")
    {
        HelpName = "N",
        Description = "Use this inherited descriptor: a unix socket, listening or connected.",
    };

    private readonly Option<bool> _once = new("--once")
    {
        Description = "End when the front-end leaves, with exit code 4 if the guest was not done. Default: wait for the next one",
    };

    private readonly Option<TimeSpan> _linger = new("--linger")
    {
        HelpName = "TIME",
        Description = "When the guest is done, wait until its front-end leaves, or until it has made no request for so long. Default: 2s",
        DefaultValueFactory = _ => new ExchangeSettings().Linger,
        CustomParser = BenchText.ParseTime,
    };

    private readonly Option<bool> _noLock = new("--no-lock") { Description = "Do not lock the input against writers." };

    private readonly Option<string> _ioEngine = new("--io-engine")
    {
        HelpName = "auto|io_uring|threads",
        Description = "How to do I/O. auto takes threads where io_uring is refused.",
        DefaultValueFactory = _ => "auto",
    };

    private readonly Option<string> _logLevel = new("--log-level")
    {
        HelpName = "trace|debug|information|warning|error|critical|none",
        Description = "What to log, to stderr.",
        DefaultValueFactory = _ => "warning",
    };

    private ExchangeCommand()
    {
        _ioEngine.AcceptOnlyFromAmong("auto", "io_uring", "threads");
        _logLevel.AcceptOnlyFromAmong([.. Enum.GetNames<LogLevel>().Select(name => name.ToLowerInvariant())]);
        Command = new Command(Name, Description)
        {
            _input, _output, _stream, _inputSectors, _outputSize, _statusSector, _ringSize, _once, _linger, _socketPath, _socketMode, _fd, _noLock, _ioEngine, _logLevel,
        };
        Command.SetAction(RunAsync);
    }

    private Command Command { get; }

    /// <summary>The whole subcommand, with what it does.</summary>
    public static Command Create() => new ExchangeCommand().Command;

    /// <summary>Its name for the help of the program.</summary>
    public static Command CreateStub() => new(Name, Description);

    /// <summary>Reads a command line, for tests.</summary>
    internal static (ExchangeSettings? Settings, IReadOnlyList<string> Errors) Parse(params string[] arguments)
    {
        var exchange = new ExchangeCommand();
        ParseResult result = exchange.Command.Parse(arguments);
        string[] errors = [.. result.Errors.Select(error => error.Message)];
        if (errors.Length == 0 && exchange.Complaint(result) is { } complaint)
        {
            errors = [complaint];
        }

        return (errors.Length == 0 ? exchange.Read(result) : null, errors);
    }

    private static bool IsGiven(ParseResult result, Option option) => result.GetResult(option) is { Implicit: false };

    private async Task<int> RunAsync(ParseResult result, CancellationToken _)
    {
        if (Complaint(result) is { } complaint)
        {
            await Console.Error.WriteLineAsync($"vblkflow: {complaint}");
            await Console.Error.WriteLineAsync($"'vblkflow {Name} --help' lists the options.");
            return ExitCode.Usage;
        }

        return await ExchangeRun.RunAsync(Read(result));
    }

    private ExchangeSettings Read(ParseResult result) => new()
    {
        InputPath = result.GetValue(_input),
        OutputPath = result.GetValue(_output),
        InputSectors = result.GetValue(_inputSectors),
        OutputBytes = result.GetValue(_outputSize),
        StatusSector = result.GetValue(_statusSector),
        RingBytes = result.GetValue(_ringSize),
        Lock = !result.GetValue(_noLock),
        SocketPath = IsGiven(result, _fd) ? null : result.GetValue(_socketPath) ?? DaemonOptions.DefaultSocketPath,
        SocketMode = ModeOf(result)!.SocketMode,
        SocketDescriptor = result.GetValue(_fd),
        Once = result.GetValue(_once),
        Linger = result.GetValue(_linger),
        Engine = result.GetValue(_ioEngine) switch
        {
            "io_uring" => EngineChoice.IoUring,
            "threads" => EngineChoice.Threads,
            _ => EngineChoice.Auto,
        },
        LogLevel = Enum.Parse<LogLevel>(result.GetValue(_logLevel)!, ignoreCase: true),
    };

    private DiskSpec? ModeOf(ParseResult result) =>
        result.GetValue(_socketMode) is { } mode ? SocketKeys.SocketMode.Set(new DiskSpec(), mode) : new DiskSpec();

    // Values that do not go together, or are out of range.
    private string? Complaint(ParseResult result)
    {
        bool isStream = result.GetValue(_stream);
        Option? ofFiles = new Option[] { _input, _output, _inputSectors, _outputSize, _statusSector, _noLock }.FirstOrDefault(option => IsGiven(result, option));
        ulong ring = result.GetValue(_ringSize);
        return 0 switch
        {
            _ when isStream && ofFiles is not null => $"--stream is for stdin and stdout, and {ofFiles.Name} for files: give one of them.",
            _ when !isStream && (string.IsNullOrEmpty(result.GetValue(_input)) || string.IsNullOrEmpty(result.GetValue(_output))) =>
                "exchange wants --input FILE and --output FILE, or --stream.",
            _ when !isStream && IsGiven(result, _ringSize) => "--ring-size goes with --stream.",
            _ when ring is 0 or > SectorRingLayout.MaxBytes || ring % SectorRingLayout.GranularityBytes != 0 =>
                $"--ring-size takes a multiple of {SectorRingLayout.GranularityBytes}, at most 4G.",
            _ when IsGiven(result, _socketPath) && IsGiven(result, _fd) => "--socket-path and --fd exclude each other: give one of them.",
            _ when IsGiven(result, _socketMode) && IsGiven(result, _fd) => "--socket-mode and --fd exclude each other: give one of them.",
            _ when result.GetValue(_socketPath) is "" => "--socket-path takes a path.",
            _ when result.GetValue(_fd) < 0 => "--fd takes the number of an inherited descriptor, 0 or more.",
            _ when ModeOf(result) is null => $"--socket-mode takes {SocketKeys.SocketMode.Takes}, not '{result.GetValue(_socketMode)}'.",
            _ => null,
        };
    }
}
