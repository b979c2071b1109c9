using Microsoft.Extensions.Logging;

namespace VirtioBlkFlow.Daemon;

/// <summary>Everything the program itself logs.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "Serving '{Image}', {Bytes} bytes, on {Socket} with {Engine}.")]
    public static partial void Serving(ILogger logger, string image, ulong bytes, string socket, string engine);

    [LoggerMessage(2, LogLevel.Warning, "Doing I/O on threads, which is slower: {Obstacle}")]
    public static partial void UringRefused(ILogger logger, string obstacle);

    [LoggerMessage(3, LogLevel.Error, "Requests are still in flight after the time to drain; they end with the process.")]
    public static partial void DrainTimedOut(ILogger logger);

    [LoggerMessage(4, LogLevel.Critical, "The server failed.")]
    public static partial void ServerFailed(ILogger logger, Exception exception);

    [LoggerMessage(5, LogLevel.Warning, "Resized from {OldBytes} to {NewBytes} bytes.")]
    public static partial void Resized(ILogger logger, ulong oldBytes, ulong newBytes);

    [LoggerMessage(8, LogLevel.Warning, "'{Image}', {Queue}")]
    public static partial void Snapshot(ILogger logger, string image, string queue);

    [LoggerMessage(9, LogLevel.Warning, "'{Image}': no queue was ever started.")]
    public static partial void SnapshotOfNothing(ILogger logger, string image);

    [LoggerMessage(7, LogLevel.Error, "The records of {Count} zones are damaged: these zones are offline.")]
    public static partial void ZonesDamaged(ILogger logger, int count);

    [LoggerMessage(6, LogLevel.Warning, "The last {UnusedBytes} bytes of the image are not used: they are no whole block.")]
    public static partial void RoundedDown(ILogger logger, ulong unusedBytes);

    [LoggerMessage(12, LogLevel.Warning, "Faults are injected by {Rules} rules. To have the same again: fault-seed={Seed}.")]
    public static partial void InjectingFaults(ILogger logger, int rules, int seed);

    [LoggerMessage(13, LogLevel.Error, "Requests that failed are held: the guest waits. Mend the storage, then send SIGHUP.")]
    public static partial void Holding(ILogger logger);

    [LoggerMessage(10, LogLevel.Warning, "Nothing is held any more.")]
    public static partial void HoldsNoMore(ILogger logger);

    [LoggerMessage(11, LogLevel.Warning, "{Why}")]
    public static partial void GuestRefused(ILogger logger, string why);

    [LoggerMessage(14, LogLevel.Warning, "{Sentence}")]
    public static partial void DiskReports(ILogger logger, string sentence);

    [LoggerMessage(15, LogLevel.Warning, "The connection to the NBD server is lost: {Reason} Requests wait for another one.")]
    public static partial void NbdLost(ILogger logger, string reason);

    [LoggerMessage(16, LogLevel.Warning, "There is a connection to the NBD server again.")]
    public static partial void NbdConnected(ILogger logger);

    [LoggerMessage(17, LogLevel.Error, "There has been no NBD server for too long: requests fail until there is one. {Reason}")]
    public static partial void NbdGivenUp(ILogger logger, string reason);

    [LoggerMessage(
        18,
        LogLevel.Error,
        "With the NBD server, writes may be lost that it had acknowledged and not been asked to keep. No flush succeeds any more: restart the guest and this program.")]
    public static partial void NbdDurabilityLost(ILogger logger);

    [LoggerMessage(30, LogLevel.Warning, "Disk '{Disk}': {Reading} has come to the limit of {Limit}.")]
    public static partial void HealthWarning(ILogger logger, string disk, string reading, string limit);

    [LoggerMessage(31, LogLevel.Warning, "Disk '{Disk}': {Reading} is past {Back} again and gives no more cause for a warning.")]
    public static partial void HealthWarningLeft(ILogger logger, string disk, string reading, string back);

    [LoggerMessage(32, LogLevel.Error, "Disk '{Disk}': {Reading} has come to the limit of {Limit}. Writes fail from now on; reads go on.")]
    public static partial void HealthReadOnly(ILogger logger, string disk, string reading, string limit);

    [LoggerMessage(33, LogLevel.Warning, "Disk '{Disk}': {Reading} is past {Back} again. Writes go on.")]
    public static partial void HealthWritable(ILogger logger, string disk, string reading, string back);

    [LoggerMessage(34, LogLevel.Warning, "Disk '{Disk}': {Reading} is past {Back} again. Writes still fail because of another limit.")]
    public static partial void HealthStillReadOnly(ILogger logger, string disk, string reading, string back);

    [LoggerMessage(35, LogLevel.Warning, "Disk '{Disk}': its health cannot be read; what was known last holds. {Obstacle}")]
    public static partial void HealthUnreadable(ILogger logger, string disk, string obstacle);

    [LoggerMessage(36, LogLevel.Warning, "Disk '{Disk}': its health can be read again.")]
    public static partial void HealthReadable(ILogger logger, string disk);

    [LoggerMessage(37, LogLevel.Error, "Disk '{Disk}': the refresh cannot read {Bytes} bytes from sector {Sector} on.")]
    public static partial void RefreshUnreadable(ILogger logger, string disk, ulong bytes, ulong sector);

    [LoggerMessage(38, LogLevel.Error, "Disk '{Disk}': the refresh cannot write again {Bytes} bytes from sector {Sector} on, and rewrites nothing any more.")]
    public static partial void RefreshNotRewritten(ILogger logger, string disk, ulong bytes, ulong sector);

    [LoggerMessage(39, LogLevel.Information, "Disk '{Disk}': refreshed; {Read} bytes read, {Rewritten} written again.")]
    public static partial void RefreshFinished(ILogger logger, string disk, ulong read, ulong rewritten);

    [LoggerMessage(40, LogLevel.Warning, "Disk '{Disk}': refreshed; {Read} bytes read, {Rewritten} written again, {Unreadable} unreadable.")]
    public static partial void RefreshFoundUnreadable(ILogger logger, string disk, ulong read, ulong rewritten, ulong unreadable);

    [LoggerMessage(41, LogLevel.Error, "Disk '{Disk}': the refresh could not go on: {Reason}")]
    public static partial void RefreshFailed(ILogger logger, string disk, string reason);

    [LoggerMessage(42, LogLevel.Warning, "Disk '{Disk}': the limits are now {Limits}.")]
    public static partial void LimitsChanged(ILogger logger, string disk, string limits);

    [LoggerMessage(43, LogLevel.Error, "Nobody can be answered on the control socket, and it is tried again: {Reason}")]
    public static partial void ControlFailed(ILogger logger, string reason);
}
