using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>An eventfd that wakes a thread that polls, again and again. Set from every thread, cleared and waited for by that one.</summary>
internal sealed class WakeSignal : IDisposable
{
    private readonly SafeFileHandle _event;

    /// <exception cref="IOException">The process has no descriptor left.</exception>
    public WakeSignal()
    {
        int descriptor = NativeMethods.eventfd(0, NativeMethods.EFD_CLOEXEC_NONBLOCK);
        _event = descriptor >= 0
            ? new SafeFileHandle(descriptor, ownsHandle: true)
            : throw new IOException($"eventfd fails with {Stdlib.GetLastError()}");
    }

    public int Descriptor => (int)_event.DangerousGetHandle();

    public unsafe void Set()
    {
        ulong one = 1;
        _ = Syscall.write(Descriptor, &one, sizeof(ulong));
    }

    public unsafe void Clear()
    {
        ulong count;
        _ = Syscall.read(Descriptor, &count, sizeof(ulong));
    }

    /// <summary>Waits until it is set, or the time is over.</summary>
    public void Wait(int timeoutMs) => _ = Syscall.poll([new Pollfd { fd = Descriptor, events = PollEvents.POLLIN }], timeoutMs);

    public void Dispose() => _event.Dispose();
}
