using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>An engine without work, for a disk that needs none. What it is not asked for here, it refuses.</summary>
internal sealed unsafe class NullEngine : IIoEngine
{
    public bool HasCompletions => false;

    public ulong SystemCallCount => 0;

    public EngineAgenda Agenda => throw new NotSupportedException();

    public void Submit()
    {
    }

    public int Reap(Span<IoCompletion> destination) => 0;

    public int RegisterFile(SafeFileHandle file) => throw new NotSupportedException();

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) => throw new NotSupportedException();

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token) => throw new NotSupportedException();

    public void Fdatasync(int file, uint token) => throw new NotSupportedException();

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token) => throw new NotSupportedException();

    public void Ioctl(int file, nuint request, void* argument, uint token) => throw new NotSupportedException();

    public void Watch(int watch, SafeFileHandle descriptor) => throw new NotSupportedException();

    public void Unwatch(int watch) => throw new NotSupportedException();

    public void Wait(long timeoutNanoseconds) => throw new NotSupportedException();

    public void Wake() => throw new NotSupportedException();

    public void Dispose()
    {
    }
}
