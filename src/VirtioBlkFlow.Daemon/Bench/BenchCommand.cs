using System.CommandLine;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Load;

namespace VirtioBlkFlow.Daemon.Bench;

/// <summary>The options of <c>vblkflow bench</c>: a vhost-user-blk front-end that puts load on any back-end. Names follow fio where it has them.</summary>
internal sealed class BenchCommand
{
    /// <summary>The subcommand's name.</summary>
    public const string Name = "bench";

    private const string Description = "Puts load on a vhost-user-blk socket, of this program or any other, and measures it.";

    private readonly Argument<string?> _socket = new("SOCKET")
    {
        Description = "Where the back-end listens.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private readonly Option<string> _rw = new("--rw")
    {
        HelpName = "read|write|randread|randwrite|rw|randrw",
        Description = "What to do: in sequence or at random places, reads, writes or both.",
        DefaultValueFactory = _ => "randread",
    };

    private readonly Option<int> _readPercent = new("--read-percent")
    {
        HelpName = "N",
        Description = "With rw and randrw: reads in a hundred requests.",
        DefaultValueFactory = _ => 50,
    };

    private readonly Option<bool> _allowWrites = new("--allow-writes") { Description = "Needed for all that writes: what is on the disk is lost." };

    private readonly Option<BlockSizeMix?> _blockSize = new("--block-size")
    {
        HelpName = "SIZE[:WEIGHT/...]",
        Description = "Size of requests, or a mix such as 4K:70/64K:30. Default: 4K",
        CustomParser = BenchText.ParseBlockSizes,
    };

    private readonly Option<int> _queueDepth = new("--queue-depth")
    {
        HelpName = "N",
        Description = "Requests in flight on each queue; with --rate, the most.",
        DefaultValueFactory = _ => 1,
    };

    private readonly Option<int> _queues = new("--queues")
    {
        HelpName = "N",
        Description = "Queues, with a thread for each.",
        DefaultValueFactory = _ => 1,
    };

    private readonly Option<int> _queueSize = new("--queue-size")
    {
        HelpName = "N",
        Description = "Entries of each ring. Default: 128, or more where the depth needs more",
    };

    private readonly Option<string> _ring = new("--ring")
    {
        HelpName = "split|packed",
        Description = "Form of the rings.",
        DefaultValueFactory = _ => "split",
    };

    private readonly Option<bool> _noIndirect = new("--no-indirect") { Description = "Chains in the ring itself, although the back-end takes indirect tables." };

    private readonly Option<bool> _noEventIndex = new("--no-event-idx") { Description = "Suppress notifications by flags, although the back-end has EVENT_IDX." };

    private readonly Option<string> _wait = new("--wait")
    {
        HelpName = "poll|sleep",
        Description = "Look at the ring without end, which takes a core for each queue, or sleep until the back-end calls.",
        DefaultValueFactory = _ => "poll",
    };

    private readonly Option<double> _rate = new("--rate")
    {
        HelpName = "N",
        Description = "Open loop: so many requests a second on all queues together; latency counts from when a request was due.",
    };

    private readonly Option<string> _arrivals = new("--arrivals")
    {
        HelpName = "even|poisson",
        Description = "With --rate: requests at equal distances, or at random ones around the mean.",
        DefaultValueFactory = _ => "even",
    };

    private readonly Option<TimeSpan> _warmUp = new("--warm-up")
    {
        HelpName = "TIME",
        Description = "Load that is not counted, first. Default: 1s",
        DefaultValueFactory = _ => TimeSpan.FromSeconds(1),
        CustomParser = BenchText.ParseTime,
    };

    private readonly Option<TimeSpan?> _time = new("--time")
    {
        HelpName = "TIME",
        Description = "How long to count. Default: 10s, or without end with --count",
        CustomParser = result => BenchText.ParseTime(result),
    };

    private readonly Option<long?> _count = new("--count") { HelpName = "N", Description = "How many requests to count." };

    private readonly Option<ulong> _offset = new("--offset")
    {
        HelpName = "SIZE",
        Description = "Where on the disk the range to use starts. Default: 0",
        CustomParser = BenchText.ParseSize,
    };

    private readonly Option<ulong?> _size = new("--size")
    {
        HelpName = "SIZE",
        Description = "How long the range is. Default: to the disk's end",
        CustomParser = result => BenchText.ParseSize(result),
    };

    private readonly Option<bool> _verify = new("--verify")
    {
        Description = "Write contents made of seed, sector and generation, and check them when read; all that was written is read once more at the end.",
    };

    private readonly Option<ulong> _seed = new("--seed")
    {
        HelpName = "N",
        Description = "Decides about places, sizes, kinds and contents.",
        DefaultValueFactory = _ => 1,
    };

    private readonly Option<TimeSpan> _stallTimeout = new("--stall-timeout")
    {
        HelpName = "TIME",
        Description = "Give up when nothing comes back for so long. Default: 30s",
        DefaultValueFactory = _ => TimeSpan.FromSeconds(30),
        CustomParser = BenchText.ParseTime,
    };

    private readonly Option<int?> _serverPid = new("--server-pid")
    {
        HelpName = "PID",
        Description = "Report CPU time and memory of this process. Default: the one that listens on the socket",
    };

    private readonly Option<string?> _control = new("--control")
    {
        HelpName = "PATH",
        Description = "Report where latency comes from, too: the control socket of the vblkflow that listens on SOCKET.",
    };

    private readonly Option<string?> _json = new("--json") { HelpName = "FILE", Description = "Write results as JSON, with fio's names where it has them; - for stdout." };

    private readonly Option<string?> _hgrm = new("--hgrm")
    {
        HelpName = "FILE",
        Description = "Write the distribution of latencies, in microseconds, as HdrHistogram's tools read it; - for stdout.",
    };

    private readonly Option<bool> _loopback = new("--loopback")
    {
        Description = "No SOCKET: a device on the generator's own thread, to see what the generator costs.",
    };

    private BenchCommand()
    {
        _rw.AcceptOnlyFromAmong("read", "write", "randread", "randwrite", "rw", "randrw");
        _ring.AcceptOnlyFromAmong("split", "packed");
        _wait.AcceptOnlyFromAmong("poll", "sleep");
        _arrivals.AcceptOnlyFromAmong("even", "poisson");
        Command = new Command(Name, Description)
        {
            _socket, _rw, _readPercent, _allowWrites, _blockSize, _queueDepth, _queues, _queueSize, _ring, _noIndirect, _noEventIndex, _wait, _rate, _arrivals,
            _warmUp, _time, _count, _offset, _size, _verify, _seed, _stallTimeout, _serverPid, _control, _json, _hgrm, _loopback,
        };
    }

    private Command Command { get; }

    /// <summary>The whole subcommand, with what it does.</summary>
    public static Command Create()
    {
        var bench = new BenchCommand();
        bench.Command.SetAction(bench.Run);
        return bench.Command;
    }

    /// <summary>Its name for the help of the program: a daemon that starts has no use for the options of a benchmark.</summary>
    public static Command CreateStub() => new(Name, Description);

    /// <summary>Reads a command line, for tests.</summary>
    internal static (BenchOptions? Options, IReadOnlyList<string> Errors) Parse(params string[] arguments)
    {
        var bench = new BenchCommand();
        ParseResult result = bench.Command.Parse(arguments);
        string[] errors = [.. result.Errors.Select(error => error.Message)];
        if (errors.Length == 0 && bench.Complaint(result) is { } complaint)
        {
            errors = [complaint];
        }

        return (errors.Length == 0 ? bench.Read(result) : null, errors);
    }

    private static bool IsGiven(ParseResult result, Option option) => result.GetResult(option) is { Implicit: false };

    private BenchOptions Read(ParseResult result)
    {
        string rw = result.GetValue(_rw)!;
        TimeSpan? time = result.GetValue(_time);
        long? count = result.GetValue(_count);
        return new BenchOptions
        {
            SocketPath = result.GetValue(_loopback) ? null : result.GetValue(_socket),
            ServerProcessId = result.GetValue(_serverPid),
            ControlPath = result.GetValue(_control),
            JsonPath = result.GetValue(_json),
            HistogramPath = result.GetValue(_hgrm),
            Load = new LoadOptions
            {
                Sequential = !rw.StartsWith("rand", StringComparison.Ordinal),
                ReadPercent = rw.EndsWith("rw", StringComparison.Ordinal) ? result.GetValue(_readPercent) : rw.EndsWith("read", StringComparison.Ordinal) ? 100 : 0,
                AllowWrites = result.GetValue(_allowWrites),
                BlockSizes = result.GetValue(_blockSize) ?? BlockSizeMix.Of(4096),
                QueueDepth = result.GetValue(_queueDepth),
                QueueCount = result.GetValue(_queues),
                QueueSize = result.GetValue(_queueSize),
                Packed = result.GetValue(_ring) == "packed",
                Indirect = !result.GetValue(_noIndirect),
                EventIndex = !result.GetValue(_noEventIndex),
                Wait = result.GetValue(_wait) == "sleep" ? CompletionWait.Call : CompletionWait.Poll,
                RatePerSecond = result.GetValue(_rate),
                Arrivals = result.GetValue(_arrivals) == "poisson" ? Arrivals.Poisson : Arrivals.Even,
                WarmUp = result.GetValue(_warmUp),
                Duration = time ?? (count is null ? TimeSpan.FromSeconds(10) : null),
                RequestCount = count,
                OffsetBytes = result.GetValue(_offset),
                SizeBytes = result.GetValue(_size),
                Verify = result.GetValue(_verify),
                Seed = result.GetValue(_seed),
                StallTimeout = result.GetValue(_stallTimeout),
            },
        };
    }

    private int Run(ParseResult result)
    {
        if (Complaint(result) is not { } complaint)
        {
            return BenchRun.Run(Read(result));
        }

        Console.Error.WriteLine($"vblkflow: {complaint}");
        Console.Error.WriteLine($"'vblkflow {Name} --help' lists the options.");
        return ExitCode.Usage;
    }

    // Values that do not go together, or are out of range. After the parsing, because validators do not see defaults.
    private string? Complaint(ParseResult result)
    {
        bool hasSocket = !string.IsNullOrEmpty(result.GetValue(_socket));
        bool isMixed = result.GetValue(_rw)!.EndsWith("rw", StringComparison.Ordinal);
        bool writes = isMixed ? result.GetValue(_readPercent) < 100 : result.GetValue(_rw)!.EndsWith("write", StringComparison.Ordinal);
        return 0 switch
        {
            _ when hasSocket == result.GetValue(_loopback) => "bench wants a SOCKET, or --loopback instead.",
            _ when IsGiven(result, _control) && !hasSocket => "--control goes with a SOCKET.",
            _ when IsGiven(result, _readPercent) && !isMixed => "--read-percent goes with --rw rw or --rw randrw.",
            _ when result.GetValue(_readPercent) is < 0 or > 100 => "--read-percent takes 0 to 100.",
            _ when writes && !result.GetValue(_allowWrites) => "This writes, and what is on the disk is lost: add --allow-writes if that is meant.",
            _ when result.GetValue(_queueDepth) is < 1 or > LoadOptions.MaxQueueDepth => $"--queue-depth takes 1 to {LoadOptions.MaxQueueDepth}.",
            _ when result.GetValue(_queues) is < 1 or > LoadOptions.MaxQueueCount => $"--queues takes 1 to {LoadOptions.MaxQueueCount}.",
            _ when IsGiven(result, _queueSize) && result.GetValue(_queueSize) is < 1 or > 32768 => "--queue-size takes 1 to 32768.",
            _ when IsGiven(result, _rate) && !(result.GetValue(_rate) is > 0 and <= 1e9) => "--rate takes requests per second, above 0.",
            _ when IsGiven(result, _arrivals) && !IsGiven(result, _rate) => "--arrivals goes with --rate.",
            _ when result.GetValue(_count) is < 1 => "--count takes 1 or more.",
            _ when result.GetValue(_time) is { } time && time <= TimeSpan.Zero => "--time takes more than 0.",
            _ when result.GetValue(_stallTimeout) <= TimeSpan.Zero => "--stall-timeout takes more than 0.",
            _ when result.GetValue(_offset) % 512 != 0 || result.GetValue(_size).GetValueOrDefault() % 512 != 0 => "--offset and --size take multiples of 512.",
            _ when result.GetValue(_size) is 0 => "--size takes more than 0.",
            _ when result.GetValue(_serverPid) is < 1 => "--server-pid takes the number of a process.",
            _ when result.GetValue(_json) == "-" && result.GetValue(_hgrm) == "-" => "--json and --hgrm cannot both go to stdout.",
            _ => null,
        };
    }
}
