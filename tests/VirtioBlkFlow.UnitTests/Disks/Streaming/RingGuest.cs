using System.Buffers.Binary;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Streaming;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Streaming;

/// <summary>
/// A guest's end of both rings, which does all it does by reading and writing sectors, and knows nothing but what it finds there. It is as
/// simple as the one in docs/exchange.md: whole sectors, one transfer at a time.
/// </summary>
internal sealed class RingGuest : IDisposable
{
    private readonly DiskBench _bench;
    private readonly ulong[] _header;

    public RingGuest(SectorRingDisk disk)
    {
        _bench = new DiskBench(disk, IoEngineKind.Threads);
        byte[] header = Read(0, 1);
        Assert.Equal("VBLKRING"u8.ToArray(), header[..8]);
        _header = [.. Enumerable.Range(0, 12).Select(i => BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(i * 8)))];
        Assert.Equal(1ul, _header[1]);
    }

    public ulong Stream => _header[2];

    public ulong InProducerSector => _header[3];

    public ulong InConsumerSector => _header[4];

    public ulong InDataSector => _header[5];

    public ulong InCapacity => _header[6];

    public ulong OutProducerSector => _header[7];

    public ulong OutConsumerSector => _header[8];

    public ulong OutDataSector => _header[9];

    public ulong OutCapacity => _header[10];

    public byte[] Read(ulong sector, int count)
    {
        Assert.Equal(DiskOutcome.Done, _bench.Transfer(DiskOperation.Read, sector * 512, 0, 1, count * 512));
        return _bench.Memory[..(count * 512)].ToArray();
    }

    public DiskOutcome Write(ulong sector, ReadOnlySpan<byte> sectors)
    {
        sectors.CopyTo(_bench.Memory);
        return _bench.Transfer(DiskOperation.Write, sector * 512, 0, 1, sectors.Length);
    }

    public RingIndex IndexAt(ulong sector)
    {
        Assert.True(RingIndex.TryRead(Read(sector, 1), out RingIndex index, out ulong stream, out string problem), problem);
        Assert.Equal(Stream, stream);
        return index;
    }

    public byte[] Sector(RingIndex index, ulong? stream = null)
    {
        byte[] sector = new byte[512];
        index.Write(sector, stream ?? Stream);
        return sector;
    }

    public DiskOutcome SetIndex(ulong sector, RingIndex index) => Write(sector, Sector(index));

    /// <summary>What there is to consume from a position on, up to the end of the ring.</summary>
    public byte[] Peek(ulong position, int most)
    {
        ulong place = position % InCapacity;
        int count = (int)Math.Min(Math.Min(IndexAt(InProducerSector).Position - position, InCapacity - place), (ulong)most);
        if (count == 0)
        {
            return [];
        }

        ulong first = place / 512;
        int sectors = (int)(((place + (ulong)count + 511) / 512) - first);
        return Read(InDataSector + first, sectors).AsSpan((int)(place % 512), count).ToArray();
    }

    /// <summary>How much can be produced at a position. A sector stays free, since the last one written may hold what was not consumed.</summary>
    public int Room(ulong position)
    {
        ulong free = OutCapacity - 512 - (position - IndexAt(OutConsumerSector).Position);
        return (int)Math.Min(free, OutCapacity - (position % OutCapacity));
    }

    /// <summary>Puts bytes at a position, without counting them.</summary>
    public void Put(ulong position, ReadOnlySpan<byte> bytes)
    {
        ulong place = position % OutCapacity;
        int before = (int)(place % 512);
        byte[] sectors = new byte[(before + bytes.Length + 511) / 512 * 512];
        if (before > 0)
        {
            Read(OutDataSector + (place / 512), 1).AsSpan(0, before).CopyTo(sectors);
        }

        bytes.CopyTo(sectors.AsSpan(before));
        Assert.Equal(DiskOutcome.Done, Write(OutDataSector + (place / 512), sectors));
    }

    public void Dispose() => _bench.Dispose();
}
