namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>Which invariant did not hold.</summary>
internal enum FindingKind
{
    /// <summary>The process with the device is gone.</summary>
    ProcessDied,

    /// <summary>Something that must come did not come before its deadline.</summary>
    Hang,

    /// <summary>A byte of memory was written that no writable buffer and no used ring covers.</summary>
    MemoryTouched,

    /// <summary>A byte of the image was written that no request named, or the image changed its size.</summary>
    DiskTouched,

    /// <summary>A head came back that was not available, or oftener than it was.</summary>
    HeadNotOurs,

    /// <summary>A status, a length, data or a reply that the specification does not allow.</summary>
    WrongAnswer,

    /// <summary>Descriptors, mappings or threads stayed behind.</summary>
    Leak,

    /// <summary>An exception of the front-end or of the generator itself.</summary>
    Unexpected,
}

/// <summary>An invariant did not hold.</summary>
internal sealed class FindingException(FindingKind kind, string message, Exception? inner = null) : Exception(message, inner)
{
    public FindingKind Kind => kind;
}

/// <summary>What a hunt brings home.</summary>
/// <param name="Kind">Which invariant.</param>
/// <param name="Round">The round to replay.</param>
/// <param name="Case">Case of the round in which it showed, from 0.</param>
/// <param name="Message">What was seen.</param>
internal sealed record Finding(FindingKind Kind, RoundId Round, int Case, string Message)
{
    public override string ToString() =>
        $"FINDING {Kind} in round {Round}, case {Case}: {Message}\n  replay: tests/fuzz.sh --replay {Round}";
}

/// <summary>Names a round: all that is random in it follows from these. As text it is <c>generator:seed</c>.</summary>
/// <param name="Generator">Name of a generator.</param>
/// <param name="Seed">Its seed.</param>
internal readonly record struct RoundId(string Generator, ulong Seed)
{
    public static RoundId Parse(string text)
    {
        string[] parts = text.Split(':');
        return parts.Length == 2 && ulong.TryParse(parts[1], out ulong seed)
            ? new RoundId(parts[0], seed)
            : throw new FormatException($"'{text}' is no round; a round is GENERATOR:NUMBER.");
    }

    public override string ToString() => $"{Generator}:{Seed}";
}
