using System.Buffers.Binary;

namespace VirtioBlkFlow.Device;

/// <summary>
/// What a device takes along to another host, apart from what the front-end tells anyway: 8 bytes, little-endian: "VBLK", le16 version 1,
/// u8 writeback (the configuration field, which a driver may have written and will not write again), u8 0.
/// </summary>
internal static class SavedState
{
    private const ushort Version = 1;
    private const int VersionOffset = 4;
    private const int WritebackOffset = 6;
    private const int Bytes = 8;

    private static ReadOnlySpan<byte> Magic => "VBLK"u8;

    public static byte[] Write(byte writeback)
    {
        byte[] state = new byte[Bytes];
        Magic.CopyTo(state);
        BinaryPrimitives.WriteUInt16LittleEndian(state.AsSpan(VersionOffset), Version);
        state[WritebackOffset] = writeback;
        return state;
    }

    /// <returns>False unless it is a state that <see cref="Write"/> can have made.</returns>
    public static bool TryRead(ReadOnlySpan<byte> state, out byte writeback)
    {
        writeback = 0;
        if (state.Length != Bytes || !state.StartsWith(Magic) || state[WritebackOffset] > 1 || state[^1] != 0
            || BinaryPrimitives.ReadUInt16LittleEndian(state[VersionOffset..]) != Version)
        {
            return false;
        }

        writeback = state[WritebackOffset];
        return true;
    }
}
