using System.Diagnostics;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>pwritev2(2).</summary>
internal unsafe delegate nint VectoredWrite(int descriptor, Iovec* pieces, int count, long offsetBytes, int flags);

/// <summary>
/// Writes into the page cache that the queue's thread does itself, where io_uring would hand each of them to a worker thread of the kernel.
/// That is so for file systems that cannot say beforehand whether a write would block (ext4 among them; RWF_NOWAIT of pwritev2(2) tells), and
/// it costs several times what the write does. Owned by the queue's thread.
/// </summary>
/// <remarks>
/// Only what should not block is done so: whole pages, which need nothing read, that need not be durable. A write can block nevertheless, when
/// the kernel holds back who dirties memory, or behind a journal. Then reads of the queue wait as well, so after one that was slow the
/// workers get the writes for a while; see <see cref="StallGuard"/>.
/// </remarks>
internal sealed unsafe class InlineWrites
{
    /// <summary>Longest write done so, in bytes: to copy it takes some 20 µs, in which nothing else of the queue goes on. Arbitrary.</summary>
    public const uint MaxBytes = 128 << 10;

    private const uint PageMask = 4095;

    // Fixed at construction.
    private readonly int _descriptor;
    private readonly VectoredWrite _write;
    private readonly Func<long> _clock;
    private readonly StallGuard _guard = new();

    // Owned by the queue's thread.
    private Usefulness _usefulness;

    /// <param name="descriptor">The file.</param>
    /// <param name="write">Writes.</param>
    /// <param name="clock">Tells the time as <see cref="Stopwatch.GetTimestamp"/> does.</param>
    public InlineWrites(int descriptor, VectoredWrite write, Func<long> clock)
    {
        _descriptor = descriptor;
        _write = write;
        _clock = clock;
    }

    private enum Usefulness : byte
    {
        Unknown,
        Useful,

        // The kernel does such writes in the call that submits them.
        Useless,
    }

    /// <summary>Writes, if this is a write to be done here and now.</summary>
    /// <param name="request">What is left of a request.</param>
    /// <param name="count">How many of its pieces to write.</param>
    /// <param name="result">Bytes written, or the negated error.</param>
    /// <returns>False if it is the engine's, and nothing was done.</returns>
    public bool TryWrite(in DiskRequest request, int count, out int result)
    {
        result = 0;
        if (_usefulness == Usefulness.Useless || request.Durable || request.LengthBytes > MaxBytes
            || ((request.OffsetBytes | request.LengthBytes) & PageMask) != 0)
        {
            return false;
        }

        if (_usefulness == Usefulness.Unknown)
        {
            result = Write(in request, count, RWF_NOWAIT);
            if (result != -EOPNOTSUPP)
            {
                _usefulness = Usefulness.Useless;
                return result > 0;
            }

            _usefulness = Usefulness.Useful;
        }

        // Not earlier: what is compiled at its first call was slow for another reason.
        long start = _clock();
        if (!_guard.Allows(start))
        {
            return false;
        }

        result = Write(in request, count, 0);
        _guard.OnEnded(start, _clock());
        return true;
    }

    private int Write(in DiskRequest request, int count, int flags)
    {
        nint written = _write(_descriptor, request.Pieces, count, (long)request.OffsetBytes, flags);
        return written >= 0 ? (int)written : -Marshal.GetLastPInvokeError();
    }
}
