using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>An eventfd that, once set, stays readable: wakes whoever polls it beside another descriptor. Usable from every thread.</summary>
public sealed class StopSignal : IDisposable
{
    private readonly SafeFileHandle _event;

    /// <summary>Not set yet.</summary>
    /// <exception cref="IOException">The process has no descriptor left.</exception>
    public StopSignal()
    {
        var descriptor = NativeMethods.eventfd(0, NativeMethods.EFD_CLOEXEC_NONBLOCK);
        if (descriptor < 0)
        {
            throw new IOException($"eventfd fails with {Stdlib.GetLastError()}");
        }

        _event = new SafeFileHandle(descriptor, ownsHandle: true);
    }

    internal int Descriptor => (int)_event.DangerousGetHandle();

    /// <summary>Sets it for ever.</summary>
    public unsafe void Set()
    {
        var one = 1UL;
        _ = Syscall.write(Descriptor, &one, sizeof(ulong));
    }

    /// <summary>Waits until it is set, or the time is over.</summary>
    /// <param name="timeoutMs">Milliseconds to wait at most.</param>
    public void Wait(int timeoutMs) =>
        _ = Syscall.poll([new Pollfd { fd = Descriptor, events = PollEvents.POLLIN }], timeoutMs);

    /// <summary>Closes the eventfd; nobody waits any more.</summary>
    public void Dispose() => _event.Dispose();
}
