using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <content>
/// The messages, in wire order (vhost-user.rst, "Front-end message types"). What returns a <see cref="ulong"/> and takes
/// <c>needReply</c> returns the acknowledgement: 0 for success, or when none was asked for. Without REPLY_ACK none will come.
/// </content>
public sealed partial class VhostUserFrontend
{
    /// <summary>GET_FEATURES: what the device offers.</summary>
    public ulong GetFeatures(bool needReply = false) => Query<ulong>(FrontendRequest.GET_FEATURES, [], needReply);

    /// <summary>SET_FEATURES.</summary>
    public ulong SetFeatures(ulong features, bool needReply = false) => SendAcknowledged(FrontendRequest.SET_FEATURES, Bytes(in features), needReply);

    /// <summary>SET_OWNER.</summary>
    public ulong SetOwner(bool needReply = false) => SendAcknowledged(FrontendRequest.SET_OWNER, [], needReply);

    /// <summary>RESET_OWNER, deprecated.</summary>
    public ulong ResetOwner(bool needReply = false) => SendAcknowledged(FrontendRequest.RESET_OWNER, [], needReply);

    /// <summary>SET_MEM_TABLE with every region of the memory.</summary>
    public ulong SetMemTable(SharedMemory memory, bool needReply = false)
    {
        ArgumentNullException.ThrowIfNull(memory);
        byte[] payload = new byte[MemoryTableHeader.SizeBytes + (memory.Regions.Count * MemoryRegion.SizeBytes)];
        MemoryMarshal.Write(payload, new MemoryTableHeader((uint)memory.Regions.Count, 0));
        var descriptors = new SafeFileHandle[memory.Regions.Count];
        for (int i = 0; i < descriptors.Length; i++)
        {
            MemoryMarshal.Write(payload.AsSpan(MemoryTableHeader.SizeBytes + (i * MemoryRegion.SizeBytes)), Describe(memory.Regions[i]));
            descriptors[i] = memory.Regions[i].Handle;
        }

        return SendAcknowledged(FrontendRequest.SET_MEM_TABLE, payload, needReply, descriptors);
    }

    /// <summary>SET_LOG_BASE with a descriptor (LOG_SHMFD), which is always answered.</summary>
    public ulong SetLogBase(LogArea area, SafeFileHandle log, bool needReply = false) =>
        Query<ulong>(FrontendRequest.SET_LOG_BASE, Bytes(in area), needReply, [log]);

    /// <summary>SET_LOG_FD.</summary>
    public ulong SetLogFd(EventDescriptor log, bool needReply = false) => SendAcknowledged(FrontendRequest.SET_LOG_FD, [], needReply, [log.Handle]);

    /// <summary>SET_VRING_NUM.</summary>
    public ulong SetVringNum(uint queue, uint queueSize, bool needReply = false) => SendState(FrontendRequest.SET_VRING_NUM, queue, queueSize, needReply);

    /// <summary>SET_VRING_ADDR.</summary>
    public ulong SetVringAddr(VringAddress address, bool needReply = false) => SendAcknowledged(FrontendRequest.SET_VRING_ADDR, Bytes(in address), needReply);

    /// <summary>SET_VRING_BASE.</summary>
    public ulong SetVringBase(uint queue, uint @base, bool needReply = false) => SendState(FrontendRequest.SET_VRING_BASE, queue, @base, needReply);

    /// <summary>GET_VRING_BASE: stops the queue. Answered after what is in flight is drained.</summary>
    /// <returns>Index of the next available entry the back-end would have fetched.</returns>
    public uint GetVringBase(uint queue, bool needReply = false)
    {
        var request = new VringState(queue, 0);
        VringState reply = Query<VringState>(FrontendRequest.GET_VRING_BASE, Bytes(in request), needReply);
        return reply.Index == queue
            ? reply.Num
            : throw new BackendProtocolException($"GET_VRING_BASE of queue {queue} was answered for queue {reply.Index}.");
    }

    /// <summary>SET_VRING_KICK; null to say that there is no descriptor and the back-end must poll.</summary>
    public ulong SetVringKick(uint queue, EventDescriptor? kick, bool needReply = false) => SendEvent(FrontendRequest.SET_VRING_KICK, queue, kick, needReply);

    /// <summary>SET_VRING_CALL; null to say that there is no descriptor and the driver polls.</summary>
    public ulong SetVringCall(uint queue, EventDescriptor? call, bool needReply = false) => SendEvent(FrontendRequest.SET_VRING_CALL, queue, call, needReply);

    /// <summary>SET_VRING_ERR; null for none.</summary>
    public ulong SetVringErr(uint queue, EventDescriptor? error, bool needReply = false) => SendEvent(FrontendRequest.SET_VRING_ERR, queue, error, needReply);

    /// <summary>GET_PROTOCOL_FEATURES.</summary>
    public ProtocolFeatures GetProtocolFeatures(bool needReply = false) => Query<ProtocolFeatures>(FrontendRequest.GET_PROTOCOL_FEATURES, [], needReply);

    /// <summary>SET_PROTOCOL_FEATURES.</summary>
    public ulong SetProtocolFeatures(ProtocolFeatures features, bool needReply = false) =>
        SendAcknowledged(FrontendRequest.SET_PROTOCOL_FEATURES, Bytes(in features), needReply);

    /// <summary>GET_QUEUE_NUM: most queues the back-end serves.</summary>
    public ulong GetQueueNum(bool needReply = false) => Query<ulong>(FrontendRequest.GET_QUEUE_NUM, [], needReply);

    /// <summary>SET_VRING_ENABLE.</summary>
    public ulong SetVringEnable(uint queue, bool enable, bool needReply = false) =>
        SendState(FrontendRequest.SET_VRING_ENABLE, queue, enable ? 1u : 0u, needReply);

    /// <summary>SET_BACKEND_REQ_FD: hands over the other end of a channel; our copy of it is closed.</summary>
    public ulong SetBackendReqFd(BackendChannel channel, bool needReply = false)
    {
        ArgumentNullException.ThrowIfNull(channel);
        using SafeFileHandle peer = channel.TakePeer();
        return SendAcknowledged(FrontendRequest.SET_BACKEND_REQ_FD, [], needReply, [peer]);
    }

    /// <summary>GET_CONFIG.</summary>
    /// <param name="offset">First byte within the configuration space.</param>
    /// <param name="lengthBytes">Bytes to get, at most 256.</param>
    /// <param name="flags">0 from QEMU, 1 from front-ends of rust-vmm; means nothing.</param>
    /// <param name="needReply">Sets NEED_REPLY; the answer is the same.</param>
    /// <returns>The bytes, or null when the back-end refuses (an answer without payload).</returns>
    public byte[]? GetConfig(uint offset, uint lengthBytes, uint flags = 0, bool needReply = false)
    {
        byte[] payload = new byte[ConfigHeader.SizeBytes + lengthBytes];
        var header = new ConfigHeader(offset, lengthBytes, flags);
        MemoryMarshal.Write(payload, in header);
        Send(FrontendRequest.GET_CONFIG, payload, default, needReply);
        ReadOnlySpan<byte> reply = ReceiveReply(FrontendRequest.GET_CONFIG).Payload;
        if (reply.IsEmpty)
        {
            return null;
        }

        return reply.Length == payload.Length && MemoryMarshal.Read<ConfigHeader>(reply) == header
            ? reply[ConfigHeader.SizeBytes..].ToArray()
            : throw new BackendProtocolException($"GET_CONFIG of {lengthBytes} bytes at {offset} was answered by {reply.Length} bytes that do not echo its header.");
    }

    /// <summary>GET_CONFIG of the whole block configuration.</summary>
    /// <exception cref="BackendRefusedException">The back-end refuses.</exception>
    public BlkConfig GetBlkConfig() => GetBlkConfig(BlkConfig.SizeBytes);

    /// <summary>GET_CONFIG of the beginning of the block configuration; the rest is zeros.</summary>
    /// <param name="lengthBytes">How much to ask for: a back-end of older times knows less than 96 bytes, and refuses more.</param>
    /// <exception cref="BackendRefusedException">The back-end refuses.</exception>
    public BlkConfig GetBlkConfig(int lengthBytes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)lengthBytes, (uint)BlkConfig.SizeBytes, nameof(lengthBytes));
        byte[] whole = new byte[BlkConfig.SizeBytes];
        byte[] known = GetConfig(0, (uint)lengthBytes) ?? throw new BackendRefusedException("The back-end refuses GET_CONFIG.");
        known.CopyTo(whole, 0);
        return MemoryMarshal.Read<BlkConfig>(whole);
    }

    /// <summary>GET_CONFIG of the whole block configuration, as the driver reads it.</summary>
    /// <exception cref="BackendRefusedException">The back-end refuses.</exception>
    public DeviceConfig GetDeviceConfig() =>
        DeviceConfig.Read(GetConfig(0, DeviceConfig.SizeBytes) ?? throw new BackendRefusedException("The back-end refuses GET_CONFIG."));

    /// <summary>SET_CONFIG.</summary>
    public ulong SetConfig(uint offset, ReadOnlySpan<byte> data, uint flags = ConfigHeader.Writable, bool needReply = false)
    {
        byte[] payload = new byte[ConfigHeader.SizeBytes + data.Length];
        MemoryMarshal.Write(payload, new ConfigHeader(offset, (uint)data.Length, flags));
        data.CopyTo(payload.AsSpan(ConfigHeader.SizeBytes));
        return SendAcknowledged(FrontendRequest.SET_CONFIG, payload, needReply);
    }

    /// <summary>GET_INFLIGHT_FD: has the back-end make an area for requests in flight.</summary>
    /// <returns>The area and its descriptor, the caller's; no descriptor and a length of 0 when it refuses.</returns>
    public (InflightArea Area, SafeFileHandle? Handle) GetInflightFd(ushort queueCount, ushort queueSize, bool needReply = false)
    {
        var request = new InflightArea(0, 0, queueCount, queueSize);
        InflightArea area = Query<InflightArea>(FrontendRequest.GET_INFLIGHT_FD, Bytes(in request), needReply);
        return (area, _received.DescriptorCount > 0 ? _received.TakeDescriptor(0) : null);
    }

    /// <summary>SET_INFLIGHT_FD.</summary>
    public ulong SetInflightFd(InflightArea area, SafeFileHandle handle, bool needReply = false) =>
        SendAcknowledged(FrontendRequest.SET_INFLIGHT_FD, Bytes(in area), needReply, [handle]);

    /// <summary>RESET_DEVICE.</summary>
    public ulong ResetDevice(bool needReply = false) => SendAcknowledged(FrontendRequest.RESET_DEVICE, [], needReply);

    /// <summary>VRING_KICK, the kick as a message.</summary>
    public ulong VringKick(uint queue, bool needReply = false) => SendState(FrontendRequest.VRING_KICK, queue, 0, needReply);

    /// <summary>GET_MAX_MEM_SLOTS.</summary>
    public ulong GetMaxMemSlots(bool needReply = false) => Query<ulong>(FrontendRequest.GET_MAX_MEM_SLOTS, [], needReply);

    /// <summary>ADD_MEM_REG.</summary>
    public ulong AddMemReg(SharedRegion region, bool needReply = false)
    {
        ArgumentNullException.ThrowIfNull(region);
        var payload = new SingleMemoryRegion(0, Describe(region));
        return SendAcknowledged(FrontendRequest.ADD_MEM_REG, Bytes(in payload), needReply, [region.Handle]);
    }

    /// <summary>REM_MEM_REG.</summary>
    public ulong RemMemReg(SharedRegion region, bool needReply = false)
    {
        ArgumentNullException.ThrowIfNull(region);
        var payload = new SingleMemoryRegion(0, Describe(region));
        return SendAcknowledged(FrontendRequest.REM_MEM_REG, Bytes(in payload), needReply);
    }

    /// <summary>SET_STATUS.</summary>
    public ulong SetStatus(DeviceStatus status, bool needReply = false)
    {
        ulong payload = (ulong)status;
        return SendAcknowledged(FrontendRequest.SET_STATUS, Bytes(in payload), needReply);
    }

    /// <summary>GET_STATUS.</summary>
    public DeviceStatus GetStatus(bool needReply = false) => (DeviceStatus)Query<ulong>(FrontendRequest.GET_STATUS, [], needReply);

    /// <summary>SET_DEVICE_STATE_FD.</summary>
    /// <returns>Bits 0 to 7: 0 for success. Bit 8: no descriptor came back.</returns>
    public ulong SetDeviceStateFd(DeviceStateTransfer transfer, SafeFileHandle channel, bool needReply = false) =>
        Query<ulong>(FrontendRequest.SET_DEVICE_STATE_FD, Bytes(in transfer), needReply, [channel]);

    /// <summary>CHECK_DEVICE_STATE: 0 when the state was transferred well.</summary>
    public ulong CheckDeviceState(bool needReply = false) => Query<ulong>(FrontendRequest.CHECK_DEVICE_STATE, [], needReply);

    /// <summary>A region as the wire has it.</summary>
    public static MemoryRegion Describe(SharedRegion region)
    {
        ArgumentNullException.ThrowIfNull(region);
        return new MemoryRegion(region.GuestAddress, region.LengthBytes, region.UserAddress, region.MmapOffset);
    }

    private ulong SendState(FrontendRequest request, uint queue, uint number, bool needReply)
    {
        var payload = new VringState(queue, number);
        return SendAcknowledged(request, Bytes(in payload), needReply);
    }

    private ulong SendEvent(FrontendRequest request, uint queue, EventDescriptor? descriptor, bool needReply)
    {
        ulong payload = descriptor is null ? queue | VringDescriptorIndex.NoDescriptor : queue;
        return descriptor is null
            ? SendAcknowledged(request, Bytes(in payload), needReply)
            : SendAcknowledged(request, Bytes(in payload), needReply, [descriptor.Handle]);
    }
}
