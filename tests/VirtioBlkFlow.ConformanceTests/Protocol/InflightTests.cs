using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.UnitTests.Virtio.Inflight;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Inflight;
using InflightArea = VirtioBlkFlow.Frontend.Protocol.InflightArea;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>The record of requests in flight: what is in it, and what a successor makes of it.</summary>
public class InflightTests
{
    private const int QueueSize = 16;

    [Theory, Conformance("VU-08")]
    [InlineData(false)]
    [InlineData(true)]
    public void An_area_is_answered_with_its_description_and_a_descriptor(bool needReply)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { StartQueues = false });
        session.Frontend.Send(FrontendRequest.GET_INFLIGHT_FD, WireBytes.Of(new InflightArea(0, 0, 2, QueueSize)), default, needReply);
        VhostUser.Connection.ReceivedMessage reply = session.Frontend.ReceiveReply(FrontendRequest.GET_INFLIGHT_FD);
        Assert.Equal(24, reply.Payload.Length);
        Assert.Equal(1, reply.DescriptorCount);
        Assert.True(reply.TryReadPayload(out InflightArea area));
        Assert.Equal((2, QueueSize), (area.QueueCount, area.QueueSize));
        using SafeFileHandle file = reply.TakeDescriptor(0);
        Assert.True((ulong)RandomAccess.GetLength(file) >= area.Offset + area.LengthBytes && area.LengthBytes > 0);
    }

    [Fact, Conformance("VU-48")]
    public void A_new_area_is_made_and_what_is_in_it_is_not_interpreted()
    {
        using ServedDevice device = new();
        using Recorded recorded = new(device, packed: false);
        using CrashSnapshot snapshot = recorded.Snapshot();
        Assert.Equal((InflightLayout.Version, QueueSize), (snapshot.SplitHeader.Version, snapshot.SplitHeader.EntryCount));
        // Everything but the version is noise.
        snapshot.Record.Fill(0xff);
        snapshot.SplitHeader.Version = 0;
        using ServedDevice next = new();
        Assert.Equal(0ul, snapshot.Resume(next, 0));
        next.LetTurnsPass();
        Assert.Empty(next.Disk.Steps);
        Assert.Equal((InflightLayout.Version, QueueSize, 0), (snapshot.SplitHeader.Version, snapshot.SplitHeader.EntryCount, snapshot.SplitHeader.UsedIndex));
        Assert.Empty(snapshot.InFlight());
    }

    [Fact, Conformance("VU-44", "VU-45")]
    public void A_request_is_in_the_record_before_it_is_begun_and_no_longer_once_it_is_used()
    {
        using ServedDevice device = new();
        using Recorded recorded = new(device, packed: false);
        ushort[] heads = recorded.SendReads(5);
        Assert.Empty(device.Disk.Steps);
        using (CrashSnapshot before = recorded.Snapshot())
        {
            Assert.Equal(heads.Order().Select(head => (int)head), before.InFlight());
            ulong[] counters = [.. heads.Select(head => before.SplitEntries[head].Counter)];
            Assert.Equal(counters.Order(), counters);
            Assert.Equal(5, counters.Distinct().Count());
        }

        device.Release();
        recorded.TakeAll();
        device.LetTurnsPass();
        using CrashSnapshot after = recorded.Snapshot();
        Assert.Empty(after.InFlight());
        Assert.Equal((5, 5), (after.Split.UsedIndex, after.SplitHeader.UsedIndex));
        Assert.Contains(after.SplitHeader.LastBatchHead, heads);
    }

    [Theory, Conformance("VU-44", "VU-45")]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(32)]
    public void Split_a_process_that_ends_after_any_store_loses_no_request_and_doubles_none(int queueSize)
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using SplitWorld world = new(queueSize, (ushort)random.Next(65536), random);
        for (int life = 0; life < 300; life++)
        {
            world.Live(new CrashClock(random.Next(1, random.Next(2) == 0 ? 8 : 150)), steps: 300);
        }

        world.Finish();
        Assert.True(world.Completed > 300, $"Only {world.Completed} requests, seed {seed}.");
    }

    [Theory, Conformance("VU-49")]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(32)]
    public void Packed_a_process_that_ends_after_any_store_loses_no_request_and_doubles_none(int queueSize)
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using PackedWorld world = new(queueSize, new PackedPosition((ushort)random.Next(queueSize), random.Next(2) == 0), random);
        for (int life = 0; life < 300; life++)
        {
            world.Live(new CrashClock(random.Next(1, random.Next(2) == 0 ? 12 : 150)), steps: 300);
        }

        world.Finish();
        Assert.True(world.Completed > 300, $"Only {world.Completed} requests, seed {seed}.");
    }

    [Fact, Conformance("VU-46")]
    public void A_batch_that_was_published_but_not_noted_is_cleared_and_not_served_again()
    {
        using ServedDevice device = new();
        using Recorded recorded = new(device, packed: false);
        ushort[] heads = recorded.SendReads(4);
        using CrashSnapshot snapshot = recorded.Snapshot();
        // Killed in the midst of clearing a batch of three: one of them is cleared already.
        ushort usedIndex = snapshot.Split.UsedIndex;
        snapshot.SplitEntries[heads[2]].Next = heads[1];
        snapshot.SplitEntries[heads[1]].Next = heads[0];
        snapshot.SplitHeader.LastBatchHead = heads[2];
        snapshot.SplitEntries[heads[0]].Inflight = 0;
        snapshot.Split.UsedIndex = (ushort)(usedIndex + 3);
        using ServedDevice next = new();
        Assert.Equal(0ul, snapshot.Resume(next, snapshot.Split.UsedIndex));
        Await.Until(() => snapshot.Split.UsedIndex == usedIndex + 4, "the fourth comes back");
        Assert.Equal(heads[3], snapshot.Split.ReadUsedElement((ushort)(usedIndex + 3)).Id);
        Assert.Equal((uint)(usedIndex + 4), snapshot.Stop());
        Assert.Equal([Recorded.SectorOf(3)], ReadsOf(next));
        Assert.Empty(snapshot.InFlight());
        Assert.Equal(usedIndex + 4, snapshot.SplitHeader.UsedIndex);
    }

    [Fact, Conformance("VU-47")]
    public void What_was_in_flight_is_begun_again_in_the_order_of_its_counters()
    {
        using ServedDevice device = new();
        using Recorded recorded = new(device, packed: false);
        ushort[] heads = recorded.SendReads(5);
        using CrashSnapshot snapshot = recorded.Snapshot();
        int[] order = [3, 0, 4, 2, 1];
        for (int i = 0; i < order.Length; i++)
        {
            snapshot.SplitEntries[heads[order[i]]].Counter = 1000ul + (ulong)(7 * i);
        }

        using ServedDevice next = new();
        Assert.Equal(0ul, snapshot.Resume(next, snapshot.Split.UsedIndex));
        Await.Until(() => snapshot.Split.UsedIndex == 5, "all of them come back");
        Assert.Equal(5u, snapshot.Stop());
        Assert.Equal(order.Select(Recorded.SectorOf), ReadsOf(next));
        Assert.Equal(
            heads.Order().Select(head => (uint)head), Enumerable.Range(0, 5).Select(i => snapshot.Split.ReadUsedElement((ushort)i).Id).Order());
    }

    [Fact, Conformance("VU-49")]
    public void Packed_what_was_in_flight_is_begun_again_from_its_saved_descriptors()
    {
        using ServedDevice device = new();
        using Recorded recorded = new(device, packed: true);
        recorded.SendReads(4);
        using CrashSnapshot snapshot = recorded.Snapshot();
        Assert.Equal((InflightLayout.Version, QueueSize), (snapshot.PackedHeader.Version, snapshot.PackedHeader.EntryCount));
        PackedInflightEntry[] firsts = [.. snapshot.PackedEntries.ToArray().Where(entry => entry.Inflight == 1).OrderBy(entry => entry.Counter)];
        Assert.Equal([3, 3, 3, 3], firsts.Select(entry => (int)entry.Num));
        ushort[] ids = [.. firsts.Select(entry => snapshot.PackedEntries[entry.Last].Descriptor.Id)];
        // What a completion out of order would have overwritten: all of a list but what its first slot's flags say.
        for (int slot = 1; slot < 12; slot++)
        {
            snapshot.Packed.WriteAllButFlags(slot, new PackedSlot(ulong.MaxValue, uint.MaxValue, 0xbeef, 0));
        }

        using ServedDevice next = new();
        // The base is what a front-end knows that has not looked: the record knows better.
        Assert.Equal(0ul, snapshot.Resume(next, 0x8000_8000));
        const ushort Used = RawPackedRing.AvailableAndUsed | RawPackedRing.VIRTQ_DESC_F_WRITE;
        Await.Until(() => snapshot.Packed.ReadFlags(9) == Used, "all of them come back");
        Assert.Equal(0x800c_800cu, snapshot.Stop());
        PackedSlot[] used = [.. Enumerable.Range(0, 4).Select(i => snapshot.Packed.ReadSlot(3 * i))];
        Assert.All(used, slot => Assert.Equal((513u, Used), (slot.LengthBytes, slot.Flags)));
        Assert.Equal(ids.Order(), used.Select(slot => slot.Id).Order());
        Assert.Equal(Enumerable.Range(0, 4).Select(Recorded.SectorOf), ReadsOf(next));
        Assert.All(snapshot.PackedEntries.ToArray(), entry => Assert.Equal(0, entry.Inflight));
    }

    [Fact, Conformance("VU-59")]
    public void Leaving_requests_in_flight_needs_a_record()
    {
        using ServedDevice device = new();
        using (VhostUserFrontend frontend = device.Connect())
        {
            ProtocolFeatures offered = frontend.GetProtocolFeatures();
            Assert.True(offered.HasFlag(ProtocolFeatures.INFLIGHT_SHMFD) || !offered.HasFlag(ProtocolFeatures.GET_VRING_BASE_INFLIGHT));
            frontend.SetProtocolFeatures(ProtocolFeatures.GET_VRING_BASE_INFLIGHT);
            Assert.True(frontend.WaitForClose(Deadline.In(Await.DeadlineMs)));
        }

        using VhostUserFrontend next = device.Connect();
        next.SetProtocolFeatures(ProtocolFeatures.GET_VRING_BASE_INFLIGHT | ProtocolFeatures.INFLIGHT_SHMFD);
        Assert.NotEqual(0ul, next.GetFeatures());
    }

    [Fact, Conformance("VU-58")]
    public async Task A_device_that_may_leave_requests_in_flight_may_also_finish_them()
    {
        using ServedDevice device = new();
        using Recorded recorded = new(device, packed: false, ProtocolFeatures.GET_VRING_BASE_INFLIGHT);
        recorded.SendReads(3);
        Task<uint> stop = Task.Run(recorded.Stop);
        device.LetTurnsPass();
        device.Release();
        Assert.Equal(3u, await stop);
        using CrashSnapshot snapshot = recorded.Snapshot();
        Assert.Empty(snapshot.InFlight());
        Assert.Equal(3, snapshot.Split.UsedIndex);
    }

    private static IEnumerable<ulong> ReadsOf(ServedDevice device) =>
        device.Disk.Steps.Where(step => step is { Kind: IoKind.Read, HasEnded: false }).Select(step => step.OffsetBytes / 512);

    /// <summary>A session with one queue and an area for it, on a device that lets reads wait.</summary>
    private sealed class Recorded : IDisposable
    {
        private readonly ServedDevice _device;
        private readonly FrontendSession _session;
        private readonly InflightArea _area;
        private readonly SafeFileHandle _file;
        private readonly List<RequestPlace> _requests = [];

        public Recorded(ServedDevice device, bool packed, ProtocolFeatures more = ProtocolFeatures.None)
        {
            _device = device;
            device.Disk.Hold(operation => operation == DiskOperation.Read);
            FrontendOptions options = packed ? PackedBench.Options(queueCount: 1) : new FrontendOptions();
            _session = device.Open(options with
            {
                QueueSize = QueueSize,
                StartQueues = false,
                Driver = new BlkDriverOptions { QueueDepth = 1 },
                Negotiation = options.Negotiation with { ProtocolFeatures = options.Negotiation.ProtocolFeatures | more },
            });
            (_area, SafeFileHandle? file) = _session.Frontend.GetInflightFd(1, QueueSize);
            _file = file!;
            Assert.Equal(0ul, _session.Frontend.SetInflightFd(_area, _file, needReply: true));
            _session.Negotiation.StartQueues(_session.Frontend, _session.Queues[0]);
        }

        /// <summary>Where a request reads; no two are neighbours.</summary>
        public static ulong SectorOf(int request) => (ulong)(100 - (10 * request));

        /// <summary>Returns when all of them are held back at the disk.</summary>
        public ushort[] SendReads(int count)
        {
            ushort[] heads = new ushort[count];
            for (int i = 0; i < count; i++)
            {
                RequestPlace request = new RequestPlace(_session, dataBytes: 512).Prepare(BlkRequestType.VIRTIO_BLK_T_IN, SectorOf(i));
                _requests.Add(request);
                heads[i] = request.Send(request.Header, request.In(512), request.Status);
            }

            Await.Until(() => _device.Disk.HeldCount == count, "all reads reach the disk");
            return heads;
        }

        public void TakeAll() => _requests.ForEach(request => request.TakeUsed());

        public uint Stop() => _session.Queues[0].Stop(_session.Frontend);

        public CrashSnapshot Snapshot() => new(_session, _area, _file);

        public void Dispose()
        {
            // The session's end waits for what is in flight.
            _device.Release();
            _session.Dispose();
            _file.Dispose();
        }
    }
}
