using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Blk;

/// <summary>How a driver learns that requests are used.</summary>
public enum CompletionWait
{
    /// <summary>It sleeps on the call eventfd, which it asks for only when there is nothing left to take.</summary>
    Call,

    /// <summary>It looks at the used ring without end, and asks for no calls.</summary>
    Poll,
}

/// <summary>How a driver uses its queue.</summary>
public sealed record BlkDriverOptions
{
    /// <summary>Requests that can be in flight at once.</summary>
    public int QueueDepth { get; init; } = 1;

    /// <summary>Size of the data buffer each of them owns, in bytes.</summary>
    public int MaxTransferBytes { get; init; } = 64 * 1024;

    /// <summary>Whether requests go into indirect tables, if the queue has them.</summary>
    public bool UseIndirect { get; init; }

    /// <summary>How to learn of completions.</summary>
    public CompletionWait Wait { get; init; } = CompletionWait.Call;

    /// <summary>How long a request may take, in milliseconds. Generous and arbitrary.</summary>
    public int TimeoutMs { get; init; } = 10_000;
}

/// <summary>A request that came back.</summary>
/// <param name="Slot">The slot it was submitted from; its data buffer still holds what was read, until the slot is used again.</param>
/// <param name="Tag">What the submitter called it.</param>
/// <param name="Status">The status byte.</param>
/// <param name="UsedBytes">The used length.</param>
public readonly record struct BlkCompletion(int Slot, ulong Tag, BlkStatus Status, uint UsedBytes);
