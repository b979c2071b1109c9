using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>What a queue under load is made of; all of it belongs to the queue's thread once it runs.</summary>
/// <param name="Options">The load.</param>
/// <param name="Queue">Ring and descriptors.</param>
/// <param name="Slots">The requests' memory.</param>
/// <param name="Source">Which requests to make.</param>
/// <param name="Contents">What to verify with; null for not at all.</param>
/// <param name="Watch">What to wait for.</param>
/// <param name="RatePerSecond">Requests due in a second on this queue; 0 for a closed loop.</param>
/// <param name="Partner">A device to be served by the queue's own thread, instead of a back-end; null for a real one.</param>
internal sealed record LoadQueueParts(
    LoadOptions Options,
    FrontendQueue Queue,
    LoadSlots Slots,
    RequestSource Source,
    VerifiedContents? Contents,
    QueueWatch Watch,
    double RatePerSecond,
    LoopbackDevice? Partner);
