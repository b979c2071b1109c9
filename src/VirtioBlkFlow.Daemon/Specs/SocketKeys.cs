using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about how a disk is called and where its front-end connects.</summary>
internal static class SocketKeys
{
    /// <summary>Longest id. Arbitrary: it is part of a file name and of every line in the log.</summary>
    public const int MaxIdLength = 64;

    public static SpecKey Id { get; } = SpecKey.Text(
        "id",
        "NAME",
        "Names the disk in logs, and its socket where that is not named. Default: disk0, disk1, ... in the order given.",
        "data",
        (spec, text) => IsId(text) ? spec with { Id = text } : null,
        $"up to {MaxIdLength} letters, digits, '-', '_', '.' and ':', the first a letter or digit");

    public static SpecKey Socket { get; } = SpecKey.Text(
        "socket",
        "PATH",
        "Listen on this unix socket.",
        "/run/vm/data.sock",
        (spec, text) => spec with { SocketPath = text },
        "a path");

    public static SpecKey SocketMode { get; } = SpecKey.Text(
        "socket-mode",
        "MODE",
        "Permissions of the socket file, octal.",
        "0660",
        (spec, text) => text.Length is > 0 and <= 4 && text.All(digit => digit is >= '0' and <= '7') && Convert.ToInt32(text, 8) <= 0x1ff
            ? spec with { SocketMode = Convert.ToInt32(text, 8) }
            : null,
        "octal permissions such as 0660");

    public static SpecKey Descriptor { get; } = SpecKey.Number(
        "fd",
        "N",
        (0, int.MaxValue),
        "Use this inherited descriptor instead: a unix socket, listening or connected.",
        "3",
        (spec, number) => spec with { SocketDescriptor = (int)number });

    public static IReadOnlyList<SpecKey> All { get; } = [Id, Socket, SocketMode, Descriptor];

    /// <summary>Unless told otherwise.</summary>
    public const int DefaultMode = ListeningSocket.DefaultMode;

    private static bool IsId(string text) =>
        text.Length <= MaxIdLength && char.IsAsciiLetterOrDigit(text[0]) && text.All(character => char.IsAsciiLetterOrDigit(character) || "-_.:".Contains(character));
}
