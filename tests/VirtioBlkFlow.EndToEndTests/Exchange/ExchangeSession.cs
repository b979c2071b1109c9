using System.Buffers.Binary;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Exchange;

/// <summary>A guest of an exchange, by our own front-end: it knows what it reads from the status sector, and nothing else.</summary>
internal sealed class ExchangeSession : IDisposable
{
    private readonly FrontendSession _session;

    public ExchangeSession(string socketPath)
    {
        _session = FrontendSession.Open(socketPath);
        ulong sectors = _session.Negotiation.Config.Capacity;
        StatusSector = sectors - 8;
        byte[] header = Read(StatusSector, 512);
        Assert.Equal("VBLKEXCH"u8.ToArray(), header[..8]);
        InputBytes = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(40));
        OutputSector = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(48));
        OutputCapacity = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(56));
    }

    public ulong StatusSector { get; }

    public ulong InputBytes { get; }

    public ulong OutputSector { get; }

    public ulong OutputCapacity { get; }

    /// <summary>All of it, in requests of 32 KiB.</summary>
    public byte[] ReadInput()
    {
        List<byte> input = [];
        while ((ulong)input.Count < InputBytes)
        {
            ulong left = (OutputSector * 512) - (ulong)input.Count;
            input.AddRange(Read((ulong)input.Count / 512, (int)Math.Min(left, 32768)));
        }

        return [.. input.Take((int)InputBytes)];
    }

    public byte[] Read(ulong sector, int lengthBytes)
    {
        byte[] bytes = new byte[lengthBytes];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, _session.Drivers[0].Read(sector, bytes));
        return bytes;
    }

    public BlkStatus Write(ulong sector, ReadOnlySpan<byte> bytes) => _session.Drivers[0].Write(sector, bytes);

    /// <summary>Output from a place on, padded to whole sectors.</summary>
    public void WriteOutput(int offsetBytes, ReadOnlySpan<byte> bytes)
    {
        for (int done = 0; done < bytes.Length; done += 32768)
        {
            ReadOnlySpan<byte> some = bytes[done..Math.Min(done + 32768, bytes.Length)];
            byte[] sectors = new byte[(some.Length + 511) / 512 * 512];
            some.CopyTo(sectors);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, Write(OutputSector + (ulong)((offsetBytes + done) / 512), sectors));
        }
    }

    public BlkStatus Mark(ulong state, ulong outputBytes, ulong exitCode, string message = "")
    {
        byte[] sector = new byte[512];
        "VBLKEXCH"u8.CopyTo(sector);
        BinaryPrimitives.WriteUInt64LittleEndian(sector.AsSpan(8), 1);
        BinaryPrimitives.WriteUInt64LittleEndian(sector.AsSpan(16), state);
        BinaryPrimitives.WriteUInt64LittleEndian(sector.AsSpan(24), outputBytes);
        BinaryPrimitives.WriteUInt64LittleEndian(sector.AsSpan(32), exitCode);
        System.Text.Encoding.UTF8.GetBytes(message, sector.AsSpan(256));
        return Write(StatusSector, sector);
    }

    public BlkStatus Flush() => _session.Drivers[0].Flush();

    public void Dispose() => _session.Dispose();
}
