using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>
/// A disk that keeps some requests, and stops the queue's thread in the middle of another: then nothing of that queue moves, as if its
/// process had been killed there. Without a plan it is the disk below. Used by one queue at a time.
/// </summary>
internal sealed class HeldDisk(IDisk disk) : IDisk
{
    private readonly ManualResetEventSlim _frozen = new();
    private readonly ManualResetEventSlim _thawed = new();

    // Shared: set while nothing is in flight.
    private volatile bool[]? _keep;
    private int _submitted;

    public DiskProperties Properties => disk.Properties;

    /// <summary>Says what becomes of the next requests. The one after those freezes the queue.</summary>
    /// <param name="keep">For each of them, whether it is kept until the thaw.</param>
    public void Plan(bool[] keep)
    {
        _frozen.Reset();
        _thawed.Reset();
        Volatile.Write(ref _submitted, 0);
        _keep = keep;
    }

    /// <summary>Waits until the queue's thread stands still.</summary>
    public bool WaitUntilFrozen(int timeoutMs) => _frozen.Wait(timeoutMs);

    /// <summary>Everything goes on, and what was kept is done.</summary>
    public void Thaw()
    {
        _keep = null;
        _thawed.Set();
    }

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(this, disk.OpenQueue(engine, completions, slotCount));

    public DiskOutcome Flush() => disk.Flush();

    public void Dispose()
    {
        disk.Dispose();
        _frozen.Dispose();
        _thawed.Dispose();
    }

    private sealed class Queue(HeldDisk held, IDiskQueue queue) : IDiskQueue
    {
        private readonly List<(int Slot, DiskRequest Request)> _kept = [];

        public void Submit(int slot, in DiskRequest request)
        {
            if (held._keep is { } keep)
            {
                int ordinal = Interlocked.Increment(ref held._submitted) - 1;
                if (ordinal < keep.Length && keep[ordinal])
                {
                    _kept.Add((slot, request));
                    return;
                }

                if (ordinal == keep.Length)
                {
                    held._frozen.Set();
                    held._thawed.Wait();
                    _kept.ForEach(kept => queue.Submit(kept.Slot, in kept.Request));
                    _kept.Clear();
                }
            }

            queue.Submit(slot, in request);
        }

        public void OnIoCompleted(int slot, int result) => queue.OnIoCompleted(slot, result);

        public void Dispose() => queue.Dispose();
    }
}
