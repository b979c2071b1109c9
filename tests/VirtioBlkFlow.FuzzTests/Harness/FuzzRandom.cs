namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>
/// Random numbers that are the same for a seed on every machine and runtime, which <see cref="Random"/> does not promise. The generator is
/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
/// </summary>
internal sealed class FuzzRandom(ulong seed)
{
    private static readonly ulong[] s_edges = [0, 1, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x1_0000, int.MaxValue, 0x8000_0000, uint.MaxValue, 1ul << 32, 1ul << 40, 1ul << 55, 1ul << 63, ulong.MaxValue];

    private ulong _state = seed;

    public ulong Next64()
    {
        ulong z = _state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    /// <summary>A number from 0 below the bound.</summary>
    public int Below(int bound) => (int)(Next64() % (uint)bound);

    /// <summary>A number within both bounds.</summary>
    public int Between(int least, int most) => least + Below(most - least + 1);

    public bool OneIn(int times) => Below(times) == 0;

    public T Pick<T>(params ReadOnlySpan<T> choices) => choices[Below(choices.Length)];

    public void Fill(Span<byte> bytes)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        for (int i = 0; i < words.Length; i++)
        {
            words[i] = Next64();
        }

        for (int i = words.Length * sizeof(ulong); i < bytes.Length; i++)
        {
            bytes[i] = (byte)Next64();
        }
    }

    /// <summary>A number where arithmetic tends to go wrong: an edge of some integer type, a little off, or anything.</summary>
    public ulong NearAnEdge() => OneIn(4) ? Next64() : s_edges[Below(s_edges.Length)] + (ulong)(long)Between(-2, 2);

    /// <summary>Cuts a length into pieces of random sizes, none of them 0.</summary>
    public List<int> Cut(int length, int mostPieces)
    {
        List<int> pieces = [];
        while (length > 0 && pieces.Count < mostPieces - 1 && !OneIn(3))
        {
            int piece = Between(1, length);
            pieces.Add(piece);
            length -= piece;
        }

        if (length > 0)
        {
            pieces.Add(length);
        }

        return pieces;
    }
}
