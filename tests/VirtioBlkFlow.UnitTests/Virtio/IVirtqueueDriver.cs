using VirtioBlkFlow.Frontend.Ring;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>The driver side of a ring of either kind, for tests of what both kinds have in common.</summary>
internal interface IVirtqueueDriver
{
    bool HasUsed { get; }

    bool TryAdd(ReadOnlySpan<DriverBuffer> chain, out ushort id);

    bool TryAddIndirect(ReadOnlySpan<DriverBuffer> chain, out ushort id);

    /// <summary>Makes available what was added; true when the device must be kicked.</summary>
    bool Publish();

    bool TryTakeUsed(out ushort id, out uint writtenBytes);

    void SuppressCalls();

    /// <summary>True when a chain was used meanwhile.</summary>
    bool RequestCalls();
}

/// <summary>The front-end's split ring as such a driver.</summary>
internal sealed class SplitTestDriver(SplitDriverRing ring) : IVirtqueueDriver
{
    public bool HasUsed => ring.HasUsed;

    public bool TryAdd(ReadOnlySpan<DriverBuffer> chain, out ushort id) => ring.TryAdd(chain, out id);

    public bool TryAddIndirect(ReadOnlySpan<DriverBuffer> chain, out ushort id) => ring.TryAddIndirect(chain, out id);

    public bool Publish() => ring.Publish();

    public bool TryTakeUsed(out ushort id, out uint writtenBytes)
    {
        bool any = ring.TryTakeUsed(out UsedChain used);
        (id, writtenBytes) = (used.Head, used.WrittenBytes);
        return any;
    }

    public void SuppressCalls() => ring.SuppressCalls();

    public bool RequestCalls() => ring.RequestCalls();
}
