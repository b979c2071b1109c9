using VirtioBlkFlow.Frontend.Ring;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>A chain as a model of a device has fetched it. Slots: how many descriptors of the ring it takes; 1 for a split ring's element.</summary>
internal sealed record ModelChain(ushort Id, int Slots, IReadOnlyList<DriverBuffer> Buffers);

/// <summary>The device side of a ring in the plainest words of the specification: it trusts the driver, allocates, and is slow.</summary>
internal interface IModelDevice
{
    bool TryPop(out ModelChain chain);

    /// <summary>Uses chains as one batch: the driver sees all or none.</summary>
    /// <returns>Whether the driver wants a call.</returns>
    bool Use(params ReadOnlySpan<(ModelChain Chain, uint WrittenBytes)> batch);

    void SuppressKicks();

    /// <summary>Asks for a kick for the next chain.</summary>
    /// <returns>True when one came meanwhile.</returns>
    bool RequestKicks();

    /// <summary>What the next incarnation goes on from, with some chains fetched and not used.</summary>
    IModelDevice Successor(IEnumerable<ModelChain> inFlight);
}
