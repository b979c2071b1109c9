using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>A descriptor that tells when nobody holds it any more: an end of a socket pair, whose other end then sees a hang-up.</summary>
internal sealed class TracedDescriptor : IDisposable
{
    private readonly SafeFileHandle _other;

    public TracedDescriptor() => (_other, Handle) = VhostUserFrontend.CreateSocketPair();

    /// <summary>What to send.</summary>
    public SafeFileHandle Handle { get; }

    /// <summary>Lets go of our own, and checks that the peer keeps none. The peer is past what was sent with it.</summary>
    public void AssertNobodyHoldsIt()
    {
        Handle.Dispose();
        Pollfd[] polled = [new Pollfd { fd = (int)_other.DangerousGetHandle(), events = PollEvents.POLLIN }];
        Assert.True(Syscall.poll(polled, Await.DeadlineMs) > 0 && polled[0].revents.HasFlag(PollEvents.POLLHUP), "A descriptor was kept.");
    }

    public void Dispose()
    {
        Handle.Dispose();
        _other.Dispose();
    }
}
