using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon;
using VirtioBlkFlow.Daemon.Exchange;
using VirtioBlkFlow.UnitTests.Architecture;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Exchange;

public sealed class ExchangeCommandTests
{
    private static readonly string[] s_options =
    [
        "--input", "--output", "--stream", "--input-sectors", "--output-size", "--status-sector", "--ring-size", "--once", "--linger", "--socket-path", "--socket-mode", "--fd",
        "--no-lock", "--io-engine", "--log-level",
    ];

    [Fact]
    public void Two_files_are_all_it_takes() => Assert.Equal(
        new ExchangeSettings { InputPath = "a", OutputPath = "b", SocketPath = "./vblkflow.sock", RingBytes = 1 << 20 },
        Read("--input", "a", "--output", "b"));

    [Fact]
    public void Every_option_of_files_arrives() => Assert.Equal(
        new ExchangeSettings
        {
            InputPath = "a",
            OutputPath = "b",
            InputSectors = 100,
            OutputBytes = 2 << 20,
            StatusSector = 9000,
            Lock = false,
            SocketPath = "s",
            SocketMode = Convert.ToInt32("660", 8),
            Once = true,
            Linger = TimeSpan.FromMilliseconds(300),
            Engine = EngineChoice.Threads,
            LogLevel = LogLevel.Debug,
            RingBytes = 1 << 20,
        },
        Read(
            "--input", "a", "--output", "b", "--input-sectors", "100", "--output-size", "2M", "--status-sector", "9000", "--no-lock", "--socket-path", "s", "--socket-mode",
            "0660", "--once", "--linger", "300ms", "--io-engine", "threads", "--log-level", "debug"));

    [Fact]
    public void Every_option_of_streams_arrives() => Assert.Equal(
        new ExchangeSettings { RingBytes = 64 << 10, SocketDescriptor = 5 },
        Read("--stream", "--ring-size", "64K", "--fd", "5"));

    [Theory]
    [InlineData("", "--input FILE and --output FILE, or --stream")]
    [InlineData("--input a", "--output FILE")]
    [InlineData("--input a --output=", "--output")]
    [InlineData("--stream --input a", "--stream", "--input")]
    [InlineData("--stream --output-size 1M", "--stream", "--output-size")]
    [InlineData("--input a --output b --ring-size 1M", "--ring-size goes with --stream")]
    [InlineData("--stream --ring-size 1000", "multiple of 4096")]
    [InlineData("--stream --ring-size 8G", "at most 4G")]
    [InlineData("--stream --ring-size 0", "--ring-size")]
    [InlineData("--stream --ring-size big", "--ring-size", "big")]
    [InlineData("--stream --socket-path s --fd 3", "exclude each other")]
    [InlineData("--stream --socket-mode 0600 --fd 3", "exclude each other")]
    [InlineData("--stream --socket-path=", "--socket-path")]
    [InlineData("--stream --fd -1", "--fd")]
    [InlineData("--stream --socket-mode 9", "--socket-mode", "0660")]
    [InlineData("--input a --output b --output-size 1X", "--output-size", "1X")]
    [InlineData("--input a --output b --status-sector -1", "-1")]
    [InlineData("--stream --io-engine aio", "aio")]
    public void What_is_wrong_is_named(string commandLine, params string[] words)
    {
        (ExchangeSettings? settings, IReadOnlyList<string> errors) = ExchangeCommand.Parse(commandLine.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Null(settings);
        Assert.All(words, word => Assert.Contains(word, errors[0], StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("docs/man/vblkflow-exchange.1")]
    [InlineData("docs/exchange.md")]
    public void Every_option_is_in_the_documents(string document)
    {
        string text = File.ReadAllText(Path.Combine(SourceTree.Root, document)).Replace("\\-", "-", StringComparison.Ordinal);
        Assert.Equal(s_options.Length, ExchangeCommand.Create().Options.Count(option => option.Name != "--help"));
        Assert.All(s_options, option => Assert.Matches($@"(?<![\w-]){option}(?![\w-])", text));
    }

    private static ExchangeSettings Read(params string[] arguments)
    {
        (ExchangeSettings? settings, IReadOnlyList<string> errors) = ExchangeCommand.Parse(arguments);
        Assert.Empty(errors);
        return settings!;
    }
}
