using System.Runtime.InteropServices;

namespace VirtioBlkFlow.Device;

/// <summary>
/// A call or error eventfd of the front-end. A front-end may hand over a descriptor on which write(2) blocks (a full pipe); signalling
/// never does. Owned by one queue's thread.
/// </summary>
internal sealed unsafe partial class EventDescriptor : IDisposable
{
    private const int F_GETFL = 3;
    private const int O_NONBLOCK = 0x800;
    private const short POLLOUT = 4;

    private readonly SafeFileHandle _handle;
    private readonly int _descriptor;
    private readonly bool _mayBlock;

    public EventDescriptor(SafeFileHandle handle)
    {
        bool referenced = false;
        handle.DangerousAddRef(ref referenced);
        _handle = handle;
        _descriptor = (int)handle.DangerousGetHandle();
        // The flag belongs to the open file, which the front-end shares: it is looked at, never set.
        _mayBlock = (fcntl(_descriptor, F_GETFL, 0) & O_NONBLOCK) == 0;
    }

    /// <summary>Adds one to the eventfd. If that is not possible now, a signal is pending already.</summary>
    public void Signal()
    {
        if (_mayBlock && !IsWritable())
        {
            return;
        }

        ulong one = 1;
        write(_descriptor, &one, sizeof(ulong));
    }

    public void Dispose() => _handle.DangerousRelease();

    private bool IsWritable()
    {
        var request = new PollRequest { Descriptor = _descriptor, Events = POLLOUT };
        return poll(&request, 1, 0) == 1 && (request.ReturnedEvents & POLLOUT) != 0;
    }

    [LibraryImport("libc")]
    private static partial nint write(int descriptor, void* buffer, nuint lengthBytes);

    [LibraryImport("libc")]
    private static partial int fcntl(int descriptor, int command, nint argument);

    [LibraryImport("libc")]
    private static partial int poll(PollRequest* requests, nuint count, int timeoutMs);

    // struct pollfd of <poll.h>
    [StructLayout(LayoutKind.Sequential)]
    private struct PollRequest
    {
        public int Descriptor;
        public short Events;
        public short ReturnedEvents;
    }
}
