using System.Diagnostics;

namespace VirtioBlkFlow.Frontend;

/// <summary>
/// A point in time something must have happened by. Every wait of the front-end has one: against a broken back-end it
/// fails with a sentence, and never hangs.
/// </summary>
public readonly struct Deadline
{
    private readonly long _timestamp;

    private Deadline(long timestamp) => _timestamp = timestamp;

    /// <summary>The deadline that is some milliseconds away.</summary>
    public static Deadline In(int milliseconds) =>
        new(Stopwatch.GetTimestamp() + (milliseconds * Stopwatch.Frequency / 1000));

    /// <summary>Milliseconds left, rounded up so that a wait does not end early; 0 when it has passed.</summary>
    public int RemainingMs
    {
        get
        {
            long ticks = _timestamp - Stopwatch.GetTimestamp();
            return ticks <= 0 ? 0 : (int)Math.Min(int.MaxValue, ((ticks * 1000) + Stopwatch.Frequency - 1) / Stopwatch.Frequency);
        }
    }

    /// <summary>Whether it has passed.</summary>
    public bool HasPassed => Stopwatch.GetTimestamp() >= _timestamp;
}
