using System.Runtime.InteropServices;
using Assert = Xunit.Assert;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>Zeroed native memory between two stretches of known bytes, which nobody may change.</summary>
internal sealed unsafe class GuardedMemory : IDisposable
{
    private const int GuardBytes = 64;
    private const byte GuardByte = 0xa5;

    private readonly byte* _start;

    /// <param name="lengthBytes">Length in bytes.</param>
    /// <param name="misalignment">Bytes past a multiple of 64 at which it starts.</param>
    public GuardedMemory(int lengthBytes, int misalignment = 0)
    {
        LengthBytes = lengthBytes;
        Misalignment = misalignment;
        _start = (byte*)NativeMemory.AlignedAlloc((nuint)((2 * GuardBytes) + misalignment + lengthBytes), 64);
        new Span<byte>(_start, (2 * GuardBytes) + misalignment + lengthBytes).Fill(GuardByte);
        Bytes.Clear();
    }

    public int LengthBytes { get; }

    public nint Address => (nint)_start + GuardBytes + Misalignment;

    public Span<byte> Bytes => new((void*)Address, LengthBytes);

    private int Misalignment { get; }

    public void AssertGuardsUntouched()
    {
        Assert.Equal(-1, new ReadOnlySpan<byte>(_start, GuardBytes + Misalignment).IndexOfAnyExcept(GuardByte));
        Assert.Equal(-1, new ReadOnlySpan<byte>((void*)(Address + LengthBytes), GuardBytes).IndexOfAnyExcept(GuardByte));
    }

    public void Dispose() => NativeMemory.AlignedFree(_start);
}
