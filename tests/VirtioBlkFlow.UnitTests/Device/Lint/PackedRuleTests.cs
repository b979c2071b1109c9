using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>Rules as they are broken over a packed ring, where that is another way than over a split one.</summary>
public sealed class PackedRuleTests
{
    private static readonly Dictionary<LintRule, (VirtioFeatures Features, Action<LintedSession, RawPackedRing> Act)> s_scenes = new()
    {
        [LintRule.RingDescriptorInFlight] = (VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, ComeRound),
        [LintRule.RingEventIndex] = (VirtioFeatures.None, static (_, ring) => ring.DriverEvent = RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DESC)),
        [LintRule.RingEventFlags] = (VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, static (_, ring) => ring.DriverEvent = RawPackedRing.Event(3)),
    };

    public static TheoryData<LintRule> Rules => [.. s_scenes.Keys];

    [Theory]
    [MemberData(nameof(Rules))]
    public void A_rule_that_is_broken_once_is_counted_once_and_no_other_with_it(LintRule rule)
    {
        (VirtioFeatures features, Action<LintedSession, RawPackedRing> act) = s_scenes[rule];
        using var image = new TemporaryImage();
        using var session = new LintedSession(image.Open());
        session.Start(features | VirtioFeatures.VIRTIO_F_RING_PACKED, queueSize: 8);
        act(session, session.Queue.PackedRing.Raw);
        Assert.True(session.Driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0, 0u, 0));
        session.Driver.Kick();
        session.Queue.Kick.Signal();
        Eventually.Holds(() => session.Lint.CountOf(rule) > 0, "the rule is counted");
        Assert.Equal([(rule, 1L)], DriverRuleTests.CountsOf(session.Lint));
    }

    // Behind the request in flight a list goes on until it comes round to that.
    private static void ComeRound(LintedSession session, RawPackedRing ring)
    {
        ulong buffer = session.Memory.Allocate(16);
        for (int slot = ring.QueueSize - 1; slot >= 2; slot--)
        {
            ring.WriteSlot(slot, new PackedSlot(buffer, 16, 7, RawPackedRing.VIRTQ_DESC_F_AVAIL | RawPackedRing.VIRTQ_DESC_F_NEXT));
        }
    }
}
