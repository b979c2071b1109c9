using System.Diagnostics;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>What a reactor does before it sleeps.</summary>
public enum PollMode
{
    /// <summary>Spins for a short while, and less often where that does not pay.</summary>
    Adaptive,

    /// <summary>Spins for ever: lowest latency, one core for each queue.</summary>
    Always,

    /// <summary>Never spins: least CPU.</summary>
    Never,
}

/// <summary>
/// Decides whether to spin before sleeping. A wake across cores costs about 20 µs on either side, so a short spin is cheaper if something
/// comes; where driver and reactor share a core it only keeps the driver from running. So after a spin for nothing, the next idles go
/// without: 1, 2, 4 … 256 of them, back to none after a success.
/// </summary>
/// <remarks>
/// Idles after something was returned are counted apart from others. A driver that polls answers a completion within a microsecond, and a
/// disk may take longer than any spin: what is known of one says nothing of the other. See docs/decisions/0027. Owned by the reactor's thread.
/// </remarks>
internal sealed class SpinPolicy(PollMode mode)
{
    /// <summary>How long to spin, in microseconds. Measured: 20 to 50 µs give QD1 latency of 10 instead of 46 µs at half the CPU.</summary>
    public const int SpinMicroseconds = 32;

    /// <summary>Most idles in a row that go without a spin.</summary>
    public const int MaxSkips = 256;

    // A thread that looks every 200 ns and has not looked for so long was not running: whoever came meanwhile needed the processor for it.
    private const int AwayMicroseconds = 10;

    // Successes that are believed after one that was proven: a look at the clock costs a tenth of a request. Arbitrary.
    private const int BelievedSuccesses = 63;

    private static readonly long s_spinTicks = Stopwatch.Frequency * SpinMicroseconds / 1_000_000;
    private static readonly long s_awayTicks = Stopwatch.Frequency * AwayMicroseconds / 1_000_000;

    private BackOff _afterReturn;
    private BackOff _otherwise;
    private bool _hasReturned;

    /// <summary>Whether to spin now.</summary>
    /// <param name="hasReturned">Whether the last turn that did anything returned requests to the driver, which may now have others.</param>
    public bool ShouldSpin(bool hasReturned)
    {
        if (mode != PollMode.Adaptive)
        {
            return mode == PollMode.Always;
        }

        _hasReturned = hasReturned;
        return Current.ShouldTry();
    }

    /// <summary>Until when to spin, as a <see cref="Stopwatch"/> timestamp.</summary>
    public long Deadline() => mode == PollMode.Always ? long.MaxValue : Stopwatch.GetTimestamp() + s_spinTicks;

    /// <summary>The spin found something.</summary>
    /// <param name="lookedAt">When it had last found nothing, as a timestamp; 0 if there was something at once.</param>
    public void OnFound(long lookedAt)
    {
        ref BackOff current = ref Current;
        if (lookedAt == 0 || current.TryBelieve())
        {
            // Where there was no spin there is nothing to learn.
            return;
        }

        if (Stopwatch.GetTimestamp() - lookedAt > s_awayTicks)
        {
            current.OnFailure();
        }
        else
        {
            current.OnSuccess();
        }
    }

    /// <summary>The spin was for nothing.</summary>
    public void OnFruitless() => Current.OnFailure();

    private ref BackOff Current => ref _hasReturned ? ref _afterReturn : ref _otherwise;

    private struct BackOff
    {
        private int _skipsAfterFailure;
        private int _skipsLeft;
        private int _believedLeft;

        public bool ShouldTry()
        {
            if (_skipsLeft > 0)
            {
                _skipsLeft--;
                return false;
            }

            return true;
        }

        public bool TryBelieve()
        {
            if (_believedLeft == 0)
            {
                return false;
            }

            _believedLeft--;
            return true;
        }

        public void OnSuccess()
        {
            _skipsAfterFailure = 0;
            _believedLeft = BelievedSuccesses;
        }

        public void OnFailure()
        {
            _believedLeft = 0;
            _skipsAfterFailure = Math.Min(MaxSkips, Math.Max(1, _skipsAfterFailure * 2));
            _skipsLeft = _skipsAfterFailure;
        }
    }
}
