using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.Frontend;

/// <summary>
/// An eventfd (eventfd(2)), non-blocking: the kick, call and error descriptors of a queue. Safe to use from any thread.
/// </summary>
public sealed unsafe class EventDescriptor : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly bool _ownsHandle;
    // The number is read on the data path; the handle above keeps it alive as long as this object is not disposed.
    private readonly int _number;

    /// <summary>Creates an eventfd with count 0.</summary>
    /// <exception cref="IOException">The process is out of descriptors.</exception>
    public EventDescriptor()
    {
        _number = NativeMethods.EventFdCreate(0, NativeMethods.EFD_CLOEXEC | NativeMethods.EFD_NONBLOCK);
        if (_number < 0)
        {
            throw NativeMethods.LastError("eventfd");
        }

        _handle = new SafeFileHandle(_number, ownsHandle: true);
        _ownsHandle = true;
    }

    /// <summary>Looks at an eventfd that stays somebody else's: the other side's view of it, in tests.</summary>
    /// <param name="handle">A non-blocking eventfd; it outlives this object.</param>
    public EventDescriptor(SafeFileHandle handle)
    {
        ArgumentNullException.ThrowIfNull(handle);
        _handle = handle;
        _number = (int)handle.DangerousGetHandle();
    }

    /// <summary>The descriptor, for sending it to the peer.</summary>
    public SafeFileHandle Handle => _handle;

    /// <summary>Adds 1 to the count. A full counter is fine: then a signal is pending anyway.</summary>
    /// <exception cref="IOException">The descriptor is closed.</exception>
    public void Signal()
    {
        ulong one = 1;
        if (NativeMethods.Write(_number, &one, sizeof(ulong)) != sizeof(ulong) && Marshal.GetLastPInvokeError() != NativeMethods.EAGAIN)
        {
            throw NativeMethods.LastError("write to an eventfd");
        }
    }

    /// <summary>Takes the count and resets it to 0.</summary>
    /// <returns>The signals since the last call; 0 when there were none.</returns>
    public ulong Take()
    {
        ulong count;
        return NativeMethods.Read(_number, &count, sizeof(ulong)) == sizeof(ulong) ? count : 0;
    }

    /// <summary>Waits with poll(2) until the count is above 0; does not take it.</summary>
    /// <returns>False when the deadline passed first.</returns>
    public bool Wait(Deadline deadline) => DescriptorWait.UntilReadable(_number, deadline);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_ownsHandle)
        {
            _handle.Dispose();
        }
    }
}
