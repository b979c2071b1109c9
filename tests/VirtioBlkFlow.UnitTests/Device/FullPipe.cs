using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.Frontend.Protocol;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A pipe nobody reads, full to the last byte, whose writing end blocks.</summary>
internal sealed unsafe class FullPipe : IDisposable
{
    private readonly SafeFileHandle _readingEnd;

    public FullPipe()
    {
        (_readingEnd, WritingEnd) = DeviceState.OpenPipe();
        int writing = (int)WritingEnd.DangerousGetHandle();
        Assert.Equal(0, Syscall.fcntl(writing, FcntlCommand.F_SETFL, (long)OpenFlags.O_NONBLOCK));
        byte* bytes = stackalloc byte[4096];
        foreach (ulong length in new[] { 4096ul, 1ul })
        {
            while (Syscall.write(writing, bytes, length) > 0)
            {
            }
        }

        Assert.Equal(0, Syscall.fcntl(writing, FcntlCommand.F_SETFL, 0L));
    }

    public SafeFileHandle WritingEnd { get; }

    public void Dispose()
    {
        WritingEnd.Dispose();
        _readingEnd.Dispose();
    }
}
