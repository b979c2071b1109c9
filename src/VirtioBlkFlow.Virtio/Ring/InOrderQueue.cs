using System.Diagnostics;

namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>
/// The chains in flight of a queue with IN_ORDER, oldest first, and the written lengths of those that completed before an older one.
/// Owned by the queue's thread.
/// </summary>
internal sealed class InOrderQueue
{
    // A ring: as many chains as the queue has entries can be in flight.
    private readonly ushort[] _slots;
    private readonly uint[] _writtenBytesOfSlot;
    private int _oldest;
    private int _count;

    public InOrderQueue(int queueSize)
    {
        _slots = new ushort[queueSize];
        _writtenBytesOfSlot = new uint[queueSize];
    }

    /// <summary>A chain was taken from the ring.</summary>
    public void Add(ushort slot)
    {
        Debug.Assert(_count < _slots.Length, "More chains in flight than slots.");
        int end = _oldest + _count;
        _slots[end < _slots.Length ? end : end - _slots.Length] = slot;
        _count++;
    }

    /// <summary>Keeps the written length of a chain until its turn comes.</summary>
    public void HoldBack(ushort slot, uint writtenBytes) => _writtenBytesOfSlot[slot] = writtenBytes;

    /// <summary>The chain whose turn it is.</summary>
    public bool TryPeekOldest(out ushort slot)
    {
        slot = _slots[_oldest];
        return _count > 0;
    }

    /// <summary>Its turn came.</summary>
    /// <returns>The written length that was kept for it.</returns>
    public uint RemoveOldest()
    {
        ushort slot = _slots[_oldest];
        _oldest = _oldest + 1 == _slots.Length ? 0 : _oldest + 1;
        _count--;
        return _writtenBytesOfSlot[slot];
    }
}
