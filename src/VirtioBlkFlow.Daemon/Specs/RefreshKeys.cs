namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about reading a disk in the background.</summary>
internal static class RefreshKeys
{
    private const string OnDemand = ":on-demand";

    public static SpecKey Rate { get; } = SpecKey.Text(
        "refresh",
        "RATE[:on-demand]",
        "Read all of the disk once in the background, while the guest is quiet, at so many bytes in a second; or only when the control socket is told to.",
        "4M",
        SetRate,
        "bytes in a second, or a number with K, M or G, and maybe :on-demand");

    public static SpecKey Rewrite { get; } = SpecKey.Flag(
        "refresh-rewrite", "Write again what the refresh at the start has read.", "on", (spec, on) => spec with { RewritesAtStart = on });

    public static IReadOnlyList<SpecKey> All { get; } = [Rate, Rewrite];

    /// <summary>What is wrong with what was given together, as the rest of a sentence; null for nothing.</summary>
    public static string? FindFault(DiskSpec spec) =>
        !spec.RewritesAtStart ? null
        : spec.Refresh is null ? "refresh-rewrite goes with refresh: give that too."
        : spec.Refresh.OnDemand ? "refresh-rewrite is for the refresh at the start, and there is none with :on-demand. Leave out one of the two."
        : ObstacleToRewrite(spec) is { } obstacle ? $"refresh-rewrite is not possible. {obstacle}"
        : null;

    /// <summary>Why what was read may not be written again; null if it may.</summary>
    public static string? ObstacleToRewrite(DiskSpec spec) =>
        spec.ReadOnly ? "The disk is read-only: leave out ro."
        : spec.Zones is not null ? "A disk with zones is written in sequence only."
        : spec.Kind.ObstacleToRewrite(spec);

    private static DiskSpec? SetRate(DiskSpec spec, string text)
    {
        bool onDemand = text.EndsWith(OnDemand, StringComparison.Ordinal);
        string rate = onDemand ? text[..^OnDemand.Length] : text;
        return ValueText.TryParseSize(rate, out ulong bytes) && bytes > 0 ? spec with { Refresh = new RefreshSpec(bytes, onDemand) } : null;
    }
}
