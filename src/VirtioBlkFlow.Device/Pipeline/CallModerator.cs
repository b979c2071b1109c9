using System.Diagnostics;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>Holds calls back within the bounds of a <see cref="CallModeration"/>. Owned by the queue's thread.</summary>
internal sealed class CallModerator(CallModeration bounds)
{
    // Fixed at construction.
    private readonly long _waitTicks = Math.Max(1, Stopwatch.Frequency * bounds.Microseconds / 1_000_000);

    // Owned by the queue's thread.
    private int _completions;
    private long _deadline;

    /// <summary>Whether a call waits.</summary>
    public bool IsHolding => _completions > 0;

    /// <summary>Completions were published.</summary>
    /// <param name="isWanted">Whether the driver wants to be called for them.</param>
    /// <param name="completions">How many.</param>
    /// <param name="inFlight">Requests of the queue that have not completed.</param>
    /// <returns>Whether to call now.</returns>
    public bool OnPublished(bool isWanted, int completions, int inFlight)
    {
        if (!isWanted && !IsHolding)
        {
            return false;
        }

        long now = Stopwatch.GetTimestamp();
        if (!IsHolding)
        {
            _deadline = now + _waitTicks;
        }

        _completions += completions;
        return (inFlight == 0 || _completions >= bounds.Completions || now >= _deadline) && TryRelease();
    }

    /// <summary>Whether a call has waited long enough.</summary>
    public bool IsDue(long now) => IsHolding && now >= _deadline;

    /// <summary>The call that waits is made now; none waits any more.</summary>
    /// <returns>Whether there was one.</returns>
    public bool TryRelease()
    {
        bool held = IsHolding;
        _completions = 0;
        return held;
    }

    /// <summary>How long the call may still wait, in nanoseconds; negative if none does.</summary>
    public long NanosecondsLeft() =>
        IsHolding ? Math.Max(0, (_deadline - Stopwatch.GetTimestamp()) * 1_000_000_000 / Stopwatch.Frequency) : -1;
}
