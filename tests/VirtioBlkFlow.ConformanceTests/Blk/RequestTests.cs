using System.Text;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Blk;

/// <summary>Each type of request, what it does and what it answers.</summary>
public class RequestTests
{
    private static readonly Answer s_unsupported = new((byte)BlkStatus.VIRTIO_BLK_S_UNSUPP, 1);
    private static readonly Answer s_error = new((byte)BlkStatus.VIRTIO_BLK_S_IOERR, 1);

    [Theory, Conformance("BLK-67", "BLK-68")]
    [InlineData(512)]
    [InlineData(4096)]
    [InlineData(65536 + 512)]
    [InlineData(1 << 20)]
    [InlineData(4 << 20)]
    public void What_is_written_is_stored_and_read_again(int lengthBytes)
    {
        using ServedDevice device = new(new ServedOptions { ImageBytes = 8 << 20 });
        using FrontendSession session = device.Open();
        RequestPlace request = new(session, dataBytes: 4 << 20);
        byte[] data = new byte[lengthBytes];
        Random.Shared.NextBytes(data);
        data.CopyTo(request.Data);
        Assert.Equal(new Answer(0, 1), request.Write(24, lengthBytes));
        Assert.Equal(data, device.Image.Read(24 * 512, lengthBytes));
        request.Data.Clear();
        Assert.Equal(new Answer(0, (uint)lengthBytes + 1), request.Read(24, lengthBytes));
        Assert.Equal(data, request.Data[..lengthBytes].ToArray());
    }

    [Fact, Conformance("BLK-18", "BLK-19")]
    public void Nothing_changes_a_read_only_disk_even_if_the_driver_does_not_know()
    {
        using ServedDevice device = new(new ServedOptions { ReadOnly = true });
        NegotiationOptions blind = new() { BlkFeatures = new NegotiationOptions().BlkFeatures & ~BlkFeatures.VIRTIO_BLK_F_RO };
        using FrontendSession session = device.Open(new FrontendOptions { Negotiation = blind });
        RequestPlace request = new(session);
        request.Data.Fill(0x5a);
        string before = device.Image.Sha256();
        Assert.Equal(s_error, request.Write(0, 512));
        foreach (BlkRequestType type in new[] { BlkRequestType.VIRTIO_BLK_T_DISCARD, BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES })
        {
            Assert.NotEqual(0, request.RunSegments(type, new BlkSegment { SectorCount = 8 }).Status);
        }

        Assert.Equal(0, request.Read(0, 512).Status);
        Assert.Equal(before, device.Image.Sha256());
    }

    [Theory, Conformance("BLK-66", "BLK-39")]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(5u)]
    [InlineData(6u)]
    [InlineData(7u)]
    [InlineData(9u)]
    [InlineData(12u)]
    [InlineData(15u)]
    [InlineData(16u)]
    [InlineData(17u)]
    [InlineData(18u)]
    [InlineData(20u)]
    [InlineData(22u)]
    [InlineData(24u)]
    [InlineData(26u)]
    [InlineData(99u)]
    [InlineData(0x8000_0000u)]
    [InlineData(uint.MaxValue)]
    public void A_type_that_is_unknown_or_was_not_negotiated_is_unsupported(uint type)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Prepare((BlkRequestType)type);
        Assert.Equal(s_unsupported, request.Run(request.Header, request.Status));
        request.Prepare((BlkRequestType)type);
        Assert.Equal(s_unsupported, request.Run(request.Header, request.Out(512), request.Status));
        request.Prepare((BlkRequestType)type).Data[..512].Fill(0xa5);
        // Nothing was written before the status, so the length counts nothing.
        Assert.Equal(s_unsupported with { UsedBytes = 0 }, request.Run(request.Header, request.In(512), request.Status));
        Assert.Equal(-1, request.Data[..512].IndexOfAnyExcept((byte)0xa5));
    }

    [Fact, Conformance("BLK-65")]
    public void The_status_is_the_last_writable_byte_wherever_a_descriptor_ends()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Data[..1024].Fill(0x77);
        Assert.Equal(0, request.Write(0, 1024).Status);
        foreach (int[] pieces in new int[][] { [513], [100, 300, 113], [512, 1], [1, 512], [511, 2], [1, 1, 510, 1] })
        {
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN).Data[..600].Fill(RequestPlace.NotWritten);
            int offset = 0;
            List<Frontend.Ring.DriverBuffer> chain = [request.Header];
            foreach (int piece in pieces)
            {
                chain.Add(request.In(piece, offset));
                offset += piece;
            }

            Assert.Equal(513u, request.Run([.. chain]).UsedBytes);
            Assert.Equal(-1, request.Data[..512].IndexOfAnyExcept((byte)0x77));
            Assert.Equal(0, request.Data[512]);
            Assert.Equal(RequestPlace.NotWritten, request.Data[513]);
        }

        request.Prepare((BlkRequestType)99);
        Assert.Equal(s_unsupported, request.Run(request.Header, request.Status));
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_IOERR, request.Read(1 << 30, 512).Status);
    }

    [Theory, Conformance("BLK-69")]
    [InlineData("")]
    [InlineData("disk5")]
    [InlineData("nineteen-characters")]
    [InlineData("exactly-20-charactr.")]
    [InlineData("thirty-characters-are-too-many")]
    public void The_serial_is_padded_to_20_bytes_or_cut(string serial)
    {
        using ServedDevice device = new(new ServedOptions { Device = new BlkDeviceOptions { Serial = serial } });
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_GET_ID).Data[..32].Fill(0xcc);
        Answer answer = request.Run(request.Header, request.In(20), request.Status);
        Assert.Equal(0, answer.Status);
        byte[] expected = new byte[20];
        Encoding.ASCII.GetBytes(serial).AsSpan(0, Math.Min(20, serial.Length)).CopyTo(expected);
        Assert.Equal(expected, request.Data[..20].ToArray());
        Assert.Equal(0xcc, request.Data[20]);
    }

    [Fact, Conformance("BLK-64")]
    public void A_sector_is_512_bytes_on_a_disk_of_4096_byte_blocks()
    {
        using ServedDevice device = new(new ServedOptions { LogicalBlockBytes = 4096 });
        using FrontendSession session = device.Open();
        Assert.Equal(4096u, session.Negotiation.Config.BlkSize);
        Assert.Equal((4ul << 20) / 512, session.Negotiation.Config.Capacity);
        RequestPlace request = new(session);
        request.Data[..4096].Fill(0x42);
        Assert.Equal(0, request.Write(8, 4096).Status);
        Assert.Equal(request.Data[..4096].ToArray(), device.Image.Read(4096, 4096));
        Assert.Equal(new byte[4096], device.Image.Read(0, 4096));
        Assert.Equal(0, request.Read(8, 4096).Status);
    }

    [Fact, Conformance("BLK-71")]
    public async Task Every_queue_works_beside_the_others()
    {
        const int QueueCount = 4;
        using ServedDevice device = new(new ServedOptions { ImageBytes = 8 << 20, Device = new BlkDeviceOptions { QueueCount = QueueCount } });
        ShadowDisk shadow = new(8);
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = QueueCount });
        Assert.Equal(QueueCount, session.Negotiation.Config.NumQueues);
        ulong part = shadow.SectorCount / QueueCount;
        await Task.WhenAll(session.Drivers.Select((driver, i) => Task.Run(
            () => new VerifiedTraffic(driver, shadow, (ulong)i * part, part, seed: i).Run(500))));
        shadow.AssertEqualTo(device.Image);

        // Without MQ the first queue is the device.
        session.Frontend.Dispose();
        NegotiationOptions single = new() { BlkFeatures = new NegotiationOptions().BlkFeatures & ~BlkFeatures.VIRTIO_BLK_F_MQ };
        using FrontendSession next = device.Open(new FrontendOptions { Negotiation = single });
        next.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("BLK-72", "SPLIT-02")]
    public void Requests_up_to_each_limit_work_and_those_beyond_fail()
    {
        using ServedDevice device = new(new ServedOptions { ImageBytes = 4L << 30 });
        using FrontendSession session = device.Open(new FrontendOptions { QueueSize = 256 });
        BlkConfig config = session.Negotiation.Config;
        RequestPlace request = new(session, dataBytes: 1 << 20);
        foreach ((BlkRequestType type, uint sectors, uint segments) in new[]
        {
            (BlkRequestType.VIRTIO_BLK_T_DISCARD, config.MaxDiscardSectors, config.MaxDiscardSeg),
            (BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES, config.MaxWriteZeroesSectors, config.MaxWriteZeroesSeg),
        })
        {
            uint flags = type == BlkRequestType.VIRTIO_BLK_T_DISCARD ? 0u : 1u;
            BlkSegment[] most = [.. Enumerable.Range(0, (int)segments).Select(i => new BlkSegment { Sector = (ulong)i * 8, SectorCount = 8, Flags = flags })];
            Assert.Equal(new Answer(0, 1), request.RunSegments(type, new BlkSegment { SectorCount = sectors, Flags = flags }));
            Assert.Equal(s_error, request.RunSegments(type, new BlkSegment { SectorCount = sectors + 8, Flags = flags }));
            Assert.Equal(new Answer(0, 1), request.RunSegments(type, most));
            Assert.Equal(s_error, request.RunSegments(type, [.. most, new BlkSegment { SectorCount = 8, Flags = flags }]));
        }

        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
        IEnumerable<Frontend.Ring.DriverBuffer> data = Enumerable.Range(0, (int)config.SegMax).Select(i => request.In(512, i * 1024));
        Assert.Equal(new Answer(0, (config.SegMax * 512) + 1), request.Run([request.Header, .. data, request.Status]));
    }

    [Fact, Conformance("BLK-04", "BLK-16")]
    public void Padding_reads_as_zero()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        byte[] config = session.Frontend.GetConfig(0, 96)!;
        Assert.Equal(0, config[33]);
        Assert.Equal(new byte[3], config[57..60]);
        Assert.Equal(new byte[3], config[93..96]);
    }
}
