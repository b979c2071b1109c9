using VirtioBlkFlow.Disks.Memory;

namespace VirtioBlkFlow.Disks.Streaming;

/// <summary>What the two ends have in common: bytes of a ring, copied out of and into the disk's memory.</summary>
internal abstract class RingStream : Stream
{
    // Held while bytes are copied, so that the memory does not go meanwhile. Nobody else wants it before the end.
    private readonly Lock _copying = new();
    private bool _isClosed;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException("A stream between host and guest has no length.");

    public override long Position
    {
        get => throw new NotSupportedException("A stream between host and guest has no position.");
        set => throw new NotSupportedException("A stream between host and guest has no position.");
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException("A stream between host and guest goes one way.");

    public override void SetLength(long value) => throw new NotSupportedException("A stream between host and guest has no length.");

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("This end writes.");

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("This end reads.");

    /// <summary>The memory goes: nothing is copied any more when this has returned.</summary>
    internal void CloseMemory()
    {
        lock (_copying)
        {
            _isClosed = true;
        }
    }

    protected void CopyIn(PrivateMemory memory, ulong offset, ReadOnlySpan<byte> source)
    {
        lock (_copying)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            memory.CopyIn(offset, source);
        }
    }

    protected void CopyOut(PrivateMemory memory, ulong offset, Span<byte> destination)
    {
        lock (_copying)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            memory.CopyOut(offset, destination);
        }
    }

    // Of what lies from a position on, what is in one piece: to the end of the ring it is, then it goes on at its start.
    protected static (ulong Offset, int Count) Piece(ulong position, ulong count, ulong capacity, int wanted)
    {
        ulong offset = position % capacity;
        return (offset, (int)Math.Min((ulong)wanted, Math.Min(count, capacity - offset)));
    }
}

/// <summary>The host's end of the ring to the guest. Used by one at a time.</summary>
internal sealed class ToGuestStream(RingControl control, PrivateMemory memory, SectorRingLayout layout) : RingStream
{
    public override bool CanRead => false;

    public override bool CanWrite => true;

    /// <summary>Nothing is held back here: what was written is there for the guest.</summary>
    public override void Flush()
    {
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override void Write(byte[] buffer, int offset, int count) => WriteAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (!buffer.IsEmpty)
        {
            cancellationToken.ThrowIfCancellationRequested();
            control.FindSpace(out ulong position, out ulong count, out Task wait);
            if (count == 0)
            {
                await wait.WaitAsync(cancellationToken);
                continue;
            }

            (ulong offset, int bytes) = Piece(position, count, layout.ToGuestBytes, buffer.Length);
            CopyIn(memory, SectorRingLayout.ToGuestOffset + offset, buffer.Span[..bytes]);
            // After the data: a guest that sees the index finds the bytes it counts.
            control.Produce((ulong)bytes);
            buffer = buffer[bytes..];
        }
    }

    /// <summary>There is no more.</summary>
    protected override void Dispose(bool disposing)
    {
        control.Produce(0, RingState.Ended);
        base.Dispose(disposing);
    }
}

/// <summary>The host's end of the ring from the guest. Used by one at a time.</summary>
internal sealed class FromGuestStream(RingControl control, PrivateMemory memory, SectorRingLayout layout) : RingStream
{
    public override bool CanRead => true;

    public override bool CanWrite => false;

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => ReadAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (!buffer.IsEmpty)
        {
            cancellationToken.ThrowIfCancellationRequested();
            control.FindData(out ulong position, out ulong count, out Task? wait);
            if (wait is null)
            {
                return 0;
            }

            if (count == 0)
            {
                await wait.WaitAsync(cancellationToken);
                continue;
            }

            (ulong offset, int bytes) = Piece(position, count, layout.FromGuestBytes, buffer.Length);
            CopyOut(memory, layout.FromGuestOffset + offset, buffer.Span[..bytes]);
            // After the data: a guest that sees the index may write over the bytes it counts.
            control.Consume((ulong)bytes);
            return bytes;
        }

        return 0;
    }

    /// <summary>The host wants no more.</summary>
    protected override void Dispose(bool disposing)
    {
        control.Consume(0, RingState.Ended);
        base.Dispose(disposing);
    }
}
