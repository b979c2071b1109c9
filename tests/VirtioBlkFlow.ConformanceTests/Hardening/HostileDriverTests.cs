using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.ConformanceTests.Hardening;

/// <summary>Rings and chains no driver may make.</summary>
public class HostileDriverTests
{
    private const int QueueSize = HostileQueue.QueueSize;
    private const DescriptorFlags Next = DescriptorFlags.VIRTQ_DESC_F_NEXT;
    private const DescriptorFlags Write = DescriptorFlags.VIRTQ_DESC_F_WRITE;
    private const DescriptorFlags Indirect = DescriptorFlags.VIRTQ_DESC_F_INDIRECT;
    private const ulong Nowhere = 1ul << 40;

    private static readonly Action<HostileQueue>[] s_indexBreakers =
    [
        queue => queue.PublishIndex(QueueSize + 1),
        queue => queue.PublishIndex(0x8000),
        queue => queue.PublishIndex(ushort.MaxValue),
    ];

    private static readonly Action<HostileQueue>[] s_headBreakers = [queue => queue.PublishHead(QueueSize), queue => queue.PublishHead(ushort.MaxValue)];

    private static readonly Action<HostileQueue>[] s_chainBreakers =
    [
        queue => queue.Publish(queue.Header with { Flags = Next, Next = QueueSize }),
        queue => queue.Publish(queue.Header with { Flags = Next, Next = 0 }),
        queue => queue.Publish(queue.Header with { Flags = Next, Next = 1 }, queue.Status with { Flags = Next | Write, Next = 0 }),
    ];

    private static readonly Action<HostileQueue>[] s_tableBreakers =
    [
        queue => queue.PublishTable(48, queue.Header with { Flags = Next, Next = 1 }, queue.Header with { LengthBytes = 16, Flags = Indirect }),
        queue => queue.Publish(queue.Header with { LengthBytes = 48, Flags = Indirect | Next, Next = 1 }),
        queue => queue.PublishTable(0),
        queue => queue.PublishTable(17),
        queue => queue.Publish(new Descriptor { Address = Nowhere, LengthBytes = 48, Flags = Indirect }),
        queue => queue.PublishTableAtEndOfMemory(),
        queue => queue.Publish(new Descriptor { Address = ulong.MaxValue - 15, LengthBytes = 48, Flags = Indirect }),
        queue => queue.PublishTable(32, queue.Header with { Flags = Next, Next = 0 }),
        queue => queue.Publish(new Descriptor { Address = 0, LengthBytes = 16 * 40_000, Flags = Indirect }),
    ];

    [Fact, Conformance("HARD-01")]
    public void An_index_too_far_breaks_the_ring() => AssertEachBreaks(s_indexBreakers);

    [Fact, Conformance("HARD-02")]
    public void A_head_beyond_the_table_breaks_the_ring() => AssertEachBreaks(s_headBreakers);

    [Fact, Conformance("HARD-03")]
    public void A_chain_that_leaves_the_table_or_loops_breaks_the_ring() => AssertEachBreaks(s_chainBreakers);

    [Fact, Conformance("HARD-03")]
    public void A_loop_through_the_largest_table_ends()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        using FrontendQueue queue = new(session.Memory, 0, 32768, session.Negotiation.RingFeatures);
        queue.Start(session.Frontend);
        ulong buffer = session.Memory.Allocate(16);
        for (int i = 0; i < 32768; i++)
        {
            queue.SplitRing.Raw.WriteDescriptor(i, new Descriptor { Address = buffer, LengthBytes = 1, Flags = Next, Next = (ushort)((i + 1) % 32768) });
        }

        queue.SplitRing.Raw.AvailableIndex = 1;
        queue.Kick.Signal();
        Assert.True(queue.Error.Wait(Deadline.In(Await.DeadlineMs)), "It goes round and round.");
        Assert.Equal(0, queue.SplitRing.Raw.UsedIndex);
    }

    [Fact, Conformance("HARD-05")]
    public void An_indirect_table_that_may_not_be_breaks_the_ring() => AssertEachBreaks(s_tableBreakers);

    [Fact, Conformance("HARD-05")]
    public void An_indirect_table_that_was_not_negotiated_breaks_the_ring() => AssertEachBreaks(
        [queue => queue.PublishSplitHeader()], new NegotiationOptions { Features = VirtioFeatures.VIRTIO_F_VERSION_1 });

    [Fact, Conformance("HARD-04", "HARD-07", "HARD-11")]
    public void A_request_that_cannot_be_carried_out_gets_what_answer_there_can_be()
    {
        (Action<HostileQueue> Publish, byte Status)[] faults =
        [
            (queue => queue.Publish(queue.Header, queue.Data(512, Write), queue.Data(512, 0), queue.Status), 1),
            (queue => queue.Publish(queue.Header, queue.Data(512, Write) with { Address = Nowhere }, queue.Status), 1),
            (queue => queue.Publish(queue.Header, queue.Data(1024, Write) with { Address = queue.EndOfMemory - 512 }, queue.Status), 1),
            (queue => queue.Publish(queue.Header, queue.Data(1024, Write) with { Address = ulong.MaxValue - 511 }, queue.Status), 1),
            (queue => queue.Publish(queue.Header, queue.Data(uint.MaxValue, Write), queue.Status), 1),
            (queue => queue.Publish(queue.Header with { Address = Nowhere }, queue.Data(512, Write), queue.Status), 1),
            (queue => queue.Publish(queue.Header with { LengthBytes = 15 }, queue.Status), 1),
            (queue => queue.Publish(queue.Status), 1),
            // No status byte to write.
            (queue => queue.Publish(queue.Header, queue.Data(512, Write), queue.Status with { Address = Nowhere }), HostileQueue.NotWritten),
            (queue => queue.Publish(queue.Header), HostileQueue.NotWritten),
            (queue => queue.Publish(queue.Header with { LengthBytes = 0 }), HostileQueue.NotWritten),
        ];
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        string before = device.Image.Sha256();
        foreach ((int number, (Action<HostileQueue> publish, byte status)) in faults.Index())
        {
            using HostileQueue hostile = new(session);
            hostile.Queue.Start(session.Frontend);
            publish(hostile);
            Await.Until(() => hostile.Raw.UsedIndex == 1, $"fault {number} comes back");
            (uint id, uint lengthBytes) = hostile.Raw.ReadUsedElement(0);
            Assert.True(hostile.StatusByte == status, $"Fault {number} has status {hostile.StatusByte}.");
            Assert.Equal(0u, id);
            Assert.InRange(lengthBytes, 0u, status == 1 ? 1u : 0u);
            hostile.Queue.Stop(session.Frontend);
            Assert.Equal(0ul, hostile.Queue.Error.Take());
        }

        Assert.Equal(before, device.Image.Sha256());
    }

    [Theory, Conformance("HARD-08")]
    [InlineData(false)]
    [InlineData(true)]
    public void A_buffer_across_two_adjacent_regions_is_served(bool indirect)
    {
        const ulong Border = 1 << 20;
        using ServedDevice device = new();
        using VhostUserFrontend frontend = device.Connect();
        Negotiation negotiation = Negotiation.Run(frontend, new NegotiationOptions());
        using SharedMemory memory = new(new SharedRegionOptions(0, Border), new SharedRegionOptions(Border, 1 << 20));
        negotiation.SendMemory(frontend, memory);
        using FrontendQueue queue = new(memory, 0, 64, negotiation.RingFeatures, indirectEntries: 3);
        negotiation.StartQueues(frontend, queue);
        RequestPlace request = new(memory, queue);
        byte[] data = new byte[8192];
        Random.Shared.NextBytes(data);
        data.AsSpan(0, 1000).CopyTo(memory.Span(Border - 1000, 1000));
        data.AsSpan(1000).CopyTo(memory.Span(Border, 7192));
        Assert.Equal(0, Run(BlkRequestType.VIRTIO_BLK_T_OUT, DriverBuffer.Readable(Border - 1000, 8192)));
        Assert.Equal(data, device.Image.Read(24 * 512, data.Length));
        memory.Span(Border - 3000, 3000).Clear();
        memory.Span(Border, 6000).Clear();
        Assert.Equal(0, Run(BlkRequestType.VIRTIO_BLK_T_IN, DriverBuffer.Writable(Border - 3000, 8192)));
        byte[] read = [.. memory.Span(Border - 3000, 3000), .. memory.Span(Border, 5192)];
        Assert.Equal(data, read);

        byte Run(BlkRequestType type, DriverBuffer buffer)
        {
            request.Prepare(type, 24);
            DriverBuffer[] chain = [request.Header, buffer, request.Status];
            return (indirect ? request.RunIndirect([], chain) : request.Run(chain)).Status;
        }
    }

    [Fact, Conformance("HARD-09")]
    public async Task Descriptors_that_change_while_they_are_read_are_read_once()
    {
        const int Rounds = 3000;
        using ServedDevice device = new();
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        using HostileQueue hostile = new(session);
        hostile.Queue.Start(session.Frontend);
        (FrontendQueue honestQueue, BlkDriver honest) = session.PlaceQueue(1, 128, new BlkDriverOptions { QueueDepth = 32 });
        honestQueue.Start(session.Frontend);
        VerifiedTraffic traffic = new(honest, shadow, 0, shadow.SectorCount, seed: 9);
        bool enough = false;
        Task racing = Task.Run(() =>
        {
            Descriptor[] faces = [hostile.Data(512, Write), hostile.Data(0x7fff_ffff, Write), hostile.Data(512, Write) with { Address = Nowhere }];
            for (int i = 0; !Volatile.Read(ref enough); i++)
            {
                Descriptor face = faces[i % faces.Length];
                hostile.Raw.WriteDescriptor(1, face with { Flags = face.Flags | Next, Next = 2 });
            }
        });
        try
        {
            for (ushort round = 1; round <= Rounds; round++)
            {
                hostile.PublishAgain(round, hostile.Header, hostile.Data(512, Write), hostile.Status);
                Await.Until(() => hostile.Raw.UsedIndex == round, $"round {round} comes back");
                Assert.InRange(hostile.StatusByte, (byte)0, (byte)1);
                // Whatever it was when it was read, its length is what that says.
                Assert.Equal(hostile.StatusByte == 0 ? 513u : 0u, hostile.Raw.ReadUsedElement((ushort)(round - 1)).LengthBytes);
                if (round % 100 == 0)
                {
                    traffic.Run(20);
                }
            }
        }
        finally
        {
            Volatile.Write(ref enough, true);
            await racing;
        }

        shadow.AssertEqualTo(device.Image);
    }

    // A ring of its own for each; the other queue goes on, and a new set-up mends the broken one.
    private static void AssertEachBreaks(Action<HostileQueue>[] breakers, NegotiationOptions? negotiation = null)
    {
        using ServedDevice device = new();
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0, Negotiation = negotiation ?? new NegotiationOptions() });
        (FrontendQueue honestQueue, BlkDriver honest) = session.PlaceQueue(1, 128, new BlkDriverOptions { QueueDepth = 16 });
        honestQueue.Start(session.Frontend);
        VerifiedTraffic traffic = new(honest, shadow, 0, shadow.SectorCount, seed: 1);
        foreach ((int number, Action<HostileQueue> breakRing) in breakers.Index())
        {
            using HostileQueue hostile = new(session);
            hostile.Queue.Start(session.Frontend);
            breakRing(hostile);
            Assert.True(hostile.Queue.Error.Wait(Deadline.In(Await.DeadlineMs)), $"Breaker {number} is not told of.");
            hostile.Queue.Kick.Signal();
            traffic.Run(50);
            device.LetTurnsPass();
            Assert.Equal(0, hostile.Raw.UsedIndex);
            Assert.Equal(HostileQueue.NotWritten, hostile.StatusByte);
            Assert.Equal(1ul, hostile.Queue.Error.Take());
            hostile.Queue.Stop(session.Frontend);
        }

        using FrontendQueue mended = new(session.Memory, 0, QueueSize, session.Negotiation.RingFeatures);
        mended.Start(session.Frontend);
        Assert.Equal(0, new RequestPlace(session.Memory, mended).Flush().Status);
        shadow.AssertEqualTo(device.Image);
    }
}
