namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>Which image of which Ceph cluster, and as whom.</summary>
/// <param name="Pool">Name of the pool.</param>
/// <param name="Image">Name of the image.</param>
public sealed record RbdDiskOptions(string Pool, string Image)
{
    /// <summary>Namespace in the pool; empty for the one without a name.</summary>
    public string Namespace { get; init; } = "";

    /// <summary>The snapshot to show, which makes the disk read-only; null for the image as it is now.</summary>
    public string? Snapshot { get; init; }

    /// <summary>Path of ceph.conf; null for where Ceph looks for it: <c>CEPH_CONF</c>, <c>/etc/ceph/ceph.conf</c> and so on.</summary>
    public string? ConfigurationPath { get; init; }

    /// <summary>Who connects, without <c>client.</c>; null for Ceph's default, <c>admin</c>.</summary>
    public string? User { get; init; }

    /// <summary>File with that user's key; null for what the configuration says.</summary>
    public string? KeyringPath { get; init; }

    /// <summary>Whether everything that changes is refused.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Whether the image is locked for this disk alone; a reader looks whether somebody writes.</summary>
    public bool Lock { get; init; } = true;

    /// <summary>How long the cluster may take for one operation before it fails, in seconds.</summary>
    public int TimeoutSeconds { get; init; } = 60;

    /// <summary>How long the monitors may take to let us in, in seconds.</summary>
    public int ConnectTimeoutSeconds { get; init; } = 15;

    /// <summary>Hears in a sentence of what an operator should know, from any thread; null for nobody.</summary>
    public Action<string>? Report { get; init; }

    /// <summary>As the tools of Ceph write it: POOL/[NAMESPACE/]IMAGE[@SNAP].</summary>
    public string Path => $"{Pool}/{(Namespace.Length > 0 ? $"{Namespace}/" : "")}{Image}{(Snapshot is null ? "" : $"@{Snapshot}")}";
}
