namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// What a sequential zone may be after a cut. Each reset begins another generation of it. Any generation may be there from the last durable
/// one on, with its write pointer between what is durable and what was asked for, and with all that is durable below it. What was reset since
/// may have lost data, to zeros or to what was written next, and kept its write pointer: pointers and data are in two files. One request is
/// in flight for a zone at a time, as Linux has it.
/// </summary>
internal sealed class ZonePromises
{
    private const int SectorBytes = 512;

    private readonly List<Generation> _generations;
    private readonly int _capacity;
    private int _firstPossible;

    // The last one whose reset was acknowledged.
    private int _acknowledged;

    /// <param name="capacity">Bytes that can be written.</param>
    /// <param name="found">What the zone holds below its write pointer; durable.</param>
    /// <param name="isFull">Whether it is full.</param>
    public ZonePromises(int capacity, byte[] found, bool isFull)
    {
        _capacity = capacity;
        var first = new Generation(capacity) { Pointer = found.Length, MostWritten = found.Length, IsFinished = isFull, MayBeFinished = isFull };
        found.CopyTo(first.Data, 0);
        Array.Fill(first.Written, true, 0, found.Length / SectorBytes);
        Array.Fill(first.Durable, true, 0, found.Length / SectorBytes);
        first.IsFinishDurable = isFull;
        _generations = [first];
    }

    private Generation Current => _generations[^1];

    /// <summary>Where the next write belongs.</summary>
    public int Pointer => Current.Pointer;

    public bool IsFull => Current.IsFinished || Current.Pointer == _capacity;

    /// <summary>A write at the pointer begins; end it with <see cref="EndWrite"/>.</summary>
    public void BeginWrite(byte[] data)
    {
        data.CopyTo(Current.Data, Current.Pointer);
        Current.MostWritten = Math.Max(Current.MostWritten, Current.Pointer + data.Length);
    }

    public void EndWrite(int lengthBytes, bool done, bool durable)
    {
        if (!done)
        {
            return;
        }

        Array.Fill(Current.Written, true, Current.Pointer / SectorBytes, lengthBytes / SectorBytes);
        if (durable)
        {
            _firstPossible = _generations.Count - 1;
            Array.Fill(Current.Durable, true, Current.Pointer / SectorBytes, lengthBytes / SectorBytes);
        }

        Current.Pointer += lengthBytes;
    }

    public void BeginFinish() => Current.MayBeFinished = true;

    public void EndFinish(bool done, bool durable)
    {
        Current.IsFinished |= done;
        if (done && durable)
        {
            _firstPossible = _generations.Count - 1;
            Current.IsFinishDurable = true;
        }
    }

    public void BeginReset() => _generations.Add(new Generation(_capacity));

    /// <summary>A reset has ended. One that failed has reset the zone in part, or all of it, or not at all.</summary>
    public void EndReset(bool done, bool durable)
    {
        if (done)
        {
            _acknowledged = _generations.Count - 1;
            _firstPossible = durable ? _acknowledged : _firstPossible;
        }
    }

    /// <summary>What has ended by now; for a flush that begins.</summary>
    public object Mark() => new Marked(_acknowledged, [.. _generations[_acknowledged].Written], _generations[_acknowledged].IsFinished);

    /// <summary>A flush has succeeded that began with a mark.</summary>
    public void MakeDurable(object mark)
    {
        var marked = (Marked)mark;
        _firstPossible = Math.Max(_firstPossible, marked.Generation);
        Generation generation = _generations[marked.Generation];
        generation.IsFinishDurable |= marked.IsFinished;
        for (int i = 0; i < marked.Written.Length; i++)
        {
            generation.Durable[i] |= marked.Written[i];
        }
    }

    /// <summary>Whether a zone may be like this; what is wrong with it, for the nearest generation, or null.</summary>
    public string? FindLoss(int pointer, bool isFull, ReadOnlySpan<byte> data)
    {
        string? loss = null;
        for (int i = _generations.Count - 1; i >= _firstPossible; i--)
        {
            loss = _generations[i].FindLoss(pointer, isFull, data, _generations[(i + 1)..]) is { } found ? $"generation {i}: {found}" : null;
            if (loss == null)
            {
                return null;
            }
        }

        return loss;
    }

    private sealed record Marked(int Generation, bool[] Written, bool IsFinished);

    // From a reset to the next.
    private sealed class Generation(int capacity)
    {
        public byte[] Data { get; } = new byte[capacity];

        // Sectors of writes that were acknowledged, and of those that are durable.
        public bool[] Written { get; } = new bool[capacity / SectorBytes];

        public bool[] Durable { get; } = new bool[capacity / SectorBytes];

        public int Pointer { get; set; }

        public int MostWritten { get; set; }

        public bool IsFinished { get; set; }

        public bool MayBeFinished { get; set; }

        public bool IsFinishDurable { get; set; }

        public string? FindLoss(int pointer, bool isFull, ReadOnlySpan<byte> data, List<Generation> later)
        {
            int least = SectorBytes * (Array.LastIndexOf(Durable, true) + 1);
            if (pointer < least || pointer > MostWritten)
            {
                return $"the write pointer is at {pointer}, not from {least} to {MostWritten}";
            }

            bool isWritten = pointer == Data.Length;
            if (isFull ? !isWritten && !MayBeFinished : isWritten || IsFinishDurable)
            {
                return $"that it is full is {isFull}";
            }

            for (int i = 0; i < Durable.Length; i++)
            {
                byte[] found = data.Slice(i * SectorBytes, SectorBytes).ToArray();
                bool Holds(Generation one) => one.Data.AsSpan(i * SectorBytes, SectorBytes).SequenceEqual(found);
                if (Durable[i] && !Holds(this) && !later.Exists(Holds) && (later.Count == 0 || found.AsSpan().ContainsAnyExcept((byte)0)))
                {
                    return $"sector {i} does not hold what is durable";
                }
            }

            return null;
        }
    }
}
