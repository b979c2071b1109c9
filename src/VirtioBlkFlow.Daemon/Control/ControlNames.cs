using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>The words of reports and metrics. Scripts rely on them.</summary>
internal static class ControlNames
{
    /// <summary>Types of requests that have a name of their own.</summary>
    public static IReadOnlyList<(BlkRequestType Type, string Name)> Types { get; } =
    [
        (BlkRequestType.VIRTIO_BLK_T_IN, "read"),
        (BlkRequestType.VIRTIO_BLK_T_OUT, "write"),
        (BlkRequestType.VIRTIO_BLK_T_FLUSH, "flush"),
        (BlkRequestType.VIRTIO_BLK_T_GET_ID, "get_id"),
        (BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME, "get_lifetime"),
        (BlkRequestType.VIRTIO_BLK_T_DISCARD, "discard"),
        (BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES, "write_zeroes"),
        (BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, "secure_erase"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND, "zone_append"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT, "zone_report"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN, "zone_open"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE, "zone_close"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH, "zone_finish"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_RESET, "zone_reset"),
        (BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL, "zone_reset_all"),
    ];

    /// <summary>The name of all other types together, and of what was no request.</summary>
    public const string OtherType = "other";

    /// <summary>Statuses that are errors.</summary>
    public static IReadOnlyList<(BlkStatus Status, string Name)> Errors { get; } =
    [
        (BlkStatus.VIRTIO_BLK_S_IOERR, "ioerr"),
        (BlkStatus.VIRTIO_BLK_S_UNSUPP, "unsupp"),
        (BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD, "zone_invalid_cmd"),
        (BlkStatus.VIRTIO_BLK_S_ZONE_UNALIGNED_WP, "zone_unaligned_wp"),
        (BlkStatus.VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, "zone_open_resource"),
        (BlkStatus.VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, "zone_active_resource"),
    ];

    /// <summary>How the operator says how much is measured.</summary>
    public static string Of(StageLatency mode) => mode switch
    {
        StageLatency.Sampled => "on",
        StageLatency.All => "all",
        _ => "off",
    };

    /// <summary>The name of a stage.</summary>
    public static string Of(LatencyStage stage) => stage switch
    {
        LatencyStage.Ring => "ring",
        LatencyStage.Slot => "slot",
        LatencyStage.Parse => "parse",
        LatencyStage.Kernel => "kernel",
        LatencyStage.Completion => "completion",
        _ => "call",
    };

    /// <summary>Requests by the name of their type; types that did not occur are left out.</summary>
    public static Dictionary<string, ulong> RequestsOf(QueueCounts counts)
    {
        Dictionary<string, ulong> requests = [];
        ulong named = 0;
        foreach ((BlkRequestType type, string name) in Types)
        {
            if (counts.RequestsOf(type) is > 0 and ulong count)
            {
                requests.Add(name, count);
                named += count;
            }
        }

        if (counts.TotalRequests > named)
        {
            requests.Add(OtherType, counts.TotalRequests - named);
        }

        return requests;
    }

    /// <summary>Requests by the name of the status they were returned with; those that did not occur are left out.</summary>
    public static Dictionary<string, ulong> ErrorsOf(QueueCounts counts) =>
        Errors.Where(error => counts.ErrorsOf(error.Status) > 0).ToDictionary(error => error.Name, error => counts.ErrorsOf(error.Status));

    /// <summary>The name of what a refresh is doing.</summary>
    public static string Of(RefreshState state) => state switch
    {
        RefreshState.None => "none",
        RefreshState.Running => "running",
        RefreshState.Finished => "finished",
        RefreshState.Stopped => "stopped",
        _ => "failed",
    };
}
