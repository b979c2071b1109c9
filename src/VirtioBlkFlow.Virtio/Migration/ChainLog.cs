using System.Diagnostics;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Virtio.Migration;

/// <summary>Marks what the completions of one virtqueue write: the shared log and the queue's own memory of its chains.</summary>
internal sealed class ChainLog(DirtyLog log, int queueSize) : IDisposable
{
    private readonly DirtyTracker _tracker = new(queueSize);

    /// <summary>A chain was popped.</summary>
    public void Remember(ushort slot, in DescriptorChain chain)
    {
        if (!_tracker.TryRemember(slot, in chain))
        {
            // The tracker has as many lists as the queue, and the queue had one for this chain.
            throw new UnreachableException("No memory to remember a chain, though there was some to list it.");
        }
    }

    /// <summary>
    /// A chain is done: marks its pages. Pages the log has no bit for are the front-end's mistake; <see cref="DirtyLog"/> counts them.
    /// </summary>
    public void MarkCompleted(ushort slot, uint touchedBytes, GuestMemory memory) => _tracker.MarkCompleted(slot, touchedBytes, memory, log);

    public void Dispose() => _tracker.Dispose();
}
