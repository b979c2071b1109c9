using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>An export of an NBD server. Its address may stand alone, as it begins with the name of the kind.</summary>
internal sealed class NbdKind : DiskKind
{
    private const string UnixName = "nbd+unix";

    public override string Name => "nbd";

    public override IReadOnlyList<string> OtherNames => [UnixName];

    public override string Form => "URI";

    public override string Meaning => $"An export of an NBD server: {NbdAddress.Form}. The URI may stand without nbd: before it.";

    public override string Example => "nbd:nbd+unix:///vm1?socket=/run/nbd.sock";

    public override IReadOnlyList<SpecKey> OwnKeys { get; } =
    [
        SpecKey.Number(
            "connections",
            "N",
            (1, NbdDiskOptions.MostConnections),
            "Most connections to the server, if it allows several; each queue wants one. 16 unless given.",
            "4",
            (spec, count) => spec.WithNbd(disk => disk with { Connections = (int)count })),
        SpecKey.Text(
            "timeout",
            "TIME",
            "How long the server may be silent while requests wait for it, until the connection is given up. 30s unless given.",
            "10s",
            (spec, text) => DelayText.TryParseTime(text, out TimeSpan time) && time > TimeSpan.Zero ? spec.WithNbd(disk => disk with { Timeout = time }) : null,
            "a time such as 500ms or 10s"),
        SpecKey.Text(
            "reconnect",
            "TIME",
            "How long requests wait for a connection, until they fail; 0s for not at all. 30s unless given.",
            "5s",
            (spec, text) => DelayText.TryParseTime(text, out TimeSpan time) ? spec.WithNbd(disk => disk with { Reconnect = time }) : null,
            "a time such as 500ms or 10s"),
        SpecKey.Choice(
            "server-cache",
            "Whether writes that the server has acknowledged and not flushed are lost with it: volatile, unless given, or kept.",
            [("volatile", false), ("kept", true)],
            (spec, keeps) => spec.WithNbd(disk => disk with { ServerKeepsWrites = keeps })),
    ];

    public override string WhatOf(string name, string rest) =>
        name == UnixName || rest.StartsWith("//", StringComparison.Ordinal) ? $"{name}:{rest}" : rest;

    public override string? FindFault(DiskSpec spec) =>
        NbdAddress.Parse(spec.What, out string fault) is null ? $"'{spec.What}' is no address of an NBD server. {fault}" : null;

    public override string? StorageOf(DiskSpec spec) =>
        NbdAddress.Parse(spec.What, out _) is { } address
            ? (address with { SocketPath = address.SocketPath is { } path ? Path.GetFullPath(path) : null }).ToString()
            : null;

    public override IDisk Open(DiskSpec spec, ILogger logger)
    {
        var limited = new LimitedLogger(logger, TimeProvider.System);
        return NbdDisk.Open(spec.Nbd with
        {
            Address = NbdAddress.Parse(spec.What, out _),
            ReadOnly = spec.ReadOnly,
            OnNews = (news, reason) => Tell(limited, logger, news, reason),
        });
    }

    // A server may come and go: what it does is said, and not too often. What concerns data is always said.
    private static void Tell(ILogger limited, ILogger logger, NbdNews news, string reason)
    {
        switch (news)
        {
            case NbdNews.Lost:
                Log.NbdLost(limited, reason);
                break;
            case NbdNews.Connected:
                Log.NbdConnected(limited);
                break;
            case NbdNews.GivenUp:
                Log.NbdGivenUp(limited, reason);
                break;
            default:
                Log.NbdDurabilityLost(logger);
                break;
        }
    }
}
