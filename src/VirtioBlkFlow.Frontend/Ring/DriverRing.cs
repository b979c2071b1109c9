using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Frontend.Ring;

/// <summary>
/// The driver side of a virtqueue, split or packed: makes chains available, takes used ones back, decides about kicks and asks for calls.
/// Owned by one thread. Nothing is allocated after construction.
/// </summary>
/// <remarks>
/// It trusts the device no more than the device trusts it: each chain must come back exactly once, else <see cref="TryTakeUsed"/> throws.
/// </remarks>
public abstract unsafe class DriverRing
{
    /// <summary>Takes down what both formats need.</summary>
    /// <param name="queueSize">Entries, checked by the format.</param>
    /// <param name="features">What was negotiated.</param>
    /// <param name="options">What the driver does of its own will.</param>
    private protected DriverRing(int queueSize, VirtioFeatures features, DriverRingOptions options)
    {
        QueueSize = queueSize;
        FreeDescriptorCount = queueSize;
        UsesEventIndex = (features & VirtioFeatures.VIRTIO_RING_F_EVENT_IDX) != 0;
        IsInOrder = (features & VirtioFeatures.VIRTIO_F_IN_ORDER) != 0;
        IndirectEntries = (features & VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC) != 0 ? options.IndirectEntries : 0;
        AcceptsInOrderBatches = options.AcceptInOrderBatches;
    }

    /// <summary>Entries in the ring.</summary>
    public int QueueSize { get; }

    /// <summary>Guest-physical address of the descriptors.</summary>
    public abstract ulong DescriptorAreaAddress { get; }

    /// <summary>Guest-physical address of what the driver writes: the available ring, or its event suppression.</summary>
    public abstract ulong DriverAreaAddress { get; }

    /// <summary>Guest-physical address of what the device writes: the used ring, or its event suppression.</summary>
    public abstract ulong DeviceAreaAddress { get; }

    /// <summary>Descriptors no chain uses.</summary>
    public int FreeDescriptorCount { get; private protected set; }

    /// <summary>Chains added and not taken back.</summary>
    public int InFlightCount { get; private protected set; }

    /// <summary>Entries of the indirect table each chain may have; 0 without INDIRECT_DESC.</summary>
    public int IndirectEntries { get; }

    /// <summary>Whether a used chain can be taken. Cheap enough to spin on.</summary>
    public abstract bool HasUsed { get; }

    /// <summary>
    /// What SET_VRING_BASE carries for a device that begins, or goes on after a clean stop with nothing in flight
    /// (vhost-user.rst, "Vring descriptor indices for packed virtqueues").
    /// </summary>
    public abstract uint Base { get; }

    /// <summary>
    /// What QEMU sends to the back-end that follows a crashed one. Split: <c>used.idx</c> as it is in the ring. Packed: QEMU has nothing to
    /// tell it from; this is the place of the next used descriptor, as far as the driver has looked.
    /// </summary>
    public abstract uint BaseAfterCrash { get; }

    // Whether used_event and avail_event, or their packed forms, hold.
    private protected bool UsesEventIndex { get; }

    private protected bool IsInOrder { get; }

    private protected bool AcceptsInOrderBatches { get; }

    /// <summary>Places a ring of the negotiated format in guest memory.</summary>
    /// <param name="memory">Where to.</param>
    /// <param name="queueSize">Entries: up to 32768; a power of two if the ring is split.</param>
    /// <param name="features">What was negotiated: RING_PACKED, EVENT_IDX, INDIRECT_DESC and IN_ORDER count here.</param>
    /// <param name="options">What the driver does of its own will.</param>
    public static DriverRing Create(SharedMemory memory, int queueSize, VirtioFeatures features, DriverRingOptions? options = null)
    {
        options ??= new DriverRingOptions();
        return (features & VirtioFeatures.VIRTIO_F_RING_PACKED) != 0
            ? new PackedDriverRing(memory, queueSize, features, options)
            : new SplitDriverRing(memory, queueSize, features, options);
    }

    /// <summary>Makes a chain of descriptors in the ring itself. The device does not see it before <see cref="Publish"/>.</summary>
    /// <param name="chain">The buffers, at least one.</param>
    /// <param name="head">Names the chain until it comes back: from 0 to <see cref="QueueSize"/> - 1.</param>
    /// <returns>False, with nothing done, when there are not enough free descriptors.</returns>
    public bool TryAdd(ReadOnlySpan<DriverBuffer> chain, out ushort head) => TryAddMixed(chain, [], out head);

    /// <summary>
    /// The same with the buffers in an indirect table of the chain's own (VIRTIO 1.4, "Indirect Descriptors"): one descriptor of the ring.
    /// </summary>
    /// <param name="chain">The buffers, at least one, at most <see cref="IndirectEntries"/>.</param>
    /// <param name="head">Names the chain until it comes back.</param>
    /// <returns>False, with nothing done, when there is no free descriptor.</returns>
    public bool TryAddIndirect(ReadOnlySpan<DriverBuffer> chain, out ushort head) => TryAddMixed([], chain, out head);

    /// <summary>The same with some buffers in the ring, and the rest in an indirect table that follows: split rings only.</summary>
    /// <param name="direct">Buffers for the ring; may be empty.</param>
    /// <param name="indirect">Buffers for the indirect table; may be empty, and then there is none.</param>
    /// <param name="head">Names the chain until it comes back.</param>
    /// <returns>False, with nothing done, when there are not enough free descriptors.</returns>
    public abstract bool TryAddMixed(ReadOnlySpan<DriverBuffer> direct, ReadOnlySpan<DriverBuffer> indirect, out ushort head);

    /// <summary>Makes all chains added so far visible with one store, and decides whether the device wants a kick.</summary>
    /// <returns>True when the device must be kicked.</returns>
    public abstract bool Publish();

    /// <summary>Takes the next used chain, in the order the device used them, and frees its descriptors.</summary>
    /// <returns>False when there is none.</returns>
    /// <exception cref="DeviceBrokeRingException">The device broke a rule; the message names it.</exception>
    public abstract bool TryTakeUsed(out UsedChain used);

    /// <summary>Asks the device for no calls, because the ring is polled. A hint: a call may come nevertheless.</summary>
    public abstract void SuppressCalls();

    /// <summary>Asks the device for a call.</summary>
    /// <param name="afterChains">With EVENT_IDX: not before this many chains (packed: descriptors) more than the next one are used.</param>
    /// <returns>True when something was used meanwhile: then do not sleep, no call may come for it.</returns>
    public abstract bool RequestCalls(ushort afterChains = 0);

    /// <summary>
    /// A back-end ended without a clean stop. In a packed ring it may have left parts of a batch that it did not publish; the next one
    /// withdraws them by their flags, but what the slots held before is lost. So from now on nothing else counts of those in flight.
    /// </summary>
    public virtual void AfterCrash()
    {
    }

    private protected static ulong Place(SharedMemory memory, int lengthBytes, int alignmentBytes, out byte* host)
    {
        // Each part begins a cache line of its own: what the device writes and what the driver writes must not disturb one another.
        const int CacheLineBytes = 64;
        ulong address = memory.Allocate((ulong)lengthBytes, (ulong)Math.Max(alignmentBytes, CacheLineBytes));
        host = memory.Host(address, (ulong)lengthBytes);
        new Span<byte>(host, lengthBytes).Clear();
        return address;
    }
}
