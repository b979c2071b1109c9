using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <content>Requests for what outlives a device: the dirty log, the inflight area, the device's state.</content>
public sealed partial class VhostUserSession
{
    private void SetLogBase(ReceivedMessage message)
    {
        RequireDescriptors(message, 1);
        using var file = message.TakeDescriptor(0);
        _dirtyLog.Replace(Read<LogDescription>(message), file);
    }

    /// <summary>Answers by itself in every case: the defined form of an error is a length of 0 and no descriptor.</summary>
    private void GetInflightArea(ReceivedMessage message)
    {
        var wanted = Read<InflightDescription>(message);
        try
        {
            var area = _inflightArea.Create(wanted, out var file);
            using (file)
            {
                ReplyInflight(area, message.Payload.Length, [file]);
            }
        }
        catch (VhostUserRefusedException refusal)
        {
            Log.RequestRefused(_logger, FrontendRequest.GET_INFLIGHT_FD, refusal.Message);
            ReplyInflight(wanted with { LengthBytes = 0, MmapOffset = 0 }, message.Payload.Length, []);
        }
    }

    /// <summary>In the size of the question: QEMU takes only its own 24 bytes back.</summary>
    private void ReplyInflight(InflightDescription area, int payloadBytes, ReadOnlySpan<SafeFileHandle> files)
    {
        Span<byte> reply = stackalloc byte[InflightDescription.PaddedBytes];
        reply.Clear();
        MemoryMarshal.Write(reply, area);
        Reply(FrontendRequest.GET_INFLIGHT_FD, reply[..payloadBytes], files);
    }

    private void SetInflightArea(ReceivedMessage message)
    {
        RequireDescriptors(message, 1);
        using var file = message.TakeDescriptor(0);
        _inflightArea.Replace(Read<InflightDescription>(message), file);
    }

    /// <summary>
    /// Begins a transfer, and answers by itself in every case. One that was begun before is given up: a migration that failed is not
    /// always asked how it ended before the next one.
    /// </summary>
    private void SetDeviceStateChannel(ReceivedMessage message)
    {
        _stateTransfer?.Dispose();
        _stateTransfer = null;
        try
        {
            _stateTransfer = BeginTransfer(Read<DeviceStateParameters>(message), message);
            Reply(FrontendRequest.SET_DEVICE_STATE_FD, DeviceStateReply.NoDescriptor);
        }
        catch (VhostUserRefusedException refusal)
        {
            Observe(refusal.Finding, FrontendRequest.SET_DEVICE_STATE_FD, refusal.Message);
            Log.RequestRefused(_logger, FrontendRequest.SET_DEVICE_STATE_FD, refusal.Message);
            Reply(FrontendRequest.SET_DEVICE_STATE_FD, DeviceStateReply.NoDescriptor | DeviceStateReply.Failed);
        }
    }

    private DeviceStateTransfer BeginTransfer(DeviceStateParameters parameters, ReceivedMessage message)
    {
        RequireDescriptors(message, 1);
        if (_vrings.HasRunning)
        {
            throw new VhostUserRefusedException("the device's state is transferred only while no vring runs")
            {
                Finding = ProtocolFinding.StateWhileRunning,
            };
        }

        if (parameters.Phase != DeviceStateParameters.PhaseStopped)
        {
            throw new VhostUserRefusedException($"there is no phase {parameters.Phase}");
        }

        var channel = message.TakeDescriptor(0);
        try
        {
            return parameters.Direction switch
            {
                DeviceStateDirection.VHOST_TRANSFER_STATE_DIRECTION_SAVE => DeviceStateTransfer.Save(channel, _backend.SaveState()),
                DeviceStateDirection.VHOST_TRANSFER_STATE_DIRECTION_LOAD => DeviceStateTransfer.Load(channel),
                _ => throw new VhostUserRefusedException($"there is no direction {(uint)parameters.Direction}"),
            };
        }
        catch
        {
            channel.Dispose();
            throw;
        }
    }

    /// <summary>Waits for the transfer to end, loads what has come, and says how it went. Asked once more, there is nothing to say.</summary>
    private void CheckDeviceState()
    {
        using var transfer = _stateTransfer;
        _stateTransfer = null;
        if (transfer is null)
        {
            Log.RequestRefused(_logger, FrontendRequest.CHECK_DEVICE_STATE, "no transfer was begun");
            Reply(FrontendRequest.CHECK_DEVICE_STATE, DeviceStateReply.Failed);
            return;
        }

        if (!_connection.WaitWhileOpen(transfer.Finished.Descriptor))
        {
            return; // Nobody is left to answer, as the next receive shows.
        }

        // The device may have been started meanwhile, against the document; then it is too late for another state.
        var hasSucceeded = transfer.HasSucceeded
            && (!transfer.IsLoad || (!_vrings.HasRunning && _backend.TryLoadState(transfer.Loaded)));
        Reply(FrontendRequest.CHECK_DEVICE_STATE, hasSucceeded ? 0 : DeviceStateReply.Failed);
    }
}
