using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>
/// An engine whose operations are done and then, now and then, reported as short, interrupted or failed. What it reports is what a kernel
/// might: less than was done never harms, as the rest is done again.
/// </summary>
internal sealed unsafe class FaultyEngine(IIoEngine inner, Random random) : IIoEngine
{
    // No disk moves less than a block of its own.
    private const int BlockBytes = 4096;

    private static readonly int[] s_errors = [ScriptedDisk.EINTR, ScriptedDisk.EAGAIN, ScriptedDisk.EINTR, ScriptedDisk.EIO, ScriptedDisk.ENOSPC];

    /// <summary>Errors reported that no retry of the same operation makes good.</summary>
    public int Failures { get; private set; }

    /// <summary>Results that were not those of the engine.</summary>
    public int Changed { get; private set; }

    public bool HasCompletions => inner.HasCompletions;

    public ulong SystemCallCount => inner.SystemCallCount;

    public EngineAgenda Agenda => inner.Agenda;

    public int RegisterFile(SafeFileHandle file) => inner.RegisterFile(file);

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token) => inner.Read(file, pieces, count, offsetBytes, token);

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token) =>
        inner.Write(file, pieces, count, offsetBytes, durable, token);

    public void Fdatasync(int file, uint token) => inner.Fdatasync(file, token);

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token) =>
        inner.Fallocate(file, mode, offsetBytes, lengthBytes, token);

    public void Ioctl(int file, nuint request, void* argument, uint token) => inner.Ioctl(file, request, argument, token);

    public void Send(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) => inner.Send(socket, message, user, token);

    public void Receive(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) => inner.Receive(socket, message, user, token);

    public void Watch(int watch, SafeFileHandle descriptor) => inner.Watch(watch, descriptor);

    public void Unwatch(int watch) => inner.Unwatch(watch);

    public void Submit() => inner.Submit();

    public void Wait(long timeoutNanoseconds) => inner.Wait(timeoutNanoseconds);

    public int Reap(Span<IoCompletion> destination)
    {
        int count = inner.Reap(destination);
        foreach (ref IoCompletion completion in destination[..count])
        {
            if (completion.Kind == IoCompletionKind.Operation && completion.Result >= 0 && random.Next(6) == 0)
            {
                completion = completion with { Result = Changed++ % 2 == 0 && completion.Result > BlockBytes ? Shorter(completion.Result) : Error() };
            }
        }

        return count;
    }

    public void Wake() => inner.Wake();

    public void Dispose() => inner.Dispose();

    private int Shorter(int result) => BlockBytes * random.Next(1, (result + BlockBytes - 1) / BlockBytes);

    private int Error()
    {
        int error = s_errors[random.Next(s_errors.Length)];
        Failures += error is ScriptedDisk.EINTR or ScriptedDisk.EAGAIN ? 0 : 1;
        return -error;
    }
}
