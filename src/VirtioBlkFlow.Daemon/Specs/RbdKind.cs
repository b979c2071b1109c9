using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Rbd;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>An image of a Ceph cluster.</summary>
internal sealed class RbdKind : DiskKind
{
    private const int MaxSeconds = 24 * 3600;

    public override string Name => "rbd";

    public override string Form => "POOL/[NAMESPACE/]IMAGE[@SNAP]";

    public override string Meaning => "An image of a Ceph cluster, or a snapshot of one, which is read-only; needs Ceph's client library (librbd1).";

    public override string Example => "rbd:vms/system,conf=/etc/ceph/ceph.conf,user=vblkflow";

    public override IReadOnlyList<SpecKey> OwnKeys { get; } =
    [
        SpecKey.Text(
            "conf",
            "PATH",
            "The cluster's ceph.conf; looked for where Ceph does unless given.",
            "/etc/ceph/ceph.conf",
            (spec, text) => spec.WithRbd(rbd => rbd with { ConfigurationPath = text }),
            "a path"),
        SpecKey.Text(
            "user",
            "NAME",
            "Connect as this user, without 'client.'; admin unless given.",
            "vblkflow",
            (spec, text) => spec.WithRbd(rbd => rbd with { User = text }),
            "a name"),
        SpecKey.Text(
            "keyring",
            "PATH",
            "The file with the user's key; what the configuration says unless given.",
            "/etc/ceph/ceph.client.vblkflow.keyring",
            (spec, text) => spec.WithRbd(rbd => rbd with { KeyringPath = text }),
            "a path"),
        SpecKey.Number(
            "timeout",
            "SECONDS",
            (1, MaxSeconds),
            "How long the cluster may take for an operation before it fails; 60 unless given.",
            "120",
            (spec, seconds) => spec.WithRbd(rbd => rbd with { TimeoutSeconds = (int)seconds })),
        SpecKey.Number(
            "connect-timeout",
            "SECONDS",
            (1, MaxSeconds),
            "How long the monitors may take to answer at the start; 15 unless given.",
            "5",
            (spec, seconds) => spec.WithRbd(rbd => rbd with { ConnectTimeoutSeconds = (int)seconds })),
        FileKind.Lock,
    ];

    public override string? FindFault(DiskSpec spec) =>
        TryName(spec) is null ? $"'{spec.What}' is no image. It takes {Form}: {Example}" : null;

    public override string? StorageOf(DiskSpec spec) =>
        TryName(spec) is { } named ? $"rbd {named.ConfigurationPath} {named.Path}" : null;

    public override IDisk Open(DiskSpec spec, ILogger logger) => RbdDisk.Open(TryName(spec)! with
    {
        ReadOnly = spec.ReadOnly,
        Lock = spec.Lock,
        Report = sentence => Log.DiskReports(logger, sentence),
    });

    // What the text names; null if it names nothing.
    private static RbdDiskOptions? TryName(DiskSpec spec)
    {
        int at = spec.What.IndexOf('@', StringComparison.Ordinal);
        string[] names = (at < 0 ? spec.What : spec.What[..at]).Split('/');
        string? snapshot = at < 0 ? null : spec.What[(at + 1)..];
        return names.Length is 2 or 3 && !names.Contains("") && snapshot != ""
            ? spec.Rbd with { Pool = names[0], Namespace = names.Length == 3 ? names[1] : "", Image = names[^1], Snapshot = snapshot }
            : null;
    }
}
