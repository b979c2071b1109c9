using System.Diagnostics;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// What travels from I/O to completion: the slots whose requests ended in one turn, from whatever batches. So a slow request never
/// delays the others of its batch.
/// </summary>
[DebuggerDisplay("{Count} completions")]
public sealed class CompletionBurst
{
    private readonly ushort[] _slots;

    internal CompletionBurst(int capacity) => _slots = new ushort[capacity];

    /// <summary>Requests in the burst.</summary>
    public int Count { get; private set; }

    /// <summary>The slots, in the order their requests ended.</summary>
    public ReadOnlySpan<ushort> Slots => _slots.AsSpan(0, Count);

    /// <summary>When it set out, as a timestamp; 0 if that is not measured.</summary>
    internal long EndedAt { get; set; }

    internal void Add(ushort slot) => _slots[Count++] = slot;

    internal void Clear()
    {
        Count = 0;
        EndedAt = 0;
    }
}

/// <summary>
/// Bursts for reuse. One suffices while completion follows at once; stages linked in between may hold more. Owned by the queue's thread.
/// </summary>
internal sealed class BurstPool(int burstCapacity)
{
    private readonly Stack<CompletionBurst> _more = new();

    // The one that suffices mostly.
    private CompletionBurst? _free;

    public CompletionBurst Rent()
    {
        if (_free is { } burst)
        {
            _free = null;
            return burst;
        }

        return _more.TryPop(out CompletionBurst? other) ? other : new CompletionBurst(burstCapacity);
    }

    public void Return(CompletionBurst burst)
    {
        burst.Clear();
        if (_free == null)
        {
            _free = burst;
        }
        else
        {
            _more.Push(burst);
        }
    }
}
