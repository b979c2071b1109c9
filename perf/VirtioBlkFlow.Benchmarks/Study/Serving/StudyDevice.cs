using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Benchmarks.Study.Serving;

/// <summary>
/// A virtio-blk device with one queue behind vhost-user, served by any variant but the pipeline. It offers what the real device offers for the
/// same disk and options, by the real device's own code. What its session does not offer (a dirty log, an inflight area, a state to save) it
/// is never asked for. Owned by the session's thread.
/// </summary>
internal sealed class StudyDevice : IVhostUserBackend, IDisposable
{
    private readonly Variant _variant;
    private readonly IDisk _disk;
    private readonly BlkOffer _offer;
    private StudyQueue? _queue;
    private IFrontendNotifications? _frontend;

    /// <param name="variant">Who serves the queue.</param>
    /// <param name="disk">Where the sectors are; stays the caller's.</param>
    /// <param name="options">What to offer.</param>
    /// <exception cref="OfferException">The options ask for what this disk cannot have.</exception>
    public StudyDevice(Variant variant, IDisk disk, BlkDeviceOptions options)
    {
        _variant = variant;
        _disk = disk;
        _offer = new BlkOffer(disk.Properties, options);
    }

    /// <inheritdoc/>
    public ulong OfferedFeatures => _offer.Features;

    /// <inheritdoc/>
    public int QueueCount => _offer.QueueCount;

    /// <inheritdoc/>
    public void Attached(IFrontendNotifications frontend) => _frontend = frontend;

    /// <inheritdoc/>
    public bool TrySetFeatures(ulong features) =>
        (features & ~_offer.Features) == 0 && (features & _offer.RequiredFeatures) == _offer.RequiredFeatures;

    /// <inheritdoc/>
    // A cache: what is written is durable after a flush.
    public void ReadConfig(uint offset, Span<byte> destination) => _offer.ReadConfig(writeback: 1, offset, destination);

    /// <inheritdoc/>
    public ConfigWriteOutcome WriteConfig(uint offset, ReadOnlySpan<byte> data, uint flags) => ConfigWriteOutcome.NotWritable;

    /// <inheritdoc/>
    public void StartQueue(int index, in QueueSetup setup)
    {
        int size = setup.Rings.Size;
        _queue ??= new StudyQueue(
            size,
            (virtqueue, engine, scheduler) => StudyBenches.Serve(
                _variant, virtqueue, _disk, engine, () => IoEngines.Create(IoEngineKind.IoUring, size), scheduler, _offer.Limits),
            () => _frontend?.ReportQueueBroken(0));
        _queue.Start(setup, MemoryOf(setup.Memory));
    }

    /// <inheritdoc/>
    public ushort StopQueue(int index) => _queue!.Stop();

    /// <inheritdoc/>
    public void ReplaceKick(int index, SafeFileHandle? kickDescriptor) => _queue!.ReplaceKick(kickDescriptor);

    /// <inheritdoc/>
    public void ReplaceCall(int index, SafeFileHandle? callDescriptor) => _queue!.ReplaceCall(callDescriptor);

    /// <inheritdoc/>
    // That a ring is broken is reported through the front-end's own channel alone.
    public void ReplaceError(int index, SafeFileHandle? errorDescriptor)
    {
    }

    /// <inheritdoc/>
    public void ReplaceMemory(GuestMemoryTable table, ReadOnlySpan<QueueRings> runningQueues)
    {
        foreach (ref readonly QueueRings rings in runningQueues)
        {
            _queue!.ReplaceMemory(MemoryOf(table), ReactorQueue.AddressesOf(in rings));
        }
    }

    /// <inheritdoc/>
    public ulong InflightBytesFor(int queueCount, int queueSize, ulong features) => 0;

    /// <inheritdoc/>
    public void SetDirtyLog(DirtyLogMapping? log, ReadOnlySpan<LoggedUsedRing> loggedUsedRings)
    {
    }

    /// <inheritdoc/>
    public byte[] SaveState() => [];

    /// <inheritdoc/>
    public bool TryLoadState(ReadOnlySpan<byte> state) => false;

    /// <inheritdoc/>
    public void Reset()
    {
    }

    /// <inheritdoc/>
    public void Detached()
    {
        _frontend = null;
        Dispose();
    }

    /// <summary>Ends the thread. The queue must be stopped.</summary>
    public void Dispose()
    {
        _queue?.Dispose();
        _queue = null;
    }

    private static GuestMemory MemoryOf(GuestMemoryTable table) => new(
        table.Regions.Select(region => new Virtio.GuestMemoryRegion(region.GuestAddress, region.LengthBytes, region.HostAddress)));
}
