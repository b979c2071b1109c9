using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>Marks of written pages, as a migration needs them.</summary>
public class DirtyLogTests
{
    private const int Page = DirtyLog.PageBytes;

    [Fact, Conformance("VU-07", "VU-37")]
    public void A_log_is_answered_for_once_and_may_come_with_an_eventfd()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        using DirtyLog log = DirtyLog.For(session.Memory);
        foreach (bool needReply in new[] { false, true })
        {
            Assert.Equal(0ul, session.Frontend.SetLogBase(log.Area, log.Handle, needReply));
            // A second answer would be taken for that of GET_FEATURES, and refused.
            Assert.Equal(session.Negotiation.OfferedFeatures, session.Frontend.GetFeatures());
        }

        Assert.Equal(0ul, session.Frontend.SetLogFd(session.Queues[0].Error, needReply: true));
    }

    [Theory, Conformance("VU-30")]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_page_that_was_written_is_marked(bool packed)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options(packed));
        using DirtyLog log = Begin(session);
        FillImage(device, session);
        RequestPlace request = new(session, dataBytes: 1 << 20);
        request.Data.Clear();
        byte[] before = request.Data.ToArray();
        int seed = EndToEndTests.Harness.RandomSeed.Take();
        Random random = new(seed);
        for (int i = 0; i < 200; i++)
        {
            int lengthBytes = random.Next(1, 65) * 512;
            int offset = random.Next(request.DataBytes - lengthBytes);
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN, (ulong)random.Next(4000));
            Assert.Equal(0, request.Run(request.Header, request.In(lengthBytes, offset), request.Status).Status);
        }

        session.Queues[0].Stop(session.Frontend);
        HashSet<ulong> marked = [.. log.FetchAndClear()];
        Assert.Contains(request.Status.GuestAddress / Page, marked);
        for (int page = 0; page < request.DataBytes / Page; page++)
        {
            bool isSame = request.Data.Slice(page * Page, Page).SequenceEqual(before.AsSpan(page * Page, Page));
            Assert.True(isSame || marked.Contains((request.DataAddress / Page) + (ulong)page), $"Page {page} of the data is not marked, seed {seed}.");
        }
    }

    [Theory, Conformance("VU-31", "VU-33")]
    [InlineData(false)]
    [InlineData(true)]
    public void One_read_marks_its_data_its_status_and_the_used_ring_at_the_address_given_for_it(bool packed)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options(packed));
        FrontendQueue queue = session.Queues[0];
        RequestPlace request = new(session);
        Assert.Equal(0, request.Read(0, 512).Status);
        // Outside all memory. Split: flags and index are the last of one page, the elements begin the next.
        const ulong RingLog = 64ul << 20;
        using DirtyLog log = new(RingLog + (16 * Page));
        Assert.Equal(0ul, session.Frontend.SetLogBase(log.Area, log.Handle));
        ulong ringLog = packed ? RingLog : RingLog + Page - 4;
        Assert.Equal(0ul, session.Frontend.SetVringAddr(queue.Address(VringAddress.LogEnabled) with { Log = ringLog }, needReply: true));
        Assert.Equal(0ul, SetFeatures(session, logsAll: true));
        device.LetTurnsPass();
        log.FetchAndClear();
        Assert.Equal(0, request.Read(0, 512).Status);
        device.LetTurnsPass();
        // Of a packed ring the address is that of the device's event area; descriptors and, beside it, the area itself have their true ones.
        ulong[] ring = packed
            ? [RingLog / Page, queue.Ring.DescriptorAreaAddress / Page, queue.Ring.DeviceAreaAddress / Page]
            : [RingLog / Page, (RingLog / Page) + 1];
        ulong[] expected = [request.DataAddress / Page, request.Status.GuestAddress / Page, .. ring];
        Assert.Equal(expected.Distinct().Order(), log.FetchAndClear());
    }

    [Fact, Conformance("VU-32")]
    public void Without_LOG_ALL_nothing_is_marked_and_without_the_rings_flag_no_used_ring()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options(packed: false));
        FrontendQueue queue = session.Queues[0];
        RequestPlace request = new(session);
        using DirtyLog log = DirtyLog.For(session.Memory);
        Assert.Equal(0ul, session.Frontend.SetLogBase(log.Area, log.Handle));
        Assert.Equal(0ul, session.Frontend.SetVringAddr(queue.Address(VringAddress.LogEnabled), needReply: true));
        Assert.Equal(0, request.Read(0, 512).Status);
        device.LetTurnsPass();
        Assert.Empty(log.FetchAndClear());

        Assert.Equal(0ul, session.Frontend.SetVringAddr(queue.Address(), needReply: true));
        Assert.Equal(0ul, SetFeatures(session, logsAll: true));
        // Of a read that reaches no data only the status is written.
        Assert.Equal(1, request.Read(1ul << 40, 512).Status);
        device.LetTurnsPass();
        Assert.DoesNotContain(queue.Ring.DeviceAreaAddress / Page, log.FetchAndClear());
        Assert.Equal(0ul, SetFeatures(session, logsAll: false));
        Assert.Equal(0, request.Read(0, 512).Status);
        device.LetTurnsPass();
        Assert.Empty(log.FetchAndClear());
    }

    [Fact, Conformance("VU-34")]
    public async Task No_mark_is_lost_while_the_front_end_takes_them()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options(packed: false) with { QueueCount = 2 });
        using DirtyLog log = Begin(session);
        const int PagesEach = 24;
        // The pages of both queues lie in turn, and so their bits in the same words.
        RequestPlace data = new(session, dataBytes: 2 * PagesEach * Page);
        RequestPlace[] requests = [new(session, 0, 512), new(session, 1, 512)];
        for (int round = 0; round < 50; round++)
        {
            Task[] readers = [.. Enumerable.Range(0, 2).Select(queue => Task.Run(() =>
            {
                for (int i = 0; i < PagesEach; i++)
                {
                    RequestPlace request = requests[queue].Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
                    Assert.Equal(0, request.Run(request.Header, data.In(512, ((2 * i) + queue) * Page), request.Status).Status);
                }
            }))];
            HashSet<ulong> marked = [];
            while (!readers.All(reader => reader.IsCompleted))
            {
                marked.UnionWith(log.FetchAndClear());
            }

            await Task.WhenAll(readers);
            marked.UnionWith(log.FetchAndClear());
            Assert.Subset(marked, Enumerable.Range(0, 2 * PagesEach).Select(page => (data.DataAddress / Page) + (ulong)page).ToHashSet());
        }
    }

    [Fact, Conformance("VU-35", "HARD-21")]
    public void A_log_lies_where_it_was_said_and_a_page_it_has_no_bit_for_is_marked_nowhere()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options(packed: false));
        RequestPlace near = new(session, dataBytes: 512);
        session.Memory.Allocate(2 << 20);
        RequestPlace far = new(session, dataBytes: 512);
        const ulong Offset = 2 * Page;
        using DirtyLog log = new(session.Memory.Regions[0].LengthBytes, Offset);
        // Of the whole bitmap, the bits of the pages up to the near data and not one more byte.
        ulong bytes = (near.DataAddress / Page / 8) + 1;
        Assert.True(far.DataAddress / Page / 8 > bytes);
        Assert.Equal(0ul, session.Frontend.SetLogBase(new LogArea(bytes, Offset), log.Handle));
        Assert.Equal(0ul, SetFeatures(session, logsAll: true));
        Assert.Equal(0, far.Read(0, 512).Status);
        Assert.Equal(0, near.Read(0, 512).Status);
        session.VerifyRoundTrip(device.Image, sector: 8);
        session.Queues[0].Stop(session.Frontend);
        byte[] file = new byte[Offset + log.Area.LengthBytes];
        Assert.Equal(file.Length, RandomAccess.Read(log.Handle, file, 0));
        Assert.Equal(-1, file.AsSpan(0, (int)Offset).IndexOfAnyExcept((byte)0));
        Assert.Equal(-1, file.AsSpan((int)(Offset + bytes)).IndexOfAnyExcept((byte)0));
        ulong page = near.DataAddress / Page;
        Assert.NotEqual(0, file[Offset + (page / 8)] & (1 << (int)(page % 8)));
    }

    [Fact, Conformance("VU-36")]
    public void Once_stopped_neither_memory_nor_log_changes()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options(packed: false));
        using DirtyLog log = Begin(session);
        new VerifiedTraffic(session.Drivers[0], new ShadowDisk(4), 0, 8192, seed: 36).Run(500);
        RequestPlace request = new(session);
        session.Queues[0].Stop(session.Frontend);
        Assert.NotEmpty(log.FetchAndClear());
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
        request.Send(request.Header, request.In(512), request.Status);
        byte[] memory = All(session).ToArray();
        device.LetTurnsPass();
        Assert.Equal(0ul, session.Frontend.SetVringEnable(0, enable: true, needReply: true));
        device.LetTurnsPass();
        Assert.True(All(session).SequenceEqual(memory));
        Assert.Empty(log.FetchAndClear());
    }

    private static FrontendOptions Options(bool packed) => packed ? PackedBench.Options(queueCount: 1) : new FrontendOptions();

    private static Span<byte> All(FrontendSession session) => session.Memory.Span(0, (int)session.Memory.Regions[0].LengthBytes);

    private static DirtyLog Begin(FrontendSession session)
    {
        DirtyLog log = DirtyLog.For(session.Memory);
        Assert.Equal(0ul, session.Frontend.SetLogBase(log.Area, log.Handle));
        Assert.Equal(0ul, SetFeatures(session, logsAll: true));
        return log;
    }

    private static ulong SetFeatures(FrontendSession session, bool logsAll) => session.Frontend.SetFeatures(
        session.Negotiation.Features | (logsAll ? ProtocolLimits.VHOST_F_LOG_ALL : 0), needReply: true);

    private static void FillImage(ServedDevice device, FrontendSession session)
    {
        byte[] data = new byte[64 * 1024];
        for (ulong sector = 0; sector < 8192; sector += (ulong)data.Length / 512)
        {
            Random.Shared.NextBytes(data);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Write(sector, data));
        }

        device.LetTurnsPass();
    }
}
