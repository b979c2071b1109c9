namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>Something about the server that an operator should know of.</summary>
public enum NbdNews
{
    /// <summary>The connection was lost, or given up; requests wait for another one.</summary>
    Lost,

    /// <summary>There is a connection again.</summary>
    Connected,

    /// <summary>There has been none for too long: requests fail until there is.</summary>
    GivenUp,

    /// <summary>Writes that were not flushed may be lost with the server: no flush succeeds any more.</summary>
    DurabilityLost,
}

/// <summary>How an NBD server is used.</summary>
public sealed record NbdDiskOptions
{
    /// <summary>Most connections of one disk. Arbitrary.</summary>
    public const int MostConnections = 64;

    /// <summary>Where the export is.</summary>
    public NbdAddress? Address { get; init; }

    /// <summary>Whether nothing is to be changed there.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Connections at once, if the server allows several; each queue wants one. Arbitrary default.</summary>
    public int Connections { get; init; } = 16;

    /// <summary>How long a server may be silent while requests wait for it, until the connection is given up. Arbitrary default.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long requests wait for a connection, until they fail; zero for not at all. Arbitrary default.</summary>
    public TimeSpan Reconnect { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Whether writes that the server has acknowledged outlive it even if they were not flushed: because it keeps nothing to itself, and the
    /// host that it runs on stays up.
    /// </summary>
    public bool ServerKeepsWrites { get; init; }

    /// <summary>
    /// How long a silent server may keep a queue that is to stop. Arbitrary default: longer than one that lives is silent, and shorter than
    /// front-ends and service managers have patience.
    /// </summary>
    internal TimeSpan DrainPatience { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>Hears news and their reason; from any thread.</summary>
    public Action<NbdNews, string>? OnNews { get; init; }
}
