using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>What front-ends say, as a list of messages, in an order that is legal: set-up of a queue, and things to say afterwards.</summary>
internal static class MessageScript
{
    /// <summary>What the script negotiates for the ring.</summary>
    public const VirtioFeatures RingFeatures = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC;

    private const ulong Features = (ulong)RingFeatures | ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES;

    private const ProtocolFeatures Protocol = ProtocolFeatures.MQ | ProtocolFeatures.REPLY_ACK | ProtocolFeatures.BACKEND_REQ
        | ProtocolFeatures.CONFIG | ProtocolFeatures.RESET_DEVICE | ProtocolFeatures.CONFIGURE_MEM_SLOTS | ProtocolFeatures.STATUS
        | ProtocolFeatures.LOG_SHMFD | ProtocolFeatures.INFLIGHT_SHMFD | ProtocolFeatures.DEVICE_STATE;

    private static readonly (FrontendRequest Request, int PayloadBytes, int Descriptors)[] s_notOffered =
    [
        (FrontendRequest.SEND_RARP, 8, 0), (FrontendRequest.NET_SET_MTU, 8, 0),
        (FrontendRequest.IOTLB_MSG, 32, 0), (FrontendRequest.SET_VRING_ENDIAN, 8, 0), (FrontendRequest.POSTCOPY_ADVISE, 0, 0),
        (FrontendRequest.POSTCOPY_LISTEN, 0, 0), (FrontendRequest.POSTCOPY_END, 0, 0),
        (FrontendRequest.VRING_KICK, 8, 0), (FrontendRequest.GET_SHARED_OBJECT, 16, 0), (FrontendRequest.GET_SHMEM_CONFIG, 0, 0),
    ];

    /// <summary>Everything up to a queue that runs; with a dirty log and a record of requests in flight, or without.</summary>
    public static List<WireMessage> SetUp(GuestArea area, HostileQueue queue, SharedAreas areas, FuzzRandom random, SafeFileHandle channel)
    {
        List<WireMessage> script =
        [
            Plain(FrontendRequest.GET_FEATURES),
            Plain(FrontendRequest.GET_PROTOCOL_FEATURES),
            WireMessage.Of(FrontendRequest.SET_PROTOCOL_FEATURES, (ulong)Protocol),
            Plain(FrontendRequest.GET_QUEUE_NUM),
            Plain(FrontendRequest.GET_MAX_MEM_SLOTS),
            new(FrontendRequest.SET_BACKEND_REQ_FD, [], channel),
            Plain(FrontendRequest.SET_OWNER),
            Config(FrontendRequest.GET_CONFIG, 0, 57),
            .. random.OneIn(3) ? [areas.Log()] : Array.Empty<WireMessage>(),
            WireMessage.Of(FrontendRequest.SET_FEATURES, Features | (random.OneIn(3) ? ProtocolLimits.VHOST_F_LOG_ALL : 0)),
            .. random.OneIn(3) ? [areas.Record(queue.Size)] : Array.Empty<WireMessage>(),
            WireMessage.Of(FrontendRequest.SET_STATUS, (ulong)(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK)),
        ];
        if (random.OneIn(2))
        {
            script.AddRange(GuestArea.Regions.Select(region => new WireMessage(FrontendRequest.ADD_MEM_REG, MemoryMessages.Single(region), area.Handle)));
        }
        else
        {
            script.Add(new WireMessage(
                FrontendRequest.SET_MEM_TABLE, MemoryMessages.Table([.. GuestArea.Regions]), [.. GuestArea.Regions.Select(_ => area.Handle)]));
        }

        script.AddRange(
        [
            State(FrontendRequest.SET_VRING_NUM, (uint)queue.Size),
            State(FrontendRequest.SET_VRING_BASE, queue.Base),
            WireMessage.Of(FrontendRequest.SET_VRING_ADDR, random.OneIn(2) ? HostileQueue.Address : HostileQueue.LoggedAddress),
            Event(FrontendRequest.SET_VRING_KICK, queue.Kick),
            Event(FrontendRequest.SET_VRING_CALL, queue.Call),
            Event(FrontendRequest.SET_VRING_ERR, queue.Error),
            State(FrontendRequest.SET_VRING_ENABLE, 1),
            WireMessage.Of(FrontendRequest.SET_STATUS, (ulong)(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK | DeviceStatus.DRIVER_OK)),
        ]);
        return script;
    }

    /// <summary>Something legal to say to a device that runs.</summary>
    public static WireMessage Anything(GuestArea area, HostileQueue queue, SharedAreas areas, FuzzRandom random) => random.Below(24) switch
    {
        0 => Plain(FrontendRequest.GET_STATUS),
        1 => WireMessage.Of(FrontendRequest.SET_FEATURES, Features | (random.OneIn(2) ? ProtocolLimits.VHOST_F_LOG_ALL : 0)),
        2 => Config(FrontendRequest.SET_CONFIG, 32, 1),
        3 => Config(FrontendRequest.GET_CONFIG, (uint)random.Below(200), (uint)random.Below(57)),
        4 => State(FrontendRequest.GET_VRING_BASE, 0),
        5 => Event(FrontendRequest.SET_VRING_CALL, queue.Call),
        6 => Event(FrontendRequest.SET_VRING_KICK, queue.Kick),
        7 => WireMessage.Of(FrontendRequest.SET_VRING_CALL, HostileQueue.Index | VringDescriptorIndex.NoDescriptor),
        8 => State(FrontendRequest.SET_VRING_ENABLE, (uint)random.Below(2)),
        9 => Plain(FrontendRequest.RESET_DEVICE),
        10 => WireMessage.Of(FrontendRequest.SET_STATUS, 0ul),
        11 => Plain(FrontendRequest.RESET_OWNER),
        12 => new WireMessage(FrontendRequest.SET_MEM_TABLE, MemoryMessages.Table([.. GuestArea.Regions]), [.. GuestArea.Regions.Select(_ => area.Handle)]),
        13 => new WireMessage(FrontendRequest.SET_MEM_TABLE, MemoryMessages.Table()),
        14 => new WireMessage(FrontendRequest.REM_MEM_REG, MemoryMessages.Single(GuestArea.Regions[^1])).Acknowledged(),
        15 => NotOffered(areas.Decoy, random),
        _ => areas.Anything(random),
    };

    /// <summary>Whether a SET_FEATURES has VHOST_F_LOG_ALL.</summary>
    public static bool LogsAll(WireMessage message) => (MemoryMarshal.Read<ulong>(message.Payload) & ProtocolLimits.VHOST_F_LOG_ALL) != 0;

    /// <summary>Whether a SET_VRING_ADDR wants writes to the ring logged.</summary>
    public static bool LogsRing(WireMessage message) => MemoryMarshal.Read<VringAddress>(message.Payload).Flags == VringAddress.LogEnabled;

    private static WireMessage NotOffered(SafeFileHandle decoy, FuzzRandom random)
    {
        (FrontendRequest request, int payloadBytes, int descriptors) = s_notOffered[random.Below(s_notOffered.Length)];
        byte[] payload = new byte[payloadBytes];
        random.Fill(payload);
        WireMessage message = new(request, payload, [.. Enumerable.Repeat(decoy, descriptors)]);
        return random.OneIn(8) ? message : message.Acknowledged();
    }

    private static WireMessage Plain(FrontendRequest request) => new(request, []);

    private static WireMessage State(FrontendRequest request, uint number) => WireMessage.Of(request, new VringState(HostileQueue.Index, number));

    private static WireMessage Event(FrontendRequest request, EventDescriptor descriptor) => WireMessage.Of(request, (ulong)HostileQueue.Index, descriptor.Handle);

    private static WireMessage Config(FrontendRequest request, uint offset, uint lengthBytes)
    {
        byte[] payload = new byte[ConfigHeader.SizeBytes + lengthBytes];
        MemoryMarshal.Write(payload, new ConfigHeader(offset, lengthBytes, 0));
        return new WireMessage(request, payload);
    }
}
