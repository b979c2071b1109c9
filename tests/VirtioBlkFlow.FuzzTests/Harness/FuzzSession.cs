using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.FuzzTests.Target;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>
/// A connection that was negotiated as it should be, with the hostile area and a memory of its own beside it, in which an honest driver
/// runs on queue 1: the proof of life. Owned by one thread.
/// </summary>
internal sealed class FuzzSession : IDisposable
{
    /// <summary>How long an answer may take, in milliseconds. Arbitrary; the machine may be busy with other things.</summary>
    public static int DeadlineMs { get; set; } = 10_000;

    private const uint HonestQueue = 1;

    // Above all of the hostile area.
    private const ulong OwnStart = 1ul << 32;

    private readonly FuzzTarget _target;
    private readonly FrontendQueue _queue = null!;
    private readonly BlkDriver _driver = null!;
    private readonly byte[] _read = new byte[BlkRequest.SectorBytes];
    private int _proofs;

    private FuzzSession(FuzzTarget target, GuestArea? area, NegotiationOptions options, bool hasHonestQueue = true)
    {
        _target = target;
        Frontend = VhostUserFrontend.Connect(target.SocketPath, DeadlineMs);
        Own = new SharedMemory(new SharedRegionOptions(OwnStart, 128 << 10));
        try
        {
            Negotiation = Negotiation.Run(Frontend, options);
            SendMemory(area);
            if (!hasHonestQueue)
            {
                return;
            }

            _queue = new FrontendQueue(Own, (int)HonestQueue, 16, Negotiation.RingFeatures);
            _driver = new BlkDriver(Own, _queue, new BlkDriverOptions { MaxTransferBytes = 4096, TimeoutMs = DeadlineMs });
            Negotiation.StartQueues(Frontend, _queue);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public VhostUserFrontend Frontend { get; }

    public Negotiation Negotiation { get; } = null!;

    /// <summary>The honest driver's memory.</summary>
    public SharedMemory Own { get; }

    /// <summary>Connects, negotiates, starts the honest queue.</summary>
    public static FuzzSession Open(FuzzTarget target, GuestArea? area, FuzzRandom random) => new(target, area, new NegotiationOptions
    {
        Features = VirtioFeatures.VIRTIO_F_VERSION_1
            | (random.OneIn(8) ? 0 : VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC)
            | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)
            | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_F_RING_PACKED)
            | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_F_IN_ORDER),
        PreferMemorySlots = random.OneIn(2),
    });

    /// <summary>Connects and negotiates. No queue runs.</summary>
    public static FuzzSession OpenWithoutHonestQueue(FuzzTarget target, GuestArea area, NegotiationOptions options) =>
        new(target, area, options, hasHonestQueue: false);

    /// <summary>A front-end that behaves connects, reads a sector that nobody writes, and leaves.</summary>
    public static void ProveLife(FuzzTarget target)
    {
        target.RequireServing();
        using FuzzSession session = new(target, null, new NegotiationOptions());
        session.ProveLife();
    }

    /// <summary>The honest queue reads a sector that nobody writes.</summary>
    public void ProveLife()
    {
        int sector = _proofs++ % DiskImage.PlaygroundStart;
        BlkStatus status = _driver.Read((ulong)sector, _read);
        if (status != BlkStatus.VIRTIO_BLK_S_OK || !_target.Image.Expected(sector, _read.Length).SequenceEqual(_read))
        {
            throw new FindingException(FindingKind.WrongAnswer, $"The honest queue reads sector {sector} with status {status}, and not what the image holds.");
        }
    }

    public void Dispose()
    {
        Frontend.Dispose();
        _queue?.Dispose();
        Own.Dispose();
    }

    private void SendMemory(GuestArea? area)
    {
        List<(MemoryRegion Region, SafeFileHandle File)> regions = [(VhostUserFrontend.Describe(Own.Regions[0]), Own.Regions[0].Handle)];
        if (area is not null)
        {
            regions.AddRange(GuestArea.Regions.Select(region => (region, area.Handle)));
        }

        if (Negotiation.UsesMemorySlots)
        {
            regions.ForEach(region => Ask(FrontendRequest.ADD_MEM_REG, MemoryMessages.Single(region.Region), region.File));
        }
        else
        {
            Ask(FrontendRequest.SET_MEM_TABLE, MemoryMessages.Table([.. regions.Select(region => region.Region)]), [.. regions.Select(region => region.File)]);
        }
    }

    private void Ask(FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors)
    {
        Frontend.Send(request, payload, descriptors, needReply: true);
        if (!Frontend.ReceiveReply(request).TryReadPayload(out ulong answer) || answer != 0)
        {
            throw new FindingException(FindingKind.WrongAnswer, $"A valid {request} is refused.");
        }
    }
}
