using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>
/// A server that can also be put behind a socket: whose fetching can be stopped, and who says when there is nothing to do. All members are
/// for the one thread that has the ring, unless they say otherwise.
/// </summary>
/// <param name="virtqueue">The ring; becomes the server's.</param>
internal abstract class QueueServer(Virtqueue virtqueue) : BlkServer
{
    /// <summary>Whether requests are taken from the ring; cleared to drain.</summary>
    public bool IsFetching { get; set; } = true;

    /// <summary>Calls the driver; null if it polls.</summary>
    public virtual EventDescriptor? Call { get; set; }

    /// <summary>Whether a look at the ring would take something now. Cheap enough to spin on.</summary>
    public bool HasWork => CanFetch && Virtqueue.HasAvailable;

    /// <summary>Why the ring is broken, if it is.</summary>
    public RingDefect Defect => Virtqueue.Defect;

    /// <summary>Index of the next available entry.</summary>
    public ushort NextAvailable => Virtqueue.Position.NextAvailable;

    /// <summary>Index of the next used entry: moves on whenever something is returned.</summary>
    public ushort NextUsed => Virtqueue.Position.NextUsed;

    /// <inheritdoc/>
    public override int InFlightCount => Virtqueue.InFlightCount;

    /// <summary>The ring.</summary>
    protected Virtqueue Virtqueue { get; } = virtqueue;

    /// <summary>Whether what is available could be taken now.</summary>
    protected virtual bool CanFetch => IsFetching && Virtqueue.Defect == RingDefect.None;

    /// <summary>A turn that says whether it did anything.</summary>
    public abstract bool TryTurn();

    /// <inheritdoc/>
    public override void Turn() => TryTurn();

    /// <summary>Asks the driver for a kick, where that is of use.</summary>
    /// <returns>Whether something has become available meanwhile: do not sleep.</returns>
    public virtual bool RequestKicks() => CanFetch && Virtqueue.RequestKicks();

    /// <summary>Asks the driver for no kicks.</summary>
    public void SuppressKicks() => Virtqueue.SuppressKicks();

    /// <summary>Swaps in new memory. Nothing may be in flight.</summary>
    public void ReplaceMemory(GuestMemory memory, RingAddresses addresses) => Virtqueue.ReplaceMemory(memory, addresses);

    /// <summary>Hands the disk what the engine has finished. Signals only end a sleep.</summary>
    /// <returns>Whether there was anything.</returns>
    protected static bool Reap(IIoEngine engine, IDiskQueue disk)
    {
        if (!engine.HasCompletions)
        {
            return false;
        }

        Span<IoCompletion> completions = stackalloc IoCompletion[64];
        int count;
        bool any = false;
        do
        {
            count = engine.Reap(completions);
            any |= count > 0;
            for (int i = 0; i < count; i++)
            {
                if (completions[i].Kind == IoCompletionKind.Operation)
                {
                    disk.OnIoCompleted((int)completions[i].Token, completions[i].Result);
                }
            }
        }
        while (count == completions.Length);
        return any;
    }
}
