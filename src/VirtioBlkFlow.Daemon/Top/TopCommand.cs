using System.CommandLine;
using VirtioBlkFlow.Daemon.Bench;

namespace VirtioBlkFlow.Daemon.Top;

/// <summary>The options of <c>vblkflow top</c>: what daemons do, live, in a terminal.</summary>
internal sealed class TopCommand
{
    /// <summary>The subcommand's name.</summary>
    public const string Name = "top";

    private const string Description = "Shows live what daemons do, and where the latency of their requests comes from.";

    private readonly Argument<string[]> _paths = new("PATH")
    {
        Description = "Control sockets: what the daemons were given with --control.",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<bool> _once = new("--once") { Description = "Print what was done since the start of each daemon, and end." };

    private readonly Option<TimeSpan> _interval = new("--interval")
    {
        HelpName = "TIME",
        Description = "How often to look. Default: 1s",
        DefaultValueFactory = _ => TimeSpan.FromSeconds(1),
        CustomParser = BenchText.ParseTime,
    };

    private TopCommand()
    {
        Command = new Command(Name, Description) { _paths, _once, _interval };
        Command.SetAction(RunAsync);
    }

    private Command Command { get; }

    /// <summary>The whole subcommand, with what it does.</summary>
    public static Command Create() => new TopCommand().Command;

    /// <summary>Its name for the help of the program.</summary>
    public static Command CreateStub() => new(Name, Description);

    private async Task<int> RunAsync(ParseResult result, CancellationToken cancellation)
    {
        bool once = result.GetValue(_once);
        TimeSpan interval = result.GetValue(_interval);
        string? complaint = interval <= TimeSpan.Zero ? "--interval takes more than 0."
            : !once && Console.IsOutputRedirected ? "top shows itself in a terminal, and this is none: add --once."
            : null;
        if (complaint is null)
        {
            return await TopRun.RunAsync(result.GetValue(_paths)!, once ? null : interval, cancellation);
        }

        await Console.Error.WriteLineAsync($"vblkflow: {complaint}");
        await Console.Error.WriteLineAsync($"'vblkflow {Name} --help' lists the options.");
        return ExitCode.Usage;
    }
}
