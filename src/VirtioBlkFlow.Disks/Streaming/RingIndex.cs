using System.Buffers.Binary;

namespace VirtioBlkFlow.Disks.Streaming;

/// <summary>What one side says about its part in one direction of a stream.</summary>
public enum RingState : ulong
{
    /// <summary>It goes on.</summary>
    Open = 0,

    /// <summary>From who produces: there is nothing behind the position. From who consumes: it wants no more.</summary>
    Ended = 1,

    /// <summary>It gives up; the code says why, if the other side knows it.</summary>
    Aborted = 2,
}

/// <summary>
/// An index of a ring over sectors: how far its owner has come. It has a sector of its own, written by its owner only. docs/exchange.md has
/// the format.
/// </summary>
/// <param name="Position">Bytes produced, or consumed, since the stream began. It only grows; the place in the ring is the rest of a division by its capacity.</param>
/// <param name="State">Whether it goes on.</param>
/// <param name="Code">With <see cref="RingState.Aborted"/>: what the program ended with, 0 to 255; otherwise 0.</param>
public readonly record struct RingIndex(ulong Position, RingState State = RingState.Open, byte Code = 0)
{
    /// <summary>Bytes of the sector that mean something; the others are zeros.</summary>
    public const int SizeBytes = 40;

    private const int StreamOffset = 8;
    private const int PositionOffset = 16;
    private const int StateOffset = 24;
    private const int CodeOffset = 32;

    private static ReadOnlySpan<byte> Magic => "VBLKRIDX"u8;

    /// <summary>Writes the index.</summary>
    /// <param name="destination">At least <see cref="SizeBytes"/>.</param>
    /// <param name="stream">Which stream it belongs to.</param>
    public void Write(Span<byte> destination, ulong stream)
    {
        Magic.CopyTo(destination);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[StreamOffset..], stream);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[PositionOffset..], Position);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[StateOffset..], (ulong)State);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[CodeOffset..], Code);
    }

    /// <summary>Reads an index.</summary>
    /// <param name="source">At least <see cref="SizeBytes"/>, which nobody changes meanwhile.</param>
    /// <param name="index">What it says.</param>
    /// <param name="stream">Which stream it belongs to.</param>
    /// <param name="problem">If it is none: what was seen, as the rest of a sentence that begins with the index's name.</param>
    public static bool TryRead(ReadOnlySpan<byte> source, out RingIndex index, out ulong stream, out string problem)
    {
        stream = BinaryPrimitives.ReadUInt64LittleEndian(source[StreamOffset..]);
        ulong position = BinaryPrimitives.ReadUInt64LittleEndian(source[PositionOffset..]);
        ulong state = BinaryPrimitives.ReadUInt64LittleEndian(source[StateOffset..]);
        ulong code = BinaryPrimitives.ReadUInt64LittleEndian(source[CodeOffset..]);
        problem = 0 switch
        {
            _ when !source.StartsWith(Magic) => $"begins with {Convert.ToHexStringLower(source[..Magic.Length])}, not with VBLKRIDX",
            _ when state > (ulong)RingState.Aborted => $"has state {state}, which there is not",
            _ when code > byte.MaxValue => $"has code {code}, and the largest is {byte.MaxValue}",
            _ => "",
        };
        index = new RingIndex(position, (RingState)state, (byte)code);
        return problem.Length == 0;
    }
}
