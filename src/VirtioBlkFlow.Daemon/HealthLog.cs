using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon;

/// <summary>Says what happens to the health of a disk.</summary>
internal static class HealthLog
{
    private const ulong SectorBytes = 512;

    /// <summary>Logs limits that are reached and left.</summary>
    public static Action<HealthNotice> For(ILogger logger, string disk) => notice =>
    {
        string reading = notice.Limit is { } about ? $"{HealthLimit.NameOf(about.Quantity)} {notice.Value} {about.Unit}" : "";
        string limit = notice.Limit is { } reached ? $"{reached.Threshold} {reached.Unit}" : "";
        string back = notice.Limit is { } left ? $"{left.Back} {left.Unit}" : "";
        switch (notice.Kind)
        {
            case HealthNoticeKind.WarningReached:
                Log.HealthWarning(logger, disk, reading, limit);
                break;
            case HealthNoticeKind.WarningLeft:
                Log.HealthWarningLeft(logger, disk, reading, back);
                break;
            case HealthNoticeKind.ReadOnlyReached:
                Log.HealthReadOnly(logger, disk, reading, limit);
                break;
            case HealthNoticeKind.ReadOnlyLeft when notice.IsReadOnly:
                Log.HealthStillReadOnly(logger, disk, reading, back);
                break;
            case HealthNoticeKind.ReadOnlyLeft:
                Log.HealthWritable(logger, disk, reading, back);
                break;
            case HealthNoticeKind.Unreadable:
                Log.HealthUnreadable(logger, disk, notice.Obstacle!);
                break;
            default:
                Log.HealthReadable(logger, disk);
                break;
        }
    };

    /// <summary>Logs what a refresh has found. A disk that is broken all over does not fill the log.</summary>
    public static Action<RefreshNotice> ForRefresh(ILogger logger, string disk)
    {
        var limited = new LimitedLogger(logger, TimeProvider.System);
        return notice =>
        {
            switch (notice.Kind)
            {
                case RefreshNoticeKind.Unreadable:
                    Log.RefreshUnreadable(limited, disk, notice.LengthBytes, notice.OffsetBytes / SectorBytes);
                    break;
                case RefreshNoticeKind.NotRewritten:
                    Log.RefreshNotRewritten(limited, disk, notice.LengthBytes, notice.OffsetBytes / SectorBytes);
                    break;
                case RefreshNoticeKind.Finished when notice.Status.UnreadableBytes > 0:
                    Log.RefreshFoundUnreadable(logger, disk, notice.Status.ReadBytes, notice.Status.RewrittenBytes, notice.Status.UnreadableBytes);
                    break;
                case RefreshNoticeKind.Finished:
                    Log.RefreshFinished(logger, disk, notice.Status.ReadBytes, notice.Status.RewrittenBytes);
                    break;
                default:
                    Log.RefreshFailed(logger, disk, notice.Status.Error!);
                    break;
            }
        };
    }
}
