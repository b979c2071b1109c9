using Microsoft.Extensions.Logging;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser;

/// <summary>All this library says. Ids are fixed; a number is not used again for something else.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "A front-end has connected")]
    public static partial void FrontendConnected(ILogger logger);

    [LoggerMessage(2, LogLevel.Information, "The front-end has left")]
    public static partial void FrontendLeft(ILogger logger);

    [LoggerMessage(3, LogLevel.Error, "The front-end broke the protocol, the connection is closed: {Reason}")]
    public static partial void ProtocolViolated(ILogger logger, string reason);

    [LoggerMessage(4, LogLevel.Warning, "{Request} is refused: {Reason}")]
    public static partial void RequestRefused(ILogger logger, FrontendRequest request, string reason);

    [LoggerMessage(5, LogLevel.Error, "{Request} is refused and the front-end did not ask for an acknowledgement, the connection is closed: {Reason}")]
    public static partial void RequestRefusedSilently(ILogger logger, FrontendRequest request, string reason);

    [LoggerMessage(6, LogLevel.Debug, "{Request}, {PayloadBytes} bytes, {Descriptors} descriptors")]
    public static partial void RequestReceived(ILogger logger, FrontendRequest request, uint payloadBytes, int descriptors);

    [LoggerMessage(7, LogLevel.Debug, "vring {Index} runs: {Size} descriptors, from {NextAvailable}")]
    public static partial void VringStarted(ILogger logger, int index, int size, int nextAvailable);

    [LoggerMessage(8, LogLevel.Debug, "vring {Index} is stopped at {NextAvailable}")]
    public static partial void VringStopped(ILogger logger, int index, int nextAvailable);

    [LoggerMessage(9, LogLevel.Information, "vring {Index} waits: its addresses are not in guest memory yet")]
    public static partial void VringWaitsForMemory(ILogger logger, int index);

    [LoggerMessage(10, LogLevel.Warning, "vring {Index} is stopped: the new guest memory does not hold it")]
    public static partial void VringLostMemory(ILogger logger, int index);

    [LoggerMessage(11, LogLevel.Error, "vring {Index} cannot be started")]
    public static partial void VringStartFailed(ILogger logger, int index, Exception exception);

    [LoggerMessage(12, LogLevel.Warning, "vring {Index} is broken, the device asks for a reset")]
    public static partial void VringBroken(ILogger logger, int index);

    [LoggerMessage(13, LogLevel.Warning, "The front-end does not listen on the back-end channel any more")]
    public static partial void BackendChannelClosed(ILogger logger);

    [LoggerMessage(14, LogLevel.Information, "Listening on {Where}")]
    public static partial void Listening(ILogger logger, string where);

    [LoggerMessage(15, LogLevel.Warning, "accept fails with {Error}, trying again")]
    public static partial void AcceptFailed(ILogger logger, string error);

    [LoggerMessage(16, LogLevel.Debug, "The device is reset by {Request}")]
    public static partial void DeviceReset(ILogger logger, FrontendRequest request);

    [LoggerMessage(17, LogLevel.Debug, "Guest memory: {Regions} regions")]
    public static partial void MemoryChanged(ILogger logger, int regions);

    [LoggerMessage(18, LogLevel.Warning, "{Count} messages were held back, because there were too many")]
    public static partial void MessagesHeldBack(ILogger logger, int count);

    [LoggerMessage(19, LogLevel.Information, "The connection ended with {Error}")]
    public static partial void ConnectionBroke(ILogger logger, Errno error);
}
