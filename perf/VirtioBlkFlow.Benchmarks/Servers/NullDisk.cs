using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>Names the code the pipeline runs; see <see cref="NullDisk{TUser}"/>.</summary>
internal struct ForPipeline;

/// <summary>Names the code a pipeline runs that measures otherwise than usual; see <see cref="NullDisk{TUser}"/>.</summary>
internal struct ForOtherPipeline;

/// <summary>Names the code the hand-written loop runs; see <see cref="NullDisk{TUser}"/>.</summary>
internal struct ForHand;

/// <summary>Names the code stock blocks on the reactor run; see <see cref="NullDisk{TUser}"/>.</summary>
internal struct ForStockBlocks;

/// <summary>Names the code batches on the thread pool run; see <see cref="NullDisk{TUser}"/>.</summary>
internal struct ForPoolBatches;

/// <summary>Names the code requests on the thread pool run; see <see cref="NullDisk{TUser}"/>.</summary>
internal struct ForPoolRequests;

/// <summary>A disk that completes each request inside Submit and touches no data.</summary>
/// <typeparam name="TUser">
/// A struct for each user, so that each has compiled code of its own: with two users of the same code in a process, the compiler would
/// bet on one of them at the call of OnCompleted, and the other would pay for it.
/// </typeparam>
internal sealed class NullDisk<TUser> : IDisk
    where TUser : struct
{
    public DiskProperties Properties { get; } = new() { CapacityBytes = 1UL << 30 };

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(completions);

    public DiskOutcome Flush() => DiskOutcome.Done;

    public void Dispose()
    {
    }

    private sealed class Queue(IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request) => completions.OnCompleted(slot, DiskOutcome.Done);

        public void OnIoCompleted(int slot, int result)
        {
        }

        public void Dispose()
        {
        }
    }
}
