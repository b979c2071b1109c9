using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Reads and writes of a batch that lie one behind the other on the disk become one, and each still has its own end.</summary>
public sealed class AdjacentRequestTests
{
    private const BlkRequestType In = BlkRequestType.VIRTIO_BLK_T_IN;
    private const BlkRequestType Out = BlkRequestType.VIRTIO_BLK_T_OUT;
    private const byte Ok = (byte)BlkStatus.VIRTIO_BLK_S_OK;
    private const byte IoError = (byte)BlkStatus.VIRTIO_BLK_S_IOERR;

    [Fact]
    public void A_run_is_one_request_to_the_disk_and_an_answer_for_each_to_the_driver()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        RequestArea[] areas = [Add(rig, In, 8, 4096), Add(rig, In, 16, 512), Add(rig, In, 17, 8192)];
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the run is in flight");
        HeldDisk.Held held = rig.OnReactor(() => Assert.Single(disk.InFlight));
        Assert.Equal((DiskOperation.Read, 8ul * 512, 4096u + 512 + 8192), (held.Operation, held.OffsetBytes, held.LengthBytes));
        Assert.Equal([.. areas.Select(HostOf)], held.Pieces);
        rig.OnReactor(() => disk.End());
        Assert.Equal([(areas[0], Ok, 4097u), (areas[1], Ok, 513u), (areas[2], Ok, 8193u)], TakeAll(rig, 3));
        rig.Queue.Stop();

        unsafe nint HostOf(RequestArea area)
        {
            fixed (byte* data = area.Data(1))
            {
                return (nint)data;
            }
        }
    }

    [Fact]
    public void What_does_not_fit_ends_a_run()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        // Two runs of two; a read between writes; a gap; backwards; overlapping; the same place again.
        (BlkRequestType Type, ulong Sector, uint Bytes)[] requests =
        [
            (Out, 0, 512), (Out, 1, 512), (In, 2, 512), (Out, 3, 512), (Out, 5, 512), (Out, 4, 512), (Out, 5, 1024), (Out, 6, 512), (Out, 7, 512),
            (Out, 7, 512), (BlkRequestType.VIRTIO_BLK_T_FLUSH, 8, 0), (Out, 8, 512),
        ];
        foreach ((BlkRequestType type, ulong sector, uint bytes) in requests)
        {
            Add(rig, type, sector, bytes);
        }

        rig.Queue.Publish();
        (DiskOperation, ulong, uint)[] expected =
        [
            (DiskOperation.Write, 0, 1024), (DiskOperation.Read, 2, 512), (DiskOperation.Write, 3, 512), (DiskOperation.Write, 5, 512),
            (DiskOperation.Write, 4, 1536), (DiskOperation.Write, 6, 1024), (DiskOperation.Write, 7, 512), (DiskOperation.Flush, 0, 0),
            (DiskOperation.Write, 8, 512),
        ];
        Eventually.Holds(() => disk.SubmittedCount == expected.Length, "the batch is in flight");
        Assert.Equal(
            expected,
            rig.OnReactor(() => disk.InFlight.Select(held => held.Operation == DiskOperation.Flush
                ? (held.Operation, 0ul, 0u)
                : (held.Operation, held.OffsetBytes / 512, held.LengthBytes)).ToArray()));
        rig.OnReactor(disk.EndAll);
        Assert.All(TakeAll(rig, requests.Length), answer => Assert.Equal(Ok, answer.Status));
        rig.Queue.Stop();
    }

    [Fact]
    public void A_request_that_is_refused_ends_a_run()
    {
        using var disk = new HeldDisk { Properties = new DiskProperties { CapacityBytes = 64 * 512 } };
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        // In the slot that will be refused, an earlier request has left what would fit.
        for (int i = 0; i < 3; i++)
        {
            Add(rig, In, 60 + (ulong)i, 512);
        }

        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the run is in flight");
        rig.OnReactor(() => disk.End());
        TakeAll(rig, 3);
        Add(rig, In, 62, 512);
        Add(rig, In, 63, 512);
        Add(rig, In, 64, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 2, "the rest of the batch is in flight");
        Assert.Equal(1024u, rig.OnReactor(() => Assert.Single(disk.InFlight).LengthBytes));
        rig.OnReactor(() => disk.End());
        Assert.Equal([IoError, Ok, Ok], TakeAll(rig, 3).Select(answer => answer.Status).Order().Reverse());
        rig.Queue.Stop();
    }

    [Fact]
    public void Each_request_of_a_run_that_failed_is_done_again_alone()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { Parallelism = 1 });
        rig.Queue.Start();
        RequestArea[] areas = [.. Enumerable.Range(0, 4).Select(i => Add(rig, Out, 8 * (ulong)i, 4096))];
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the run is in flight");
        rig.OnReactor(() => disk.End(outcome: DiskOutcome.Failed));
        rig.LetTurnsPass();
        Assert.False(rig.Queue.TryTake(out _));
        Assert.Equal([0ul, 4096, 8192, 12288], rig.OnReactor(() => disk.InFlight.Select(held => held.OffsetBytes).ToArray()));
        Assert.All(rig.OnReactor(() => disk.InFlight.ToArray()), held => Assert.Equal(4096u, held.LengthBytes));
        rig.OnReactor(() =>
        {
            disk.End(position: 2, DiskOutcome.Failed);
            disk.EndAll();
        });
        Assert.Equal([(areas[2], IoError, 1u), (areas[0], Ok, 1u), (areas[1], Ok, 1u), (areas[3], Ok, 1u)], TakeAll(rig, 4));
        // The batch has come back: with a parallelism of 1 nothing more would be fetched otherwise.
        Add(rig, In, 0, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 6, "the next batch is in flight");
        rig.OnReactor(disk.EndAll);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_run_is_no_longer_than_its_limit()
    {
        const int RequestBytes = 8192;
        const int Count = 60;
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, queueSize: 256);
        rig.Queue.Start();
        for (int i = 0; i < Count; i++)
        {
            Add(rig, In, 16 * (ulong)i, RequestBytes);
        }

        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 2, "two runs are in flight");
        Assert.Equal(
            [AdjacentRequests.MaxRunBytes, (Count * RequestBytes) - AdjacentRequests.MaxRunBytes],
            rig.OnReactor(() => disk.InFlight.Select(held => held.LengthBytes).ToArray()));
        rig.OnReactor(disk.EndAll);
        TakeAll(rig, Count);
        rig.Queue.Stop();
    }

    [Fact]
    public void Switched_off_each_request_goes_alone()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk, new BlkDeviceOptions { JoinAdjacent = false });
        rig.Queue.Start();
        for (int i = 0; i < 4; i++)
        {
            Add(rig, In, 8 * (ulong)i, 4096);
        }

        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 4, "all are in flight");
        rig.OnReactor(disk.EndAll);
        TakeAll(rig, 4);
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Data_is_what_it_would_be_without_runs(bool direct)
    {
        const int PlaceBytes = 4096;
        const int PlaceCount = 64;
        int seed = Random.Shared.Next();
        var random = new Random(seed);
        using var image = new TemporaryImage(PlaceCount * PlaceBytes, direct ? AppContext.BaseDirectory : null);
        using FileDisk disk = image.Open(direct: direct);
        using var rig = new DeviceRig(disk, queueSize: 256);
        rig.Queue.Start();
        byte[] expected = new byte[PlaceCount * PlaceBytes];
        for (int round = 0; round < 60; round++)
        {
            var reads = new Dictionary<RequestArea, int>();
            int place = random.Next(4);
            int count = 0;
            while (place < PlaceCount && rig.Queue.CanAdd)
            {
                int length = 1 + random.Next(2);
                bool write = random.Next(4) != 0;
                if (place + length <= PlaceCount)
                {
                    RequestArea area = Add(rig, write ? Out : In, (ulong)place * PlaceBytes / 512, (uint)(length * PlaceBytes));
                    Span<byte> data = area.Data(length * PlaceBytes);
                    random.NextBytes(data);
                    count++;
                    if (write)
                    {
                        data.CopyTo(expected.AsSpan(place * PlaceBytes));
                    }
                    else
                    {
                        reads.Add(area, place);
                    }
                }

                // Mostly the next place, so that there are runs.
                place += length + (random.Next(5) == 0 ? 1 : 0);
            }

            rig.Queue.Publish();
            foreach ((RequestArea area, byte status, uint usedBytes) in TakeAll(rig, count))
            {
                Assert.Equal(Ok, status);
                if (reads.TryGetValue(area, out int from))
                {
                    int bytes = (int)usedBytes - 1;
                    Assert.True(area.Data(bytes).SequenceEqual(expected.AsSpan(from * PlaceBytes, bytes)), $"seed {seed}, round {round}, place {from}");
                }
            }
        }

        rig.Queue.Stop();
        Assert.True(image.Read(0, expected.Length).AsSpan().SequenceEqual(expected), $"seed {seed}");
    }

    private static RequestArea Add(DeviceRig rig, BlkRequestType type, ulong sector, uint bytes) => rig.Queue.Add(type, sector, bytes);

    private static (RequestArea Area, byte Status, uint UsedBytes)[] TakeAll(DeviceRig rig, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => rig.Queue.Take()).Select(answer => (answer.Area, answer.Status, answer.UsedBytes))];
}
