using VirtioBlkFlow.Virtio.Inflight;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>The end of a process, simulated: what it stored stays, everything else is gone.</summary>
internal sealed class SimulatedCrash : Exception;

/// <summary>Counts stores to shared memory and ends the process's life right after one of them.</summary>
internal sealed class CrashClock(int storesToLive)
{
    private int _left = storesToLive;

    /// <summary>A clock that never strikes.</summary>
    public static CrashClock Never => new(int.MaxValue);

    public StoreObserver Observer => new(this);

    /// <summary>One store has just been made.</summary>
    public void Tick()
    {
        if (--_left == 0)
        {
            throw new SimulatedCrash();
        }
    }

    internal readonly struct StoreObserver(CrashClock clock) : IStoreObserver
    {
        public void Stored() => clock.Tick();
    }
}
