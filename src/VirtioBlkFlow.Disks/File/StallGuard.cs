using System.Diagnostics;

namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// Decides when something that is mostly quick, but may block, is left to others: for a while after it was slow, twice as long if it is slow
/// again soon. A thread that lost its processor for a moment looks the same, so one slow time alone must not cost much.
/// </summary>
/// <remarks>Owned by one thread. Times are <see cref="Stopwatch"/> timestamps.</remarks>
internal sealed class StallGuard
{
    /// <summary>What counts as slow, in microseconds: as much as some hundred writes take, and less than what anybody notices. Arbitrary.</summary>
    public const int SlowMicroseconds = 1000;

    /// <summary>How many times as long as it was slow it is left to others, at first: so a tenth of the time is lost at most.</summary>
    public const int FirstRest = 10;

    /// <summary>The same at most.</summary>
    public const int LongestRest = 640;

    /// <summary>After so many quick ones in a row, some 20 ms of work, a slow one is the first again.</summary>
    public const int QuickToForget = 10_000;

    private static readonly long s_slow = Stopwatch.Frequency * SlowMicroseconds / 1_000_000;

    private long _restUntil = long.MinValue;
    private int _rest = FirstRest;
    private int _quick;

    /// <summary>Whether it may be done.</summary>
    public bool Allows(long now) => now >= _restUntil;

    /// <summary>It was done.</summary>
    public void OnEnded(long start, long end)
    {
        if (end - start < s_slow)
        {
            if (++_quick == QuickToForget)
            {
                _rest = FirstRest;
                _quick = 0;
            }

            return;
        }

        _restUntil = end + ((end - start) * _rest);
        _rest = Math.Min(_rest * 2, LongestRest);
        _quick = 0;
    }
}
