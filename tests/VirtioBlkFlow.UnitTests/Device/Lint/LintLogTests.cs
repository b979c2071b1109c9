using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>What is logged: the first occurrence in a session, a summary at its end, and never what a guest sends however often.</summary>
public sealed class LintLogTests
{
    private const VirtioFeatures Split = VirtioFeatures.VIRTIO_RING_F_EVENT_IDX;

    [Fact]
    public void The_first_occurrence_says_what_was_seen_and_where_it_is_written()
    {
        using var image = new TemporaryImage();
        using var session = new LintedSession(image.Open());
        session.Start(Split);
        session.Driver.Execute(BlkRequestType.VIRTIO_BLK_T_FLUSH, 5, 0);
        Assert.Equal(
            "VIRTIO-BLK-FLUSH-SECTOR, for the driver (MUST; VIRTIO 1.4, \"Block Device: Device Operation\"): The sector of a FLUSH is 0. "
            + "Seen: queue 0: a FLUSH with sector 5. Not logged again in this session.",
            Assert.Single(session.Findings));
        session.Frontend.SetVringNum(1, 3, needReply: true);
        Assert.StartsWith("VIRTIO-QUEUE-SIZE, for the front-end (", session.Findings[1], StringComparison.Ordinal);
        Assert.Contains("Seen: SET_VRING_NUM: ", session.Findings[1], StringComparison.Ordinal);
    }

    [Fact]
    public void A_guest_that_breaks_a_rule_a_thousand_times_is_logged_once_and_counted()
    {
        using var image = new TemporaryImage();
        using var session = new LintedSession(image.Open());
        session.Start(Split);
        for (int i = 0; i < 1000; i++)
        {
            session.Driver.Execute(BlkRequestType.VIRTIO_BLK_T_FLUSH, 5, 0);
            session.Driver.Execute(BlkRequestType.VIRTIO_BLK_T_IN, ulong.MaxValue, 512);
        }

        session.Leave();
        Assert.Equal(1000, session.Lint.CountOf(LintRule.BlkFlushSector));
        Assert.Equal(1000, session.Lint.CountOf(LintRule.BlkCapacity));
        Assert.Equal(2, session.Findings.Length);
        Assert.Equal(
            "Rules broken in the session that has ended, and how often: VIRTIO-BLK-CAPACITY 1000, VIRTIO-BLK-FLUSH-SECTOR 1000.",
            Assert.Single(session.Summaries));
    }

    [Fact]
    public void The_next_session_is_told_anew_and_summed_up_apart_while_the_counters_go_on()
    {
        using var image = new TemporaryImage();
        using var session = new LintedSession(image.Open());
        for (int i = 0; i < 2; i++)
        {
            session.Start(Split);
            session.Driver.Execute(BlkRequestType.VIRTIO_BLK_T_FLUSH, 5, 0);
            session.Leave();
        }

        Assert.Equal(2, session.Findings.Length);
        Assert.Equal(2, session.Summaries.Length);
        Assert.All(session.Summaries, static line => Assert.EndsWith("VIRTIO-BLK-FLUSH-SECTOR 1.", line, StringComparison.Ordinal));
        Assert.Equal(2, session.Lint.CountOf(LintRule.BlkFlushSector));
    }

    [Fact]
    public void A_front_end_that_connects_for_ever_does_not_fill_the_log()
    {
        using var image = new TemporaryImage();
        using var session = new LintedSession(image.Open());
        for (int i = 0; i < 300; i++)
        {
            session.Connect();
            session.Frontend.SetFeatures(1UL << 60);
            session.Leave();
        }

        Assert.Equal(300, session.Lint.CountOf(LintRule.FrontendFeaturesNotOffered));
        Assert.InRange(session.Findings.Length + session.Summaries.Length, 1, 299);
    }

    [Fact]
    public void Without_being_asked_it_counts_what_is_refused_and_says_nothing()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions());
        rig.Queue.Start();
        rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_FLUSH, 5);
        rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, ulong.MaxValue, 512);
        rig.Queue.Stop();
        Assert.Equal([(LintRule.BlkCapacity, 1L)], DriverRuleTests.CountsOf(rig.Device.Lint));
    }

    [Theory]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_IN, 0ul)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_FLUSH, 5ul)]
    public void Requests_allocate_nothing_while_they_are_checked_or_counted(BlkRequestType type, ulong sector)
    {
        const int Requests = 4096;
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Lint = true });
        rig.Queue.Start();
        long allocated = Allocations.LeastOf(() => rig.OnReactor(GC.GetAllocatedBytesForCurrentThread), Send);
        Assert.True(allocated / Requests == 0, $"{allocated} bytes for {Requests} requests.");
        rig.Queue.Stop();

        void Send()
        {
            for (int i = 0; i < Requests; i++)
            {
                rig.Queue.Do(type, sector, type == BlkRequestType.VIRTIO_BLK_T_IN ? 512u : 0);
            }
        }
    }
}
