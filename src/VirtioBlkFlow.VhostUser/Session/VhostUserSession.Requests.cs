using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <content>
/// What each request means. Size and number of descriptors were checked against its <see cref="RequestRule"/> before. A handler
/// throws <see cref="VhostUserRefusedException"/> for what cannot be met; the answer to that is the other file's.
/// </content>
public sealed partial class VhostUserSession
{
    private void Handle(FrontendRequest request, ReceivedMessage message)
    {
        switch (request)
        {
            case FrontendRequest.GET_FEATURES:
                Reply(request, _backend.OfferedFeatures | OwnFeatures);
                break;
            case FrontendRequest.SET_FEATURES:
                SetFeatures(Read<ulong>(message));
                break;
            case FrontendRequest.SET_OWNER:
            case FrontendRequest.RESET_OWNER:
                // One connection has one owner. The document lets RESET_OWNER be ignored, because front-ends disagree about it.
                break;
            case FrontendRequest.SET_MEM_TABLE:
                SetMemoryTable(message);
                break;
            case FrontendRequest.SET_LOG_BASE:
                SetLogBase(message);
                break;
            case FrontendRequest.SET_LOG_FD:
                // To poke the front-end when the log has changed is optional, and QEMU would not read it: closed with the message.
                RequireDescriptors(message, 1);
                break;
            case FrontendRequest.SET_VRING_NUM:
                _vrings.SetSize(Read<VringState>(message).Index, Read<VringState>(message).Num);
                break;
            case FrontendRequest.SET_VRING_ADDR:
                _vrings.SetAddress(Read<VringAddress>(message));
                break;
            case FrontendRequest.SET_VRING_BASE:
                _vrings.SetBase(Read<VringState>(message).Index, Read<VringState>(message).Num);
                break;
            case FrontendRequest.GET_VRING_BASE:
                var state = _vrings.StopAndGetBase(Read<VringState>(message).Index);
                Reply(request, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
                break;
            case FrontendRequest.SET_VRING_KICK:
                var kicked = Read<VringDescriptorIndex>(message).Index;
                _vrings.SetKick(kicked, TakeVringDescriptor(message));
                Observe(FindingOfKick(kicked), request, $"vring {kicked}");
                break;
            case FrontendRequest.SET_VRING_CALL:
                _vrings.SetCall(Read<VringDescriptorIndex>(message).Index, TakeVringDescriptor(message));
                break;
            case FrontendRequest.SET_VRING_ERR:
                _vrings.SetError(Read<VringDescriptorIndex>(message).Index, TakeVringDescriptor(message));
                break;
            case FrontendRequest.GET_PROTOCOL_FEATURES:
                Reply(request, (ulong)_offered);
                break;
            case FrontendRequest.SET_PROTOCOL_FEATURES:
                SetProtocolFeatures((ProtocolFeatures)Read<ulong>(message));
                break;
            case FrontendRequest.GET_QUEUE_NUM:
                Reply(request, (ulong)_backend.QueueCount);
                break;
            case FrontendRequest.SET_VRING_ENABLE:
                _vrings.SetEnabled(Read<VringState>(message).Index, Read<VringState>(message).Num);
                break;
            case FrontendRequest.SET_BACKEND_REQ_FD:
                RequireDescriptors(message, 1);
                _notifications.ReplaceChannel(new VhostUserConnection(message.TakeDescriptor(0)));
                break;
            case FrontendRequest.GET_CONFIG:
                GetConfig(message);
                break;
            case FrontendRequest.SET_CONFIG:
                SetConfig(message);
                break;
            case FrontendRequest.GET_INFLIGHT_FD:
                GetInflightArea(message);
                break;
            case FrontendRequest.SET_INFLIGHT_FD:
                SetInflightArea(message);
                break;
            case FrontendRequest.RESET_DEVICE:
                ResetDevice(request);
                break;
            case FrontendRequest.GET_MAX_MEM_SLOTS:
                Reply(request, (ulong)ProtocolLimits.MaxMemorySlots);
                break;
            case FrontendRequest.ADD_MEM_REG:
                RequireDescriptors(message, 1);
                using (var file = message.TakeDescriptor(0))
                {
                    ChangeMemory(_memory.PrepareAddition(Read<SingleMemoryRegion>(message).Region, file));
                }

                break;
            case FrontendRequest.REM_MEM_REG:
                if (message.DescriptorCount > 0)
                {
                    Observe(ProtocolFinding.RemovalWithDescriptor, request, "a descriptor came with it");
                }

                ChangeMemory(_memory.PrepareRemoval(Read<SingleMemoryRegion>(message).Region));
                break;
            case FrontendRequest.SET_STATUS:
                SetStatus((DeviceStatus)(byte)Read<ulong>(message));
                break;
            case FrontendRequest.GET_STATUS:
                Reply(request, (ulong)_notifications.Status);
                break;
            case FrontendRequest.SET_DEVICE_STATE_FD:
                SetDeviceStateChannel(message);
                break;
            case FrontendRequest.CHECK_DEVICE_STATE:
                CheckDeviceState();
                break;
            default:
                throw new InvalidOperationException($"{request} has a rule and no handler.");
        }
    }

    /// <summary>Bits of the virtio feature word that are the protocol's, and not the device's.</summary>
    private ulong OwnFeatures => ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES
        | (_offered.HasFlag(ProtocolFeatures.LOG_SHMFD) ? ProtocolLimits.VHOST_F_LOG_ALL : 0);

    private void SetFeatures(ulong features)
    {
        var virtio = features & ~OwnFeatures;
        var surplus = virtio & ~_backend.OfferedFeatures;
        var logsAll = (features & ProtocolLimits.VHOST_F_LOG_ALL) != 0;
        _dirtyLog.RequireRoom(logsAll);
        _featuresRefused = surplus != 0 || !_backend.TrySetFeatures(virtio);
        if (_featuresRefused)
        {
            throw new VhostUserRefusedException(
                surplus != 0 ? $"features 0x{surplus:x} were not offered" : $"the device cannot serve features 0x{virtio:x}")
            {
                Finding = surplus != 0 ? ProtocolFinding.FeaturesNotOffered : ProtocolFinding.None,
            };
        }

        _dirtyLog.SetLogsAll(logsAll);
        _vrings.SetFeatures(virtio, enableAll: (features & ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES) == 0);
    }

    private void SetProtocolFeatures(ProtocolFeatures features)
    {
        if ((features & ~_offered) != 0)
        {
            throw new VhostUserRefusedException($"protocol features 0x{(ulong)(features & ~_offered):x} were not offered")
            {
                Finding = ProtocolFinding.ProtocolFeaturesNotOffered,
            };
        }

        if (VhostUserSessionOptions.LacksInflightArea(features))
        {
            throw new VhostUserRefusedException("GET_VRING_BASE_INFLIGHT needs INFLIGHT_SHMFD");
        }

        _negotiated = features;
        _notifications.SetAllowed(features);
    }

    private void SetMemoryTable(ReceivedMessage message)
    {
        var count = MemoryMarshal.Read<MemoryTableHeader>(message.Payload).RegionCount;
        if (count > ProtocolLimits.MaxTableRegions)
        {
            throw new VhostUserRefusedException($"{count} regions in one table, more than {ProtocolLimits.MaxTableRegions}");
        }

        var descriptions = MemoryMarshal.Cast<byte, MemoryRegion>(message.Payload[MemoryTableHeader.SizeBytes..])[..(int)count];

        RequireDescriptors(message, descriptions.Length);
        var files = new SafeFileHandle[descriptions.Length];
        for (var i = 0; i < files.Length; i++)
        {
            files[i] = message.TakeDescriptor(i);
        }

        try
        {
            ChangeMemory(_memory.PrepareTable(descriptions, files));
        }
        finally
        {
            Array.ForEach(files, static file => file.Dispose());
        }
    }

    private void ChangeMemory(MemoryChange change)
    {
        _vrings.MoveTo(change.Table);
        _memory.Commit(change);
        Log.MemoryChanged(_logger, change.Regions.Length);
        _vrings.StartAllReady();
    }

    /// <summary>Answers by itself in every case: the defined form of an error is an empty payload (vhost-user.rst, "GET_CONFIG").</summary>
    private void GetConfig(ReceivedMessage message)
    {
        var header = MemoryMarshal.Read<ConfigHeader>(message.Payload);
        if (!IsWithinConfig(header))
        {
            Log.RequestRefused(_logger, FrontendRequest.GET_CONFIG, $"{header.DataBytes} bytes at {header.Offset} go past {ProtocolLimits.MaxConfigBytes}");
            Reply(FrontendRequest.GET_CONFIG, []);
            return;
        }

        Span<byte> reply = stackalloc byte[ConfigHeader.SizeBytes + (int)header.DataBytes];
        MemoryMarshal.Write(reply, header);
        _backend.ReadConfig(header.Offset, reply[ConfigHeader.SizeBytes..]);
        Reply(FrontendRequest.GET_CONFIG, reply);
    }

    private void SetConfig(ReceivedMessage message)
    {
        var header = MemoryMarshal.Read<ConfigHeader>(message.Payload);
        if (!IsWithinConfig(header) || header.DataBytes == 0)
        {
            throw new VhostUserRefusedException($"{header.DataBytes} bytes at {header.Offset} are not within the configuration space");
        }

        var outcome = _backend.WriteConfig(header.Offset, message.Payload[ConfigHeader.SizeBytes..], header.Flags);
        if (outcome != ConfigWriteOutcome.Written)
        {
            // With other flags it may be the restore after a migration, which may write everything.
            throw new VhostUserRefusedException($"{header.DataBytes} bytes at {header.Offset} with flags {header.Flags}: {outcome}")
            {
                Finding = outcome == ConfigWriteOutcome.NotWritable && header.Flags == 0 ? ProtocolFinding.ConfigReadOnly : ProtocolFinding.None,
            };
        }
    }

    private static bool IsWithinConfig(ConfigHeader header) =>
        header.Offset <= ProtocolLimits.MaxConfigBytes && header.DataBytes <= ProtocolLimits.MaxConfigBytes - header.Offset;

    private void SetStatus(DeviceStatus status)
    {
        if (status == DeviceStatus.Reset)
        {
            ResetDevice(FrontendRequest.SET_STATUS);
            return;
        }

        ObserveStatus(status);

        // A driver reads the status back, and finds FEATURES_OK missing (VIRTIO 1.4, "Driver Requirements: Device Initialization").
        _notifications.SetStatus(_featuresRefused ? status & ~DeviceStatus.FEATURES_OK : status);
    }

    /// <summary>
    /// Forgets what the driver has set up; protocol features, guest memory, the back-end channel and the dirty log's mapping stay.
    /// Idempotent. A transfer of the device's state goes on: it was begun after the driver's last word.
    /// </summary>
    private void ResetDevice(FrontendRequest request)
    {
        _vrings.Reset();
        _dirtyLog.SetLogsAll(false);
        _inflightArea.Drop();
        _featuresRefused = false;
        _notifications.ResetStatus();
        _backend.Reset();
        Log.DeviceReset(_logger, request);
    }

    /// <summary>While features are refused the bits do not say what the driver thinks: we are the ones who took FEATURES_OK away.</summary>
    private void ObserveStatus(DeviceStatus status)
    {
        const DeviceStatus Ours = DeviceStatus.DEVICE_NEEDS_RESET;
        var cleared = _notifications.Status & ~status & ~Ours;
        if (cleared != 0 && !_featuresRefused)
        {
            Observe(ProtocolFinding.StatusBitCleared, FrontendRequest.SET_STATUS, $"{status} clears {cleared}");
        }

        if (status.HasFlag(DeviceStatus.DRIVER_OK) && !status.HasFlag(DeviceStatus.FEATURES_OK) && !_featuresRefused)
        {
            Observe(ProtocolFinding.StatusOrder, FrontendRequest.SET_STATUS, $"{status}");
        }
    }

    private ProtocolFinding FindingOfKick(int index) => !_vrings.IsDescribed(index)
        ? ProtocolFinding.KickBeforeSetUp
        : _order.HasFeatures ? ProtocolFinding.None : ProtocolFinding.FeaturesMissing;

    private static T Read<T>(ReceivedMessage message)
        where T : unmanaged => MemoryMarshal.Read<T>(message.Payload);

    private static SafeFileHandle? TakeVringDescriptor(ReceivedMessage message)
    {
        var expected = Read<VringDescriptorIndex>(message).SaysNoDescriptor ? 0 : 1;
        RequireDescriptors(message, expected);
        return expected == 0 ? null : message.TakeDescriptor(0);
    }

    private static void RequireDescriptors(ReceivedMessage message, int count)
    {
        if (message.DescriptorCount != count)
        {
            throw new VhostUserRefusedException($"{message.DescriptorCount} descriptors came with it instead of {count}")
            {
                Finding = ProtocolFinding.DescriptorCount,
            };
        }
    }
}
