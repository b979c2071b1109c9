using Microsoft.Extensions.Logging;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// The back-end channel and the device status: what the device's threads and the session's thread both touch. Every field is guarded
/// by one lock, which nobody holds while waiting.
/// </summary>
/// <remarks>
/// CONFIG_CHANGE_MSG goes out without NEED_REPLY and without waiting for room. QEMU reads the new configuration on the main socket before
/// it would acknowledge, so waiting for the acknowledgement could block both sides for ever.
/// </remarks>
internal sealed class FrontendNotifications(ILogger logger) : IFrontendNotifications
{
    private readonly Lock _gate = new();

    // Shared, guarded by _gate.
    private VhostUserConnection? _channel;
    private DeviceStatus _status;
    private int _runningQueues;
    private bool _isAllowed;
    private bool _isPending;
    private bool _isDetached;

    /// <summary>The device status as GET_STATUS has it.</summary>
    public DeviceStatus Status
    {
        get
        {
            lock (_gate)
            {
                return _status;
            }
        }
    }

    /// <inheritdoc/>
    public void NotifyConfigChanged()
    {
        lock (_gate)
        {
            _isPending = !_isDetached;
            SendIfPossible();
        }
    }

    /// <inheritdoc/>
    public void ReportQueueBroken(int index)
    {
        lock (_gate)
        {
            if (_isDetached || _status.HasFlag(DeviceStatus.DEVICE_NEEDS_RESET))
            {
                return;
            }

            Log.VringBroken(logger, index);
            _status |= DeviceStatus.DEVICE_NEEDS_RESET;
            _isPending |= _status.HasFlag(DeviceStatus.DRIVER_OK);
            SendIfPossible();
        }
    }

    /// <summary>SET_STATUS with a value other than 0. DEVICE_NEEDS_RESET is the device's: only a reset clears it.</summary>
    public void SetStatus(DeviceStatus status)
    {
        lock (_gate)
        {
            var needsReset = _status & DeviceStatus.DEVICE_NEEDS_RESET;
            var becomesReady = status.HasFlag(DeviceStatus.DRIVER_OK) && !_status.HasFlag(DeviceStatus.DRIVER_OK);
            _status = (status & ~DeviceStatus.DEVICE_NEEDS_RESET) | needsReset;

            // QEMU enables the vrings before it says DRIVER_OK. One that broke in between is told of now.
            _isPending |= becomesReady && needsReset != 0;
            SendIfPossible();
        }
    }

    /// <summary>A reset: the status is 0, DEVICE_NEEDS_RESET included. A configuration change that waits goes on waiting.</summary>
    public void ResetStatus()
    {
        lock (_gate)
        {
            _status = DeviceStatus.Reset;
        }
    }

    /// <summary>SET_PROTOCOL_FEATURES: whether configuration changes may be sent at all.</summary>
    public void SetAllowed(ProtocolFeatures negotiated)
    {
        lock (_gate)
        {
            _isAllowed = negotiated.HasFlag(ProtocolFeatures.BACKEND_REQ | ProtocolFeatures.CONFIG);
            SendIfPossible();
        }
    }

    /// <summary>How many queues run. With none the device is suspended, and must not send (vhost-user.rst, "Suspended device state").</summary>
    public void SetRunningQueues(int count)
    {
        lock (_gate)
        {
            _runningQueues = count;
            SendIfPossible();
        }
    }

    /// <summary>SET_BACKEND_REQ_FD.</summary>
    /// <param name="channel">Becomes ours.</param>
    public void ReplaceChannel(VhostUserConnection channel)
    {
        lock (_gate)
        {
            _channel?.Dispose();
            _channel = channel;
            SendIfPossible();
        }
    }

    /// <summary>The session is over: closes the channel, and does nothing from now on.</summary>
    public void Detach()
    {
        lock (_gate)
        {
            _isDetached = true;
            _isPending = false;
            _channel?.Dispose();
            _channel = null;
        }
    }

    private void SendIfPossible()
    {
        if (!_isPending || !_isAllowed || _runningQueues == 0 || _channel is null)
        {
            return;
        }

        switch (_channel.TrySendWithoutWaiting((uint)BackendRequest.CONFIG_CHANGE_MSG, MessageFlags.Version1))
        {
            case SendOutcome.Sent:
                _isPending = false;
                break;
            case SendOutcome.WouldBlock:
                // The front-end has not read a socket full of the same message. It stays pending until the next occasion.
                break;
            case SendOutcome.Closed:
                Log.BackendChannelClosed(logger);
                _channel.Dispose();
                _channel = null;
                break;
        }
    }
}
