using Microsoft.Extensions.Logging;

namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>
/// Lets a bounded number of messages through per period, so that neither a guest that resets and breaks its device in a loop nor a
/// front-end that reconnects in a loop can fill a disk with our log. What is held back is counted, and the count is logged with the
/// next period. Debug and Trace pass freely: who turned them on wants all of it. Usable from every thread.
/// </summary>
public sealed class LimitedLogger(ILogger inner, TimeProvider time) : ILogger
{
    /// <summary>Messages per period. Arbitrary: a hundred tell the story, and 10 a second fill no disk.</summary>
    public const int MessagesPerPeriod = 100;

    /// <summary>Length of a period. Arbitrary, see <see cref="MessagesPerPeriod"/>.</summary>
    public static readonly TimeSpan Period = TimeSpan.FromSeconds(10);

    private readonly Lock _gate = new();

    // Shared, guarded by _gate.
    private long _periodStart = time.GetTimestamp();
    private int _messages;
    private int _heldBack;

    /// <inheritdoc/>
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => inner.BeginScope(state);

    /// <inheritdoc/>
    public bool IsEnabled(LogLevel logLevel) => inner.IsEnabled(logLevel);

    /// <inheritdoc/>
    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        var heldBack = 0;
        if (logLevel >= LogLevel.Information && !TryTake(out heldBack))
        {
            return;
        }

        if (heldBack > 0)
        {
            VhostUser.Log.MessagesHeldBack(inner, heldBack);
        }

        inner.Log(logLevel, eventId, state, exception, formatter);
    }

    private bool TryTake(out int heldBack)
    {
        lock (_gate)
        {
            heldBack = 0;
            if (time.GetElapsedTime(_periodStart) >= Period)
            {
                _periodStart = time.GetTimestamp();
                _messages = 0;
                (heldBack, _heldBack) = (_heldBack, 0);
            }

            if (_messages == MessagesPerPeriod)
            {
                _heldBack++;
                return false;
            }

            _messages++;
            return true;
        }
    }
}
