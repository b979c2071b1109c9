using System.Diagnostics.CodeAnalysis;
using Mono.Unix.Native;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using EventDescriptor = VirtioBlkFlow.Frontend.EventDescriptor;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>What happens to a queue while it works: stops, starts, new memory, other engines, other ways to wait.</summary>
public sealed class RunningDeviceTests
{
    public static TheoryData<IoEngineKind, PollMode> EnginesAndModes
    {
        get
        {
            var cases = new TheoryData<IoEngineKind, PollMode>();
            foreach (IoEngineKind engine in Enum.GetValues<IoEngineKind>())
            {
                foreach (PollMode mode in Enum.GetValues<PollMode>())
                {
                    cases.Add(engine, mode);
                }
            }

            return cases;
        }
    }

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [MemberData(nameof(EnginesAndModes))]
    public void Serves_with_every_engine_and_every_way_to_wait(IoEngineKind engine, PollMode mode)
    {
        foreach (VirtioFeatures features in new[] { VirtioFeatures.None, VirtioFeatures.VIRTIO_RING_F_EVENT_IDX })
        {
            using var image = new TemporaryImage();
            using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine, Polling = mode }, features);
            Start(rig);
            var load = new VerifiedLoad(rig.Queue);
            load.Run(300, 1);
            load.Run(1000, 32);
            rig.Queue.Stop();
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    [InlineData(1024)]
    public void Serves_with_any_parallelism(int parallelism)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback with { Parallelism = parallelism });
        Start(rig);
        new VerifiedLoad(rig.Queue).Run(2000, 32);
        rig.Queue.Stop();
    }

    [Fact]
    public void Each_queue_has_a_thread_of_its_own()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback, queueCount: 3);
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        foreach (DriverQueue queue in rig.Queues)
        {
            queue.Start();
        }

        string[] names = [.. Enumerable.Range(0, 3).Select(i => rig.OnReactor(() => Thread.CurrentThread.Name!, i))];
        Assert.Equal(["queue-0", "queue-1", "queue-2"], names);
        Parallel.ForEach(rig.Queues, queue => Assert.Equal(
            (byte)BlkStatus.VIRTIO_BLK_S_OK, queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, (ulong)queue.Index, 512).Status));
        foreach (DriverQueue queue in rig.Queues)
        {
            Assert.Equal(1, queue.Stop());
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_queue_without_a_kick_is_looked_at_nevertheless(IoEngineKind engine)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine, Polling = PollMode.Never });
        rig.Queue.Start(0, kick: null, call: null);
        for (int i = 0; i < 20; i++)
        {
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
            rig.Queue.Ring.Publish();
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.TakePolling().Status);
        }

        rig.Queue.Stop();
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Another_kick_takes_over_and_none_means_polling(IoEngineKind engine)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine, Polling = PollMode.Never });
        using var other = new EventDescriptor();
        rig.Queue.Start();
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512).Status);
        rig.Device.ReplaceKick(0, other.Handle);
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Ring.Publish();
        other.Signal();
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
        rig.Device.ReplaceKick(0, null);
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Ring.Publish();
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
        rig.Queue.Stop();
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_kick_that_cannot_be_waited_on_is_no_reason_to_fail(IoEngineKind engine)
    {
        // A regular file is always ready and never signals: neither epoll nor a poll request takes it.
        using var image = new TemporaryImage();
        using var noEvent = new TemporaryImage(4096);
        using var file = File.OpenHandle(noEvent.Path, FileMode.Open, FileAccess.ReadWrite);
        using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine, Polling = PollMode.Never });
        rig.Queue.Start(0, file, rig.Queue.Call.Handle);
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Ring.Publish();
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
        Assert.Equal(1, Eventually.Returns(rig.Queue.Stop, "the queue stops"));
        rig.Queue.Start(1);
        rig.Device.ReplaceKick(0, file);
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Ring.Publish();
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.Take().Status);
        Assert.Equal(2, Eventually.Returns(rig.Queue.Stop, "the queue stops"));
    }

    [Fact]
    public void Another_call_is_signalled_once_and_used_from_then_on()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk);
        using var other = new EventDescriptor();
        rig.Queue.Start();
        rig.Device.ReplaceCall(0, other.Handle);
        Assert.Equal(1ul, other.Take());
        Assert.Equal(0ul, rig.Queue.Call.Take());
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Ring.RequestCalls();
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the request is in flight");
        rig.OnReactor(disk.EndAll);
        Assert.True(other.Wait(Deadline.In(Eventually.PatienceMs)));
        Assert.Equal(1ul, other.Take());
        Assert.Equal(0ul, rig.Queue.Call.Take());
        rig.Device.ReplaceCall(0, null);
        rig.Queue.Stop();
    }

    [Fact]
    public void A_call_that_is_a_full_pipe_holds_up_nothing()
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback);
        using FullPipe pipe = new();
        rig.Queue.Start(0, rig.Queue.Kick.Handle, pipe.WritingEnd);
        for (int i = 0; i < 10; i++)
        {
            rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
            rig.Queue.Publish();
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, rig.Queue.TakePolling().Status);
            rig.Queue.Ring.RequestCalls();
        }

        Eventually.Returns(() => rig.Device.ReplaceError(0, pipe.WritingEnd), "the reactor takes a command");
        Assert.Equal(10, Eventually.Returns(rig.Queue.Stop, "the queue stops"));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Stops_under_load_and_goes_on_where_it_stopped(IoEngineKind engine)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine });
        Start(rig);
        var load = new VerifiedLoad(rig.Queue);
        int cycles = 0;
        Task driver = Task.Factory.StartNew(
            () =>
            {
                // As long as it takes for all cycles.
                while (Volatile.Read(ref cycles) < 200)
                {
                    load.Run(32, 32);
                }
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
        for (int i = 0; i < 200; i++)
        {
            ushort next = Eventually.Returns(rig.Queue.Stop, "the queue stops");
            // All that was fetched has been published: the used index is where fetching stopped.
            Assert.Equal(next, rig.Queue.Ring.Raw.UsedIndex);
            rig.Queue.Start(next);
            ushort target = (ushort)(next + 1);
            Eventually.Holds(() => (short)(rig.Queue.Ring.Raw.UsedIndex - target) >= 0 || driver.IsCompleted, "the load goes on");
            Volatile.Write(ref cycles, i + 1);
        }

        Eventually.Ends(driver, "the load ends");
        Assert.Equal((ushort)load.Completed, rig.Queue.Stop());
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring, false)]
    [InlineData(IoEngineKind.IoUring, true)]
    [InlineData(IoEngineKind.Threads, false)]
    [InlineData(IoEngineKind.Threads, true)]
    public void Moves_to_other_memory_under_load(IoEngineKind engine, bool registers)
    {
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine, RegisterMemory = registers });
        Start(rig);
        var load = new VerifiedLoad(rig.Queue);
        int swaps = 0;
        Task driver = Task.Factory.StartNew(
            () =>
            {
                while (Volatile.Read(ref swaps) < 50)
                {
                    load.Run(64, 32);
                }
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
        SharedRegion region = rig.Memory.Regions[0];
        Mapping? before = null;
        for (int i = 0; i < 50; i++)
        {
            var mapping = new Mapping(region);
            QueueRings rings = rig.Queue.RingsAt(mapping.Distance);
            Eventually.Returns(() => rig.Device.ReplaceMemory(DriverQueue.TableOf(rig.Memory, mapping.Distance), [rings]), "the memory is replaced");
            // Whoever still uses the mapping before dies of it now.
            before?.Dispose();
            before = mapping;
            ushort used = rig.Queue.Ring.Raw.UsedIndex;
            Eventually.Holds(() => rig.Queue.Ring.Raw.UsedIndex != used || driver.IsCompleted, "the load goes on");
            Volatile.Write(ref swaps, i + 1);
        }

        Eventually.Ends(driver, "the load ends");
        Assert.Equal((ushort)load.Completed, rig.Queue.Stop());
        before!.Dispose();
    }

    [Fact]
    public void Memory_is_not_replaced_before_the_disk_has_let_go_of_it()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the request is in flight");
        Task replace = Task.Run(() => rig.Device.ReplaceMemory(DriverQueue.TableOf(rig.Memory), [rig.Queue.RingsAt(0)]));
        // The queue fetches until the drain begins: the first request that is left in the ring tells.
        int expected = 1;
        Eventually.Holds(
            () =>
            {
                rig.Queue.Add(BlkRequestType.VIRTIO_BLK_T_IN, 0, 512);
                rig.Queue.Publish();
                rig.LetTurnsPass();
                if (disk.SubmittedCount == expected)
                {
                    return true;
                }

                expected++;
                rig.OnReactor(() => disk.End(position: 1));
                rig.Queue.Take();
                return false;
            },
            "the queue drains");
        Assert.False(replace.IsCompleted);
        rig.OnReactor(() => disk.End());
        Eventually.Ends(replace, "the memory is replaced");
        Eventually.Holds(() => disk.SubmittedCount == expected + 1, "the queue goes on");
        rig.OnReactor(() => disk.End());
        rig.Queue.Take();
        rig.Queue.Take();
        rig.Queue.Stop();
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring, 1)]
    [InlineData(IoEngineKind.IoUring, 32)]
    [InlineData(IoEngineKind.Threads, 32)]
    public void A_request_allocates_nothing_on_the_queues_thread(IoEngineKind engine, int depth)
    {
        const int Requests = 4096;
        using var image = new TemporaryImage();
        using var rig = new DeviceRig(image.Open(), Writeback with { Engine = engine });
        Start(rig);
        long allocated = Allocations.LeastOf(() => rig.OnReactor(GC.GetAllocatedBytesForCurrentThread), () => Send(rig.Queue, Requests, depth));
        Assert.True(allocated / Requests == 0, $"{allocated} bytes for {Requests} requests.");
        rig.Queue.Stop();
    }

    private static BlkDeviceOptions Writeback => new() { Cache = CacheMode.Writeback };

    private static void Start(DeviceRig rig)
    {
        // Writeback, so that thousands of writes are not thousands of syncs.
        Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
        rig.Queue.Start();
    }

    private static void Send(DriverQueue queue, int requests, int depth)
    {
        int sent = 0;
        int taken = 0;
        while (taken < requests)
        {
            for (; sent < requests && sent - taken < depth; sent++)
            {
                queue.Add((sent & 1) == 0 ? BlkRequestType.VIRTIO_BLK_T_IN : BlkRequestType.VIRTIO_BLK_T_OUT, (ulong)(sent % 1024), 4096);
            }

            queue.Publish();
            Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, queue.Take().Status);
            taken++;
            while (queue.TryTake(out Answer answer))
            {
                Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, answer.Status);
                taken++;
            }
        }
    }

    /// <summary>A second mapping of the guest's memory, as a front-end makes one anew after memory was plugged in.</summary>
    [SuppressMessage("Performance", "CA1806", Justification = "munmap of a mapping of ours.")]
    private sealed class Mapping : IDisposable
    {
        private readonly nint _address;
        private readonly ulong _lengthBytes;

        public unsafe Mapping(SharedRegion region)
        {
            _lengthBytes = region.LengthBytes;
            _address = Syscall.mmap(
                0,
                _lengthBytes,
                MmapProts.PROT_READ | MmapProts.PROT_WRITE,
                MmapFlags.MAP_SHARED,
                (int)region.Handle.DangerousGetHandle(),
                (long)region.MmapOffset);
            Assert.NotEqual(Syscall.MAP_FAILED, _address);
            Distance = _address - (nint)region.Host;
        }

        public nint Distance { get; }

        public void Dispose() => Syscall.munmap(_address, _lengthBytes);
    }
}
