using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Frontend.Ring.RawPackedRing;

namespace VirtioBlkFlow.ConformanceTests.Packed;

/// <summary>Where used descriptors stand in a packed ring, what is in them, and what is left alone.</summary>
public class PackedRingTests
{
    [Fact, Conformance("PACKED-01")]
    public void Requests_are_begun_in_the_order_of_the_ring()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 64);
        // No two are neighbours, so that none is merged with another.
        ulong[] sectors = [700, 300, 500, 8, 900, 100, 40, 600];
        RequestPlace[] requests = [.. sectors.Select(sector => new RequestPlace(session.Memory, bench.Queue, 512).Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, sector))];
        foreach ((int i, RequestPlace request) in requests.Index())
        {
            bench.Add(PackedBench.List((ushort)i, request.Header, request.Out(512), request.Status));
        }

        bench.Queue.Kick.Signal();
        Array.ForEach(requests, _ => bench.TakeUsed(3));
        Assert.Equal(
            sectors, device.Disk.Steps.Where(step => step is { Kind: IoKind.Write, HasEnded: false }).Select(step => step.OffsetBytes / 512));
    }

    [Fact, Conformance("PACKED-02")]
    public void What_completes_first_takes_the_next_used_place()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 16);
        device.Disk.Hold(operation => operation == DiskOperation.Read);
        RequestPlace slow = new(session.Memory, bench.Queue);
        bench.Send(PackedBench.List(7, slow.Header, slow.In(512), slow.Status));
        Await.Until(() => device.Disk.HeldCount == 1, "the read reaches the disk");
        for (ushort id = 1; id <= 3; id++)
        {
            bench.Request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
            bench.Send(PackedBench.List(id, bench.Request.Header, bench.Request.Status));
            Assert.Equal((id - 1) * 2, bench.NextUsed);
            Assert.Equal(id, bench.TakeUsed(2).Id);
        }

        Assert.Equal(RequestPlace.NotWritten, slow.StatusByte);
        device.Release();
        Assert.Equal(6, bench.NextUsed);
        PackedSlot used = bench.TakeUsed(3);
        Assert.Equal((7, 513u), (used.Id, used.LengthBytes));
    }

    [Fact, Conformance("PACKED-03")]
    public void A_used_descriptor_is_whole_once_its_flags_say_so()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 12);
        RequestPlace[] requests = [.. Enumerable.Range(0, 4).Select(_ => new RequestPlace(session.Memory, bench.Queue, 512))];
        for (int round = 0; round < 2000; round++)
        {
            foreach ((int i, RequestPlace request) in requests.Index())
            {
                request.Prepare(BlkRequestType.VIRTIO_BLK_T_GET_ID);
                bench.Add(PackedBench.List((ushort)(100 + i), request.Header, request.In(20), request.Status));
            }

            bench.Queue.Kick.Signal();
            for (int i = 0; i < requests.Length; i++)
            {
                // The tightest look there is: no kernel between the device's store and this read.
                while (!bench.IsUsed())
                {
                    Thread.SpinWait(1);
                }

                PackedSlot used = bench.TakeUsed(3);
                Assert.Equal((100 + i, 21u, (byte)0), (used.Id, used.LengthBytes, requests[i].StatusByte));
            }
        }
    }

    [Fact, Conformance("PACKED-06")]
    public void A_slot_whose_flags_are_not_of_this_lap_is_not_touched()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 6);
        for (int lap = 0; lap < 4; lap++)
        {
            // All zero at first, then as the lap before left it; and a kick for nothing after every request.
            for (int i = 0; i < 3; i++)
            {
                PackedSlot[] before = bench.Slots();
                int steps = device.Disk.Steps.Count;
                bench.Queue.Kick.Signal();
                device.LetTurnsPass();
                Assert.Equal(before, bench.Slots());
                Assert.Equal(steps, device.Disk.Steps.Count);
                bench.Request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
                bench.Send(PackedBench.List(5, bench.Request.Header, bench.Request.Status));
                Assert.Equal(5, bench.TakeUsed(2).Id);
            }
        }
    }

    [Fact, Conformance("PACKED-07")]
    public void A_used_descriptor_stays_as_it_is_until_the_driver_takes_its_slot_again()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options(queueCount: 1));
        VerifiedTraffic traffic = new(session.Drivers[0], new ShadowDisk(4), 0, 8192, seed: 7);
        for (int round = 0; round < 100; round++)
        {
            traffic.Run(20);
            device.LetTurnsPass();
            // Throws if any slot, used in this lap or the one before, is not what it was when it was taken.
            session.Queues[0].PackedRing.VerifyUntouched();
        }
    }

    [Fact, Conformance("PACKED-10", "PACKED-11", "PACKED-12")]
    public void A_list_of_three_in_a_ring_of_seven_leaves_every_third_slot_used()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 7);
        List<int> places = [];
        for (ushort i = 0; i < 5 * 7; i++)
        {
            places.Add(bench.NextUsed);
            PackedSlot[] before = bench.Slots();
            bool wrap = bench.UsedWrap;
            bench.Request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
            bench.Send(PackedBench.List((ushort)(40_000 + i), bench.Request.Header, bench.Request.In(512), bench.Request.Status));
            PackedSlot used = bench.TakeUsed(3);
            Assert.Equal(40_000 + i, used.Id);
            Assert.Equal(wrap ? AvailableAndUsed | VIRTQ_DESC_F_WRITE : VIRTQ_DESC_F_WRITE, used.Flags);
            // The two slots behind it are as the driver wrote them, and all others as they were.
            Assert.Equal(bench.Request.In(512).GuestAddress, bench.Raw.ReadSlot((places[^1] + 1) % 7).Address);
            Assert.Equal(bench.Request.Status.GuestAddress, bench.Raw.ReadSlot((places[^1] + 2) % 7).Address);
            Assert.Equal(
                before.Where((_, slot) => (slot - places[^1] + 7) % 7 > 2), bench.Slots().Where((_, slot) => (slot - places[^1] + 7) % 7 > 2));
        }

        Assert.Equal([0, 3, 6, 2, 5, 1, 4, 0], places[..8]);
    }

    [Fact, Conformance("PACKED-13")]
    public void Wrap_counters_begin_as_1_and_change_at_the_end_of_the_ring_also_within_a_list()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 5);
        RequestPlace request = bench.Request;
        for (int i = 0; i < 2; i++)
        {
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
            bench.Send(PackedBench.List((ushort)i, request.Header, request.Status));
            Assert.Equal(AvailableAndUsed | VIRTQ_DESC_F_WRITE, bench.TakeUsed(2).Flags);
        }

        // From the last slot over the end: available in lap 1 at slot 4, in lap 2 at slots 0 and 1; used at slot 4, in lap 1.
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, 8).Data[..512].Fill(0x13);
        bench.Send(PackedBench.List(3, request.Header, request.Out(512), request.Status));
        Assert.Equal(4, bench.NextUsed);
        Assert.Equal(new PackedSlot(request.Header.GuestAddress, 1, 3, AvailableAndUsed | VIRTQ_DESC_F_WRITE), bench.TakeUsed(3));
        Assert.Equal(request.Data[..512].ToArray(), device.Image.Read(8 * 512, 512));
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_FLUSH);
        bench.Send(PackedBench.List(4, request.Header, request.Status));
        Assert.Equal(2, bench.NextUsed);
        Assert.Equal(VIRTQ_DESC_F_WRITE, bench.TakeUsed(2).Flags);
    }

    [Theory, Conformance("PACKED-14", "VU-55")]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(100)]
    [InlineData(1000)]
    [InlineData(32768)]
    public void Queues_of_every_size_go_on_from_any_place_in_any_lap(int size)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        DriverRingOptions ring = new() { IndirectEntries = 3, StartOffset = size * 3 / 4, StartWrap = false, BufferIds = BufferIds.Arbitrary, Seed = size };
        using FrontendQueue queue = new(session.Memory, 0, size, session.Negotiation.RingFeatures, ring);
        // Both halves: available in the lower, used in the upper, and a wrap counter at the top of each.
        uint start = (uint)(size * 3 / 4);
        Assert.Equal(start | (start << 16), queue.Ring.Base);
        BlkDriver driver = new(session.Memory, queue, new BlkDriverOptions { QueueDepth = Math.Min(size, 8), MaxTransferBytes = 512, UseIndirect = true });
        queue.Start(session.Frontend);
        ShadowDisk shadow = new(4);
        new VerifiedTraffic(driver, shadow, 0, shadow.SectorCount, seed: size).Run(1000);
        // One slot for each of the indirect lists.
        uint end = (uint)((start + 1000) % size) | (((start + 1000) / size % 2) == 1 ? 0x8000u : 0);
        Assert.Equal(end | (end << 16), queue.Stop(session.Frontend));
        queue.Start(session.Frontend);
        new VerifiedTraffic(driver, shadow, 0, shadow.SectorCount, seed: size + 1).Run(100);
        queue.PackedRing.VerifyUntouched();
        shadow.AssertEqualTo(device.Image);
    }

    [Fact, Conformance("PACKED-15")]
    public void WRITE_and_a_length_stand_only_where_something_was_written()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 16);
        RequestPlace request = bench.Request;
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT);
        bench.Send(PackedBench.List(1, request.Header, request.Out(512), request.Status));
        PackedSlot used = bench.TakeUsed(3);
        Assert.Equal((1u, AvailableAndUsed | VIRTQ_DESC_F_WRITE), (used.LengthBytes, (int)used.Flags));
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
        bench.Send(PackedBench.List(2, request.Header, request.In(1024), request.Status));
        used = bench.TakeUsed(3);
        Assert.Equal((1025u, AvailableAndUsed | VIRTQ_DESC_F_WRITE), (used.LengthBytes, (int)used.Flags));
        // A request that no driver makes: there is nowhere to write.
        bench.Send(PackedBench.List(3, request.Header, request.Out(512)));
        Assert.Equal(AvailableAndUsed, bench.TakeUsed(2).Flags);
    }

    [Fact, Conformance("PACKED-24")]
    public void Nothing_of_the_drivers_is_written()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 30);
        bench.Raw.DriverEvent = Event(RING_EVENT_FLAGS_DESC, 11, wrap: true);
        RequestPlace request = bench.Request;
        request.Data.Clear();
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
        byte[] before = session.Memory.Span(0, (int)session.Memory.Regions[0].LengthBytes).ToArray();
        for (ushort i = 0; i < 25; i++)
        {
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
            bench.Send(PackedBench.List(i, request.Header, request.In(512), request.Status));
            bench.TakeUsed(3);
        }

        device.LetTurnsPass();
        Assert.Equal(Event(RING_EVENT_FLAGS_DESC, 11, wrap: true), bench.Raw.DriverEvent);
        Span<byte> after = session.Memory.Span(0, before.Length);
        foreach ((ulong address, int lengthBytes) in new[]
        {
            (bench.Queue.Ring.DescriptorAreaAddress, 30 * SlotBytes), (bench.Queue.Ring.DeviceAreaAddress, EventBytes), (request.Status.GuestAddress, 1),
        })
        {
            after.Slice((int)address, lengthBytes).CopyTo(before.AsSpan((int)address));
        }

        Assert.Equal(before.Length, before.AsSpan().CommonPrefixLength(after));
    }
}
