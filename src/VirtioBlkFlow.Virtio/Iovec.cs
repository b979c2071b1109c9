namespace VirtioBlkFlow.Virtio;

/// <summary>
/// One piece of host memory: <c>struct iovec</c> of <c>&lt;sys/uio.h&gt;</c>, 16 bytes on 64-bit Linux. An array of these
/// goes to the kernel as it is.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct Iovec
{
    /// <summary>Creates a piece from an address and a length in bytes.</summary>
    public Iovec(byte* basePointer, nuint lengthBytes)
    {
        Base = basePointer;
        LengthBytes = lengthBytes;
    }

    /// <summary>First byte (<c>iov_base</c>).</summary>
    public byte* Base;

    /// <summary>Length in bytes (<c>iov_len</c>).</summary>
    public nuint LengthBytes;

    /// <summary>
    /// Copies bytes out of a list of pieces, from its start.
    /// </summary>
    /// <returns>The bytes copied: fewer than the destination holds when the list is shorter.</returns>
    public static int Gather(Iovec* pieces, int count, Span<byte> destination)
    {
        int copied = 0;
        for (int i = 0; i < count && copied < destination.Length; i++)
        {
            int take = (int)Math.Min(pieces[i].LengthBytes, (nuint)(destination.Length - copied));
            new ReadOnlySpan<byte>(pieces[i].Base, take).CopyTo(destination[copied..]);
            copied += take;
        }

        return copied;
    }

    /// <summary>
    /// Copies bytes into a list of pieces, from its start.
    /// </summary>
    /// <returns>The bytes copied: fewer than the source holds when the list is shorter.</returns>
    public static int Scatter(ReadOnlySpan<byte> source, Iovec* pieces, int count)
    {
        int copied = 0;
        for (int i = 0; i < count && copied < source.Length; i++)
        {
            int take = (int)Math.Min(pieces[i].LengthBytes, (nuint)(source.Length - copied));
            source.Slice(copied, take).CopyTo(new Span<byte>(pieces[i].Base, take));
            copied += take;
        }

        return copied;
    }

    /// <summary>
    /// Drops bytes from the front of a list: advances <paramref name="pieces"/> past exhausted pieces and shortens the
    /// first one that is left. This is how a short transfer is resumed.
    /// </summary>
    public static void Advance(ref Iovec* pieces, ref int count, nuint bytes)
    {
        while (count > 0 && bytes >= pieces->LengthBytes)
        {
            bytes -= pieces->LengthBytes;
            pieces++;
            count--;
        }

        if (bytes > 0 && count > 0)
        {
            pieces->Base += bytes;
            pieces->LengthBytes -= bytes;
        }
    }
}
