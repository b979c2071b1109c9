using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Hardening;

/// <summary>Whole requests no driver may send, and hosts that fail.</summary>
public class OddRequestTests
{
    private const byte Error = (byte)BlkStatus.VIRTIO_BLK_S_IOERR;
    private const int EIO = 5;
    private const int ENOSPC = 28;

    [Fact, Conformance("HARD-10")]
    public void A_transfer_that_is_no_whole_sector_or_not_on_the_disk_is_an_error()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        string before = device.Image.Sha256();
        ulong capacity = session.Negotiation.Config.Capacity;
        request.Data.Fill(1);
        foreach ((ulong sector, int lengthBytes) in new[]
        {
            (0ul, 511), (0ul, 513), (0ul, 1), (capacity, 512), (capacity - 1, 1024), (1ul << 55, 512), (ulong.MaxValue, 512), (ulong.MaxValue - 1, 1024),
        })
        {
            Assert.Equal(new Answer(Error, 0), request.Read(sector, lengthBytes));
            Assert.Equal(new Answer(Error, 1), request.Write(sector, lengthBytes));
        }

        Assert.Equal(before, device.Image.Sha256());
        Assert.Equal(0, request.Read(capacity - 1, 512).Status);
    }

    [Theory, Conformance("HARD-12")]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_DISCARD)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES)]
    public void A_list_of_segments_that_is_torn_or_not_on_the_disk_is_an_error(BlkRequestType type)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Data[..4096].Fill(7);
        Assert.Equal(0, request.Write(0, 4096).Status);
        string before = device.Image.Sha256();
        foreach (int lengthBytes in new[] { 0, 1, 15, 17, 31 })
        {
            request.Prepare(type).Segments(new BlkSegment { SectorCount = 8 }, new BlkSegment { SectorCount = 8 });
            Assert.Equal(Error, (lengthBytes == 0 ? request.Run(request.Header, request.Status) : request.Run(request.Header, request.Out(lengthBytes), request.Status)).Status);
        }

        ulong capacity = session.Negotiation.Config.Capacity;
        BlkSegment good = new() { SectorCount = 8 };
        Assert.Equal(Error, request.RunSegments(type, new BlkSegment { SectorCount = uint.MaxValue }).Status);
        Assert.Equal(Error, request.RunSegments(type, new BlkSegment { Sector = capacity, SectorCount = 1 }).Status);
        Assert.Equal(Error, request.RunSegments(type, new BlkSegment { Sector = ulong.MaxValue, SectorCount = 8 }).Status);
        Assert.Equal(Error, request.RunSegments(type, good, new BlkSegment { Sector = capacity - 1, SectorCount = 2 }).Status);
        Assert.Equal(Error, request.RunSegments(type, [.. Enumerable.Repeat(good, 1000)]).Status);
        Assert.Equal(before, device.Image.Sha256());
    }

    [Fact, Conformance("HARD-13")]
    public void A_flush_with_data_or_a_sector_and_a_priority_are_tolerated()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH, sector: ulong.MaxValue, reserved: uint.MaxValue);
        Assert.Equal(0, request.Run(request.Header, request.Status).Status);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
        Assert.Equal(0, request.Run(request.Header, request.Out(512), request.Status).Status);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN, reserved: 0x6007);
        Assert.Equal(0, request.Run(request.Header, request.In(512), request.Status).Status);
    }

    [Theory, Conformance("HARD-14")]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(20)]
    [InlineData(4096)]
    public void GET_ID_fits_itself_to_the_buffer(int bufferBytes)
    {
        using ServedDevice device = new(new ServedOptions { Device = new BlkDeviceOptions { Serial = "12345678901234567890" } });
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_GET_ID).Data.Fill(0xcc);
        Answer answer = bufferBytes == 0
            ? request.Run(request.Header, request.Status)
            : request.Run(request.Header, request.In(bufferBytes), request.Status);
        int written = Math.Min(20, bufferBytes);
        Assert.Equal(0, answer.Status);
        Assert.Equal("12345678901234567890"u8[..written], request.Data[..written]);
        Assert.Equal(-1, request.Data[written..4096].IndexOfAnyExcept((byte)0xcc));
        // The status comes after what was left unwritten, and then does not count.
        Assert.Equal((uint)(bufferBytes <= 20 ? bufferBytes + 1 : 20), answer.UsedBytes);
    }

    [Fact, Conformance("HARD-24")]
    public void Errors_of_the_host_are_errors_of_their_request_alone()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        device.Disk.Answer((kind, result) => kind == IoKind.Read ? -EIO : result);
        Assert.Equal(Error, request.Read(0, 4096).Status);
        Assert.Equal(0, request.Write(0, 4096).Status);
        device.Disk.Answer((kind, result) => kind == IoKind.Write ? -ENOSPC : result);
        Assert.Equal(Error, request.Write(0, 4096).Status);
        Assert.Equal(0, request.Read(0, 4096).Status);
        device.Disk.Answer((kind, result) => kind == IoKind.Fallocate ? -ENOSPC : result);
        Assert.Equal(Error, request.RunSegments(BlkRequestType.VIRTIO_BLK_T_DISCARD, new BlkSegment { SectorCount = 8 }).Status);

        // Short transfers go on where they ended.
        device.Disk.Answer((kind, result) => kind is IoKind.Read or IoKind.Write && result > 512 ? 512 : result);
        Random.Shared.NextBytes(request.Data[..4096]);
        byte[] data = request.Data[..4096].ToArray();
        Assert.Equal(new Answer(0, 1), request.Write(8, 4096));
        Assert.Equal(data, device.Image.Read(8 * 512, 4096));
        request.Data.Clear();
        Assert.Equal(new Answer(0, 4097), request.Read(8, 4096));
        Assert.Equal(data, request.Data[..4096].ToArray());

        // After a flush that failed nothing is durable any more, whatever the next one says.
        device.Disk.Answer((kind, result) => kind == IoKind.Fdatasync ? -EIO : result);
        Assert.Equal(Error, request.Flush().Status);
        device.Disk.Answer((_, result) => result);
        Assert.Equal(Error, request.Flush().Status);
        Assert.Equal(0, request.Read(8, 4096).Status);
    }
}
