namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// Aligned buffers for direct I/O on memory that is not (firmware hands out such). Owned by the queue's thread; kept for reuse.
/// </summary>
internal sealed unsafe class BounceBuffers(uint alignmentBytes) : IDisposable
{
    /// <summary>Size of each: a multiple of any alignment. Larger transfers go through it in turns. Arbitrary.</summary>
    public const uint SizeBytes = 64 << 10;

    private readonly Stack<nint> _free = new();

    public byte* Rent() => _free.TryPop(out nint buffer) ? (byte*)buffer : (byte*)NativeMemory.AlignedAlloc(SizeBytes, alignmentBytes);

    public void Return(byte* buffer) => _free.Push((nint)buffer);

    /// <summary>Frees the buffers. None may be out.</summary>
    public void Dispose()
    {
        while (_free.TryPop(out nint buffer))
        {
            NativeMemory.AlignedFree((void*)buffer);
        }
    }
}
