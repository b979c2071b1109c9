using VirtioBlkFlow.Frontend.Ring;

namespace VirtioBlkFlow.Frontend.Load.Rings;

/// <summary>
/// A driver's ring for chains that stay where they are: each slot has one chain, written when its shape changes and otherwise only made
/// available again. Implemented by structs, so that the load loop is compiled for each of them with nothing in between. Owned by one
/// thread; allocates nothing after construction.
/// </summary>
internal interface ILoadRing
{
    /// <summary>Whether a used chain can be taken. Cheap enough to spin on.</summary>
    bool HasUsed { get; }

    /// <summary>Whether calls stay suppressed by themselves until they are asked for again: with EVENT_IDX in a split ring.</summary>
    bool CallsLapse { get; }

    /// <summary>Writes the chain of a slot that is not in flight.</summary>
    void SetChain(int slot, ReadOnlySpan<DriverBuffer> chain);

    /// <summary>Makes a slot's chain the next available one. The device does not see it before <see cref="Publish"/>.</summary>
    void Add(int slot);

    /// <summary>Makes all that was added visible with one store.</summary>
    /// <returns>True when the device must be kicked.</returns>
    bool Publish();

    /// <summary>Takes the next used chain.</summary>
    /// <param name="slot">Its slot; out of range or not in flight if the device is broken, which is for the caller to check.</param>
    /// <param name="writtenBytes">What the device says it has written.</param>
    bool TryTake(out uint slot, out uint writtenBytes);

    /// <summary>Asks for no calls.</summary>
    void SuppressCalls();

    /// <summary>Asks for a call at the next used chain.</summary>
    /// <returns>True when one was used meanwhile: then do not sleep, no call may come for it.</returns>
    bool RequestCalls();
}
