using Microsoft.Extensions.Logging;

namespace VirtioBlkFlow.Device;

/// <summary>Everything this library logs. Nothing per request: a guest cannot flood the log.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "Queue {Index} serves {Size} entries from index {NextAvailable}.")]
    public static partial void QueueStarted(ILogger logger, int index, ushort size, ushort nextAvailable);

    [LoggerMessage(2, LogLevel.Information, "Queue {Index} stopped at index {NextAvailable}.")]
    public static partial void QueueStopped(ILogger logger, int index, ushort nextAvailable);

    [LoggerMessage(3, LogLevel.Warning, "Queue {Index} is broken and serves no more until it is set up anew: {Reason}.")]
    public static partial void QueueBroken(ILogger logger, int index, string reason);

    [LoggerMessage(4, LogLevel.Debug, "The driver negotiated features 0x{Features:x}; writes are {Mode}.")]
    public static partial void Negotiated(ILogger logger, ulong features, string mode);

    [LoggerMessage(5, LogLevel.Critical, "The thread {Name} failed.")]
    public static partial void ReactorFailed(ILogger logger, string name, Exception exception);

    [LoggerMessage(6, LogLevel.Error, "A write that had completed may not be durable: the flush at the change to writethrough failed.")]
    public static partial void FlushAtSwitchFailed(ILogger logger);

    [LoggerMessage(7, LogLevel.Warning, "{Rule}, for the {Duty} ({Level}; {Specification}, \"{Section}\"): {Sentence} Seen: {Seen}. Not logged again in this session.")]
    public static partial void LintFinding(
        ILogger logger, string rule, string duty, string level, string specification, string section, string sentence, string seen);

    [LoggerMessage(8, LogLevel.Warning, "Rules broken in the session that has ended, and how often: {Findings}.")]
    public static partial void LintSummary(ILogger logger, string findings);

    [LoggerMessage(9, LogLevel.Warning, "Queue {Index} works without registered guest memory: {Obstacle}")]
    public static partial void MemoryNotRegistered(ILogger logger, int index, string obstacle);

    [LoggerMessage(10, LogLevel.Warning, "The disk was resized from {OldBytes} to {NewBytes} bytes.")]
    public static partial void Resized(ILogger logger, ulong oldBytes, ulong newBytes);
}
