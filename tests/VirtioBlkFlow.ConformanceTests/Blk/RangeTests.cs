using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Blk;

/// <summary>DISCARD and WRITE_ZEROES.</summary>
public class RangeTests
{
    private const BlkRequestType Discard = BlkRequestType.VIRTIO_BLK_T_DISCARD;
    private const BlkRequestType WriteZeroes = BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES;
    private const int RangeBytes = 1 << 20;

    [Theory, Conformance("BLK-20", "BLK-21", "BLK-23")]
    [InlineData(Discard, 1u)]
    [InlineData(Discard, 2u)]
    [InlineData(Discard, 0x8000_0000u)]
    [InlineData(Discard, 0xffff_fffeu)]
    [InlineData(WriteZeroes, 2u)]
    [InlineData(WriteZeroes, 3u)]
    [InlineData(WriteZeroes, 0x8000_0000u)]
    [InlineData(WriteZeroes, 0xffff_fffeu)]
    public void A_flag_that_may_not_be_is_unsupported_and_nothing_is_done(BlkRequestType type, uint flags)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = Patterned(session);
        string before = device.Image.Sha256();
        Assert.Equal(
            new Answer((byte)BlkStatus.VIRTIO_BLK_S_UNSUPP, 1), request.RunSegments(type, new BlkSegment { SectorCount = 8, Flags = flags }));
        Assert.Equal(before, device.Image.Sha256());
    }

    [Theory, Conformance("BLK-22")]
    [InlineData(1u)]
    [InlineData(2u)]
    [InlineData(0x8000_0000u)]
    public void Of_an_erase_every_flag_is_reserved(uint flags)
    {
        using ServedDevice device = new(new ServedOptions { SecureErase = true });
        using FrontendSession session = device.Open();
        Assert.True(((BlkFeatures)session.Negotiation.Features).HasFlag(BlkFeatures.VIRTIO_BLK_F_SECURE_ERASE));
        RequestPlace request = Patterned(session);
        string before = device.Image.Sha256();
        device.Disk.Hold(operation => operation == Disks.DiskOperation.SecureErase);
        BlkSegment good = new() { SectorCount = 8 };
        foreach (BlkSegment[] list in new BlkSegment[][] { [good with { Flags = flags }], [good, good with { Sector = 1ul << 40, Flags = flags }] })
        {
            Assert.Equal(new Answer((byte)BlkStatus.VIRTIO_BLK_S_UNSUPP, 1), request.RunSegments(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, list));
        }

        Assert.Equal(0, device.Disk.HeldCount);
        Assert.Equal(before, device.Image.Sha256());
    }

    [Theory, Conformance("BLK-24")]
    [InlineData(Discard)]
    [InlineData(WriteZeroes)]
    public void A_bad_flag_counts_before_a_bad_range_and_in_any_segment(BlkRequestType type)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = Patterned(session);
        string before = device.Image.Sha256();
        BlkSegment good = new() { SectorCount = 8 };
        BlkSegment bad = new() { Sector = 1ul << 40, SectorCount = 8, Flags = 2 };
        byte unsupported = (byte)BlkStatus.VIRTIO_BLK_S_UNSUPP;
        Assert.Equal(unsupported, request.RunSegments(type, good, bad).Status);
        Assert.Equal(unsupported, request.RunSegments(type, bad, good).Status);
        Assert.Equal(unsupported, request.RunSegments(type, good, bad with { Flags = 0 }, good with { Flags = 2 }).Status);
        Assert.Equal(before, device.Image.Sha256());
    }

    [Fact, Conformance("BLK-25")]
    public async Task A_discard_gives_space_back()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = Patterned(session);
        long before = await device.Image.AllocatedBytesAsync();
        Assert.Equal(0, request.RunSegments(Discard, new BlkSegment { SectorCount = RangeBytes / 512 }).Status);
        Assert.True(await device.Image.AllocatedBytesAsync() <= before - RangeBytes, "The file is as large as before.");
        Assert.Equal(0, request.Read(0, 4096).Status);
    }

    [Theory, Conformance("BLK-26", "BLK-27", "BLK-28", "BLK-29")]
    [InlineData(1u)]
    [InlineData(0u)]
    public async Task After_WRITE_ZEROES_there_are_zeros_and_unmap_says_whether_space_may_go(uint flags)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = Patterned(session);
        long before = await device.Image.AllocatedBytesAsync();
        // Not whole blocks of the file system at either end.
        BlkSegment range = new() { Sector = 3, SectorCount = (RangeBytes / 512) - 6, Flags = flags };
        Assert.Equal(new Answer(0, 1), request.RunSegments(WriteZeroes, range));
        Assert.Equal(0, request.Read(0, RangeBytes).Status);
        Assert.Equal(-1, request.Data[..(3 * 512)].IndexOfAnyExcept((byte)0xd1));
        Assert.Equal(-1, request.Data[(3 * 512)..(RangeBytes - (3 * 512))].IndexOfAnyExcept((byte)0));
        Assert.Equal(-1, request.Data[(RangeBytes - (3 * 512))..RangeBytes].IndexOfAnyExcept((byte)0xd1));
        long after = await device.Image.AllocatedBytesAsync();
        bool mayUnmap = session.Frontend.GetBlkConfig().WriteZeroesMayUnmap == 1;
        Assert.True(flags == 1 && mayUnmap ? after < before : after >= before, $"{before} bytes before, {after} after, may unmap: {mayUnmap}.");
    }

    private static RequestPlace Patterned(FrontendSession session)
    {
        RequestPlace request = new(session, dataBytes: RangeBytes);
        request.Data.Fill(0xd1);
        Assert.Equal(0, request.Write(0, RangeBytes).Status);
        return request;
    }
}
