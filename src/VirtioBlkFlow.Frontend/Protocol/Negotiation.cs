using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>What a front-end wants of a back-end; what is not offered is not taken.</summary>
public sealed record NegotiationOptions
{
    /// <summary>Ring and transport features to take.</summary>
    public VirtioFeatures Features { get; init; } =
        VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;

    /// <summary>Features of the block device to take; by default all we know.</summary>
    public BlkFeatures BlkFeatures { get; init; } = Enum.GetValues<BlkFeatures>().Aggregate((all, feature) => all | feature);

    /// <summary>Protocol features to take; by default those QEMU takes of a block device and this front-end acts on.</summary>
    public ProtocolFeatures ProtocolFeatures { get; init; } =
        ProtocolFeatures.MQ | ProtocolFeatures.LOG_SHMFD | ProtocolFeatures.REPLY_ACK | ProtocolFeatures.BACKEND_REQ | ProtocolFeatures.CONFIG
        | ProtocolFeatures.INFLIGHT_SHMFD | ProtocolFeatures.RESET_DEVICE | ProtocolFeatures.CONFIGURE_MEM_SLOTS | ProtocolFeatures.STATUS;

    /// <summary>Bytes of the configuration space to ask for, from its start.</summary>
    public int ConfigBytes { get; init; } = BlkConfig.SizeBytes;

    /// <summary>Whether memory goes region by region (ADD_MEM_REG) where both sides can, as with QEMU; else as a table.</summary>
    public bool PreferMemorySlots { get; init; } = true;
}

/// <summary>
/// What a front-end and a back-end have agreed on, by the messages QEMU 10.2 sends in its order: connect, features, memory. Immutable.
/// </summary>
public sealed class Negotiation
{
    private Negotiation(ulong offered, ulong features, ProtocolFeatures protocolFeatures, ulong queueCount, ulong memorySlots, BlkConfig config)
    {
        OfferedFeatures = offered;
        Features = features;
        ProtocolFeatures = protocolFeatures;
        QueueCount = (int)queueCount;
        MemorySlots = (int)memorySlots;
        Config = config;
    }

    /// <summary>The feature word as offered.</summary>
    public ulong OfferedFeatures { get; }

    /// <summary>The feature word as taken, bit 30 included.</summary>
    public ulong Features { get; }

    /// <summary>The ring and transport features in it.</summary>
    public VirtioFeatures RingFeatures => (VirtioFeatures)Features;

    /// <summary>The protocol features taken.</summary>
    public ProtocolFeatures ProtocolFeatures { get; }

    /// <summary>Most queues the back-end serves; 1 without MQ.</summary>
    public int QueueCount { get; }

    /// <summary>Regions it takes; 8 without CONFIGURE_MEM_SLOTS.</summary>
    public int MemorySlots { get; }

    /// <summary>The configuration space before the features were set; zeros without CONFIG.</summary>
    public BlkConfig Config { get; }

    /// <summary>Whether acknowledgements can be asked for.</summary>
    public bool CanAcknowledge => (ProtocolFeatures & ProtocolFeatures.REPLY_ACK) != 0;

    /// <summary>Whether queues begin disabled and SET_VRING_ENABLE is there.</summary>
    public bool HasProtocolFeatures => (Features & ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES) != 0;

    /// <summary>Negotiates, up to and with SET_FEATURES and the status.</summary>
    /// <param name="frontend">A fresh connection.</param>
    /// <param name="options">What to take.</param>
    /// <param name="channel">Where the back-end may send requests; null for nowhere.</param>
    /// <exception cref="BackendRefusedException">The back-end refuses the features.</exception>
    public static Negotiation Run(VhostUserFrontend frontend, NegotiationOptions options, BackendChannel? channel = null)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        ArgumentNullException.ThrowIfNull(options);
        ulong offered = frontend.GetFeatures();
        ProtocolFeatures protocol = ProtocolFeatures.None;
        bool hasProtocol = (offered & ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES) != 0;
        if (hasProtocol)
        {
            protocol = frontend.GetProtocolFeatures() & options.ProtocolFeatures;
            frontend.SetProtocolFeatures(protocol);
        }

        bool acknowledge = protocol.HasFlag(ProtocolFeatures.REPLY_ACK);
        ulong queues = protocol.HasFlag(ProtocolFeatures.MQ) ? frontend.GetQueueNum() : 1;
        ulong slots = protocol.HasFlag(ProtocolFeatures.CONFIGURE_MEM_SLOTS) ? frontend.GetMaxMemSlots() : ProtocolLimits.MaxTableRegions;
        if (channel is not null && protocol.HasFlag(ProtocolFeatures.BACKEND_REQ))
        {
            Require(frontend.SetBackendReqFd(channel, acknowledge), "SET_BACKEND_REQ_FD");
        }

        Require(frontend.SetOwner(acknowledge), "SET_OWNER");
        BlkConfig config = protocol.HasFlag(ProtocolFeatures.CONFIG) ? frontend.GetBlkConfig(options.ConfigBytes) : default;
        ulong wanted = (ulong)options.Features | (ulong)options.BlkFeatures | ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES;
        ulong features = offered & wanted;
        Require(frontend.SetFeatures(features, acknowledge), "SET_FEATURES");
        if (protocol.HasFlag(ProtocolFeatures.STATUS))
        {
            const DeviceStatus Ready = DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK;
            Require(frontend.SetStatus(Ready, acknowledge), "SET_STATUS");
            Require(frontend.GetStatus().HasFlag(DeviceStatus.FEATURES_OK) ? 0u : 1u, "the features, by clearing FEATURES_OK,");
        }

        return new Negotiation(offered, features, protocol, queues, slots, config)
        {
            UsesMemorySlots = options.PreferMemorySlots && protocol.HasFlag(ProtocolFeatures.CONFIGURE_MEM_SLOTS),
        };
    }

    /// <summary>Whether memory goes region by region.</summary>
    public bool UsesMemorySlots { get; private init; }

    /// <summary>Sends all of memory, by SET_MEM_TABLE or ADD_MEM_REG.</summary>
    /// <exception cref="BackendRefusedException">The back-end refuses.</exception>
    public void SendMemory(VhostUserFrontend frontend, SharedMemory memory)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        ArgumentNullException.ThrowIfNull(memory);
        if (!UsesMemorySlots)
        {
            Require(frontend.SetMemTable(memory, CanAcknowledge), "SET_MEM_TABLE");
            return;
        }

        foreach (SharedRegion region in memory.Regions)
        {
            Require(frontend.AddMemReg(region, CanAcknowledge), "ADD_MEM_REG");
        }
    }

    /// <summary>Starts the queues and says that the driver is ready.</summary>
    /// <exception cref="BackendRefusedException">The back-end refuses a step.</exception>
    public void StartQueues(VhostUserFrontend frontend, params ReadOnlySpan<FrontendQueue> queues)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        foreach (FrontendQueue queue in queues)
        {
            queue.Start(frontend, CanAcknowledge, enable: HasProtocolFeatures);
        }

        SendDriverOk(frontend);
    }

    /// <summary>Says that the driver is ready, where the status is agreed on.</summary>
    /// <exception cref="BackendRefusedException">The back-end refuses.</exception>
    public void SendDriverOk(VhostUserFrontend frontend)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        if (ProtocolFeatures.HasFlag(ProtocolFeatures.STATUS))
        {
            const DeviceStatus Running = DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK | DeviceStatus.DRIVER_OK;
            Require(frontend.SetStatus(Running, CanAcknowledge), "SET_STATUS");
        }
    }

    private static void Require(ulong acknowledgement, string step)
    {
        if (acknowledgement != 0)
        {
            throw new BackendRefusedException($"The back-end refuses {step} with {acknowledgement}.");
        }
    }
}
