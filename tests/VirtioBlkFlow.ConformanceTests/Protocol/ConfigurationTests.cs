using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>The configuration space on the wire.</summary>
public class ConfigurationTests
{
    [Fact, Conformance("VU-67")]
    public void Any_stretch_is_answered_in_its_own_size()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        byte[] whole = session.Frontend.GetConfig(0, 256)!;
        Assert.Equal(new byte[256 - BlkConfig.SizeBytes], whole[BlkConfig.SizeBytes..]);
        foreach (uint size in new uint[] { 1, 2, 8, 36, 48, 57, 60, 96, 256 })
        {
            for (uint offset = 0; offset + size <= 256; offset += 5)
            {
                Assert.Equal(whole[(int)offset..(int)(offset + size)], session.Frontend.GetConfig(offset, size));
            }
        }
    }

    [Theory, Conformance("VU-68")]
    [InlineData(0u, 257u)]
    [InlineData(250u, 7u)]
    [InlineData(uint.MaxValue, 1u)]
    [InlineData(uint.MaxValue - 3, 8u)]
    public void A_stretch_that_is_not_there_is_answered_by_an_empty_payload(uint offset, uint size)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        Assert.Null(session.Frontend.GetConfig(offset, size));
        Assert.Null(session.Frontend.GetConfig(offset, size, needReply: true));
        Assert.NotNull(session.Frontend.GetConfig(0, 8));
        Assert.False(session.Frontend.HasUnreadReply);
    }

    [Fact, Conformance("VU-69")]
    public void Only_writeback_can_be_written()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        byte[] before = session.Frontend.GetConfig(0, 256)!;
        foreach ((uint offset, int length) in new (uint, int)[] { (0, 8), (20, 4), (31, 2), (32, 2), (33, 1), (34, 2), (255, 1), (0, 256) })
        {
            Assert.NotEqual(0ul, session.Frontend.SetConfig(offset, new byte[length], flags: 0, needReply: true));
            Assert.Equal(before, session.Frontend.GetConfig(0, 256));
        }
    }

    [Theory, Conformance("VU-70")]
    [InlineData(0u)]
    [InlineData(1u)]
    [InlineData(2u)]
    public void Writeback_is_written_whatever_flags_a_front_end_sends(uint flags)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        foreach (byte mode in new byte[] { 1, 0, 1 })
        {
            Assert.Equal(0ul, session.Frontend.SetConfig(BlkConfig.WritebackOffset, [mode], flags, needReply: true));
            Assert.Equal([mode], session.Frontend.GetConfig(BlkConfig.WritebackOffset, 1)!);
        }

        Assert.NotEqual(0ul, session.Frontend.SetConfig(BlkConfig.WritebackOffset, [2], flags, needReply: true));
        Assert.Equal([1], session.Frontend.GetConfig(BlkConfig.WritebackOffset, 1)!);
    }
}
