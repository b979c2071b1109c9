namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// What the thread of a queue has done since its device was made. Written by that thread alone, or by its successor after it has ended.
/// </summary>
internal sealed class ThreadCounters
{
    private ulong _systemCallsBefore;
    private ulong _systemCalls;
    private ulong _spins;
    private ulong _fruitfulSpins;
    private ulong _sleeps;

    /// <summary>Another engine begins to count from 0.</summary>
    public void BeginEngine() => _systemCallsBefore = _systemCalls;

    /// <summary>The engine has made so many system calls so far.</summary>
    public void NoteSystemCalls(ulong count) => _systemCalls = _systemCallsBefore + count;

    /// <summary>The thread spun.</summary>
    public void CountSpin(bool found)
    {
        _spins++;
        _fruitfulSpins += found ? 1u : 0;
    }

    /// <summary>The thread slept.</summary>
    public void CountSleep() => _sleeps++;

    /// <summary>Copies all. From any thread.</summary>
    public ThreadCounts Copy() => new(
        Volatile.Read(ref _systemCalls), Volatile.Read(ref _spins), Volatile.Read(ref _fruitfulSpins), Volatile.Read(ref _sleeps));
}
