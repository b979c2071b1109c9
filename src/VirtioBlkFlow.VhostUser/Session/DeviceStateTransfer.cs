using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// The transfer of a device's state through the channel of SET_DEVICE_STATE_FD, on a thread of its own: a pipe takes only so much before
/// somebody reads it, and the front-end that reads may want answers on the socket meanwhile.
/// </summary>
/// <remarks>
/// The session's thread makes it, and disposes of it at any time, which ends the thread. The thread never waits in a read or a write, but
/// in a poll that a cancellation ends too: whether the channel blocks is the front-end's choice, and not changed. On a kernel whose pipes
/// do not know RWF_NOWAIT (before 6.4) a front-end that uses both ends of the pipe itself could make it wait.
/// </remarks>
internal sealed class DeviceStateTransfer : IDisposable
{
    private const int O_ACCMODE = 3;
    private const int F_GETFL = 3;

    // Fixed at construction.
    private readonly SafeFileHandle _channel;
    private readonly int _descriptor;
    private readonly bool _isLoad;
    private readonly byte[] _state;
    private readonly Thread _thread;
    private readonly StopSignal _cancelled;
    private readonly StopSignal _finished;

    // Owned by the transfer's thread; the session's thread reads them once _finished is set.
    private int _flags;
    private int _lengthBytes;
    private bool _hasSucceeded;

    private DeviceStateTransfer(SafeFileHandle channel, bool isLoad, byte[] state)
    {
        _channel = channel;
        _descriptor = (int)channel.DangerousGetHandle();
        _isLoad = isLoad;
        _state = state;
        _flags = CheckChannel();
        try
        {
            _cancelled = new StopSignal();
            _finished = new StopSignal();
        }
        catch (IOException exception)
        {
            _cancelled?.Dispose();
            throw new VhostUserRefusedException(exception.Message, exception);
        }

        _thread = new Thread(Run) { Name = "device-state", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Whether it loads; otherwise it saves.</summary>
    public bool IsLoad => _isLoad;

    /// <summary>Set when the thread is done and the channel closed.</summary>
    public StopSignal Finished => _finished;

    /// <summary>After <see cref="Finished"/>: whether all of the state went through.</summary>
    public bool HasSucceeded => _hasSucceeded;

    /// <summary>After <see cref="Finished"/> of a load that succeeded: what has come.</summary>
    public ReadOnlySpan<byte> Loaded => _state.AsSpan(0, _lengthBytes);

    /// <summary>Begins to write a state, and closes the channel when it is written.</summary>
    /// <param name="channel">A pipe, socket or file; becomes the transfer's, unless it is refused.</param>
    /// <param name="state">What to write.</param>
    /// <exception cref="VhostUserRefusedException">The channel is nothing to write to, or the state too large.</exception>
    public static DeviceStateTransfer Save(SafeFileHandle channel, byte[] state) => state.Length <= ProtocolLimits.MaxDeviceStateBytes
        ? new DeviceStateTransfer(channel, isLoad: false, state)
        : throw new VhostUserRefusedException($"the device's state has {state.Length} bytes, more than {ProtocolLimits.MaxDeviceStateBytes}");

    /// <summary>Begins to read a state, up to the end of the channel.</summary>
    /// <param name="channel">A pipe, socket or file; becomes the transfer's, unless it is refused.</param>
    /// <exception cref="VhostUserRefusedException">The channel is nothing to read from.</exception>
    public static DeviceStateTransfer Load(SafeFileHandle channel) =>
        new(channel, isLoad: true, new byte[ProtocolLimits.MaxDeviceStateBytes + 1]); // One byte more shows that there is too much.

    /// <summary>Ends it, finished or not.</summary>
    public void Dispose()
    {
        _cancelled.Set();
        _thread.Join();
        _cancelled.Dispose();
        _finished.Dispose();
    }

    /// <summary>A channel of the wrong kind or direction would never become ready: it is refused at once.</summary>
    private int CheckChannel()
    {
        var access = NativeMethods.fcntl(_descriptor, F_GETFL, 0) & O_ACCMODE;
        if (access == (int)(_isLoad ? OpenFlags.O_WRONLY : OpenFlags.O_RDONLY))
        {
            throw new VhostUserRefusedException("the channel for the device's state goes the other way");
        }

        if (Syscall.fstat(_descriptor, out var status) != 0)
        {
            throw new VhostUserRefusedException($"fstat of the channel for the device's state fails with {Stdlib.GetLastError()}");
        }

        return (status.st_mode & FilePermissions.S_IFMT) switch
        {
            FilePermissions.S_IFIFO or FilePermissions.S_IFSOCK => NativeMethods.RWF_NOWAIT,

            // A file never keeps us waiting for a peer, and would answer RWF_NOWAIT with EAGAIN until its pages are in memory.
            FilePermissions.S_IFREG => 0,
            _ => throw new VhostUserRefusedException("the channel for the device's state is no pipe, socket or file"),
        };
    }

    private void Run()
    {
        _hasSucceeded = _isLoad ? TryRead() : TryWrite();
        _channel.Dispose();
        _finished.Set();
    }

    private bool TryWrite()
    {
        while (_lengthBytes < _state.Length)
        {
            if (!TryMove(PollEvents.POLLOUT, out var count) || count == 0)
            {
                return false;
            }

            _lengthBytes += count;
        }

        return true;
    }

    private bool TryRead()
    {
        while (_lengthBytes < _state.Length)
        {
            if (!TryMove(PollEvents.POLLIN, out var count))
            {
                return false;
            }

            if (count == 0)
            {
                return true;
            }

            _lengthBytes += count;
        }

        return false;
    }

    /// <summary>One piece, as much as goes without waiting. False if cancelled or broken; 0 bytes at the end.</summary>
    private unsafe bool TryMove(PollEvents readiness, out int count)
    {
        Debug.Assert(Thread.CurrentThread == _thread, "a transfer belongs to its thread");
        count = 0;
        while (WaitUntil(readiness))
        {
            fixed (byte* start = &_state[_lengthBytes])
            {
                var vector = new NativeMethods.IoVector { Start = (nint)start, LengthBytes = _state.Length - _lengthBytes };
                var result = _isLoad
                    ? NativeMethods.preadv2(_descriptor, &vector, 1, -1, _flags)
                    : NativeMethods.pwritev2(_descriptor, &vector, 1, -1, _flags);
                if (result >= 0)
                {
                    count = (int)result;
                    return true;
                }
            }

            switch (Stdlib.GetLastError())
            {
                case Errno.EINTR or Errno.EAGAIN:
                    break;
                case Errno.EOPNOTSUPP when _flags != 0:
                    _flags = 0;
                    break;
                default:
                    return false;
            }
        }

        return false;
    }

    /// <summary>False if cancelled.</summary>
    private bool WaitUntil(PollEvents readiness)
    {
        Pollfd[] waiting =
        [
            new() { fd = _descriptor, events = readiness },
            new() { fd = _cancelled.Descriptor, events = PollEvents.POLLIN },
        ];
        while (Syscall.poll(waiting, -1) < 0)
        {
            // EINTR: the runtime signals its threads.
        }

        return waiting[1].revents == 0;
    }
}
