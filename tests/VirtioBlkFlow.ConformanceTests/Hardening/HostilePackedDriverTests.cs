using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Frontend.Ring.RawPackedRing;

namespace VirtioBlkFlow.ConformanceTests.Hardening;

/// <summary>Packed rings no driver may make.</summary>
public class HostilePackedDriverTests
{
    private const int QueueSize = 8;

    private static readonly Action<PackedBench>[] s_breakers =
    [
        // Each goes on in the next, round and round.
        bench => bench.Send([.. Enumerable.Repeat(Slot(bench, VIRTQ_DESC_F_NEXT), QueueSize)]),
        bench => bench.Send(Slot(bench, VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT), Slot(bench, 0)),
        bench => bench.Send(Slot(bench, VIRTQ_DESC_F_NEXT), Slot(bench, VIRTQ_DESC_F_INDIRECT)),
        bench => bench.Send(Slot(bench, VIRTQ_DESC_F_INDIRECT) with { LengthBytes = 17 }),
        bench => bench.Send(Slot(bench, VIRTQ_DESC_F_INDIRECT) with { Address = 1ul << 40, LengthBytes = 48 }),
    ];

    [Fact, Conformance("HARD-06")]
    public void A_list_without_an_end_or_with_a_table_in_it_breaks_the_ring_and_nothing_else()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        foreach ((int number, Action<PackedBench> publish) in s_breakers.Index())
        {
            using (PackedBench bench = new(session, QueueSize))
            {
                publish(bench);
                Assert.True(bench.Queue.Error.Wait(Deadline.In(Await.DeadlineMs)), $"Breaker {number} does not break.");
                device.LetTurnsPass();
                Assert.False(bench.IsUsed());
                bench.Queue.Stop(session.Frontend);
            }

            using PackedBench next = new(session, QueueSize);
            next.Request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
            next.Send(PackedBench.List(1, next.Request.Header, next.Request.Status));
            Assert.Equal(1, next.TakeUsed(2).Id);
            next.Queue.Stop(session.Frontend);
        }
    }

    [Fact, Conformance("HARD-06")]
    public void Event_flags_3_and_reserved_bits_hold_no_call_back()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, QueueSize);
        foreach (ushort flags in new ushort[] { 3, 0xffff, 0xfffc, 3 })
        {
            bench.Raw.DriverEvent = Event(flags, 0x7fff, wrap: true);
            device.LetTurnsPass();
            bench.Queue.Call.Take();
            bench.Request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
            bench.Send(PackedBench.List(1, bench.Request.Header, bench.Request.Status));
            bench.TakeUsed(2);
            Assert.True(bench.Queue.Call.Wait(Deadline.In(Await.DeadlineMs)), $"No call with flags 0x{flags:x}.");
        }
    }

    private static PackedSlot Slot(PackedBench bench, ushort flags) => new(bench.Request.Header.GuestAddress, 16, 1, flags);
}
