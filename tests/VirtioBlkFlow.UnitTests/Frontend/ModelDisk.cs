using System.Buffers.Binary;
using System.Text;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>
/// A block device behind a model of a ring, by the numbers of the specification (VIRTIO 1.4, "Block Device", "Device Operation"). It works on
/// the bytes of a request, however they are cut. Zones are not kept: what a driver asks of them is remembered, and answered with two zones.
/// </summary>
internal sealed class ModelDisk(int sectorCount)
{
    public const string Serial = "model-disk";
    public const ulong AppendDistance = 5;

    public byte[] Bytes { get; } = new byte[sectorCount * 512];

    public (uint Type, ulong Sector) Last { get; private set; }

    /// <summary>Segments of the last request that had some.</summary>
    public byte[] LastSegments { get; private set; } = [];

    /// <summary>Carries a request out and writes its status.</summary>
    /// <returns>The used length.</returns>
    public uint Execute(SharedMemory memory, ModelChain chain)
    {
        byte[] readable = [.. chain.Buffers.Where(buffer => !buffer.DeviceWritable).SelectMany(buffer => Read(memory, buffer))];
        byte[] writable = [.. chain.Buffers.Where(buffer => buffer.DeviceWritable).SelectMany(buffer => Read(memory, buffer))];
        Last = (BinaryPrimitives.ReadUInt32LittleEndian(readable), BinaryPrimitives.ReadUInt64LittleEndian(readable.AsSpan(8)));
        (byte status, int filled) = Execute(readable.AsSpan(16), writable.AsSpan(0, writable.Length - 1));
        writable[^1] = status;
        int offset = 0;
        foreach (DriverBuffer buffer in chain.Buffers.Where(buffer => buffer.DeviceWritable))
        {
            writable.AsSpan(offset, (int)buffer.LengthBytes).CopyTo(memory.Span(buffer.GuestAddress, (int)buffer.LengthBytes));
            offset += (int)buffer.LengthBytes;
        }

        return (uint)(filled == writable.Length - 1 ? writable.Length : filled);
    }

    private static byte[] Read(SharedMemory memory, DriverBuffer buffer) => memory.Span(buffer.GuestAddress, (int)buffer.LengthBytes).ToArray();

    private (byte Status, int Filled) Execute(Span<byte> data, Span<byte> room)
    {
        (uint type, ulong sector) = Last;
        switch (type)
        {
            case 0:
            case 1:
                int bytes = type == 0 ? room.Length : data.Length;
                if ((bytes % 512) != 0 || sector > (ulong)sectorCount || (ulong)(bytes / 512) > (ulong)sectorCount - sector)
                {
                    return (1, 0);
                }

                Span<byte> place = Bytes.AsSpan((int)sector * 512, bytes);
                if (type == 0)
                {
                    place.CopyTo(room);
                    return (0, bytes);
                }

                data.CopyTo(place);
                return (0, 0);
            case 4:
            case 18 or 20 or 22 or 24 or 26:
                return (0, 0);
            case 8:
                Encoding.ASCII.GetBytes(Serial, room);
                return (0, room.Length);
            case 10:
                ((ReadOnlySpan<byte>)[1, 0, 5, 0, 11, 0]).CopyTo(room);
                return (0, 6);
            case 11 or 13 or 14:
                LastSegments = data.IsEmpty ? room.ToArray() : data.ToArray();
                for (int i = 0; type == 13 && i < data.Length; i += 16)
                {
                    ulong start = BinaryPrimitives.ReadUInt64LittleEndian(data[i..]);
                    Bytes.AsSpan((int)start * 512, BinaryPrimitives.ReadInt32LittleEndian(data[(i + 8)..]) * 512).Clear();
                }

                return (0, 0);
            case 15:
                data.CopyTo(Bytes.AsSpan((int)(sector + AppendDistance) * 512));
                BinaryPrimitives.WriteUInt64LittleEndian(room, sector + AppendDistance);
                return (0, 8);
            case 16:
                BinaryPrimitives.WriteUInt64LittleEndian(room, 2);
                for (int zone = 0; zone < 2; zone++)
                {
                    Span<byte> entry = room.Slice(64 + (zone * 64), 64);
                    BinaryPrimitives.WriteUInt64LittleEndian(entry, 100);
                    BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], sector + (ulong)(zone * 128));
                    BinaryPrimitives.WriteUInt64LittleEndian(entry[16..], sector + (ulong)(zone * 128) + 3);
                    (entry[24], entry[25]) = (2, (byte)(zone == 0 ? 3 : 14));
                }

                return (0, 192);
            default:
                return (2, 0);
        }
    }
}
