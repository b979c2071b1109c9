using System.Runtime.InteropServices;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// What one look at the ring found: the message of the variants that carry batches. Used again and again, so that a batch costs no
/// allocation. Belongs to the stage that holds it.
/// </summary>
internal sealed unsafe class Batch : IDisposable
{
    private readonly ushort[] _slots;
    private DescriptorChain* _chains;

    /// <param name="number">Which of the queue's batches it is.</param>
    /// <param name="capacity">Most requests in it.</param>
    public Batch(byte number, int capacity)
    {
        Number = number;
        Ended = Task.FromResult(this);
        _slots = new ushort[capacity];
        // calloc: pages that no batch is large enough for cost nothing.
        _chains = (DescriptorChain*)NativeMemory.AllocZeroed((nuint)capacity, (nuint)sizeof(DescriptorChain));
    }

    /// <summary>Which of the queue's batches it is.</summary>
    public byte Number { get; }

    /// <summary>Requests in it.</summary>
    public int Count { get; private set; }

    /// <summary>The slots, in the order the driver made them available.</summary>
    public ReadOnlySpan<ushort> Slots => _slots.AsSpan(0, Count);

    /// <summary>A task that has ended, for an I/O stage that needs not wait.</summary>
    public Task<Batch> Ended { get; }

    /// <summary>Requests the disk has not ended, and one more while they are being submitted.</summary>
    public int Outstanding { get; set; }

    /// <summary>What an I/O stage that waits is waiting for.</summary>
    public TaskCompletionSource<Batch>? Waiting { get; set; }

    /// <summary>Pops all there is.</summary>
    public void PopFrom(Virtqueue virtqueue)
    {
        virtqueue.Pop(_slots, _chains, out int count);
        Count = count;
    }

    /// <summary>Parses all that was popped.</summary>
    public void ParseInto(RequestBook book)
    {
        for (int i = 0; i < Count; i++)
        {
            book.Parse(in _chains[i]);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_chains);
        _chains = null;
    }
}
