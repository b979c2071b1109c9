using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.Disks.Refresh;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Disks.Nbd;
using VirtioBlkFlow.UnitTests.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Refresh;

/// <summary>A refresh on its own thread, beside guests on theirs.</summary>
public sealed class RefreshDiskTests(ITestOutputHelper output)
{
    private const int SizeBytes = 4 << 20;

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [MemberData(nameof(Engines))]
    public void It_comes_to_its_end_and_begins_anew_when_told(IoEngineKind engine)
    {
        using RefreshDisk disk = Open(engine, ulong.MaxValue);
        using (var bench = new DiskBench(disk, engine))
        {
            bench.Memory.Fill(0x33);
            bench.Transfer(DiskOperation.Write, 0, 0, 1, 65536);
        }

        Assert.Equal(RefreshState.None, disk.Status.State);
        disk.Start(rewrite: false);
        Eventually.Holds(() => disk.Status is { State: RefreshState.Finished, Rewrites: false, ReadBytes: SizeBytes, RewrittenBytes: 0 }, "it has read all");
        disk.Start(rewrite: true);
        Eventually.Holds(() => disk.Status is { State: RefreshState.Finished, Rewrites: true, ReadBytes: SizeBytes, RewrittenBytes: 65536 }, "it has rewritten what there is");
    }

    [Fact]
    public void One_that_is_under_way_is_told_to_stop_or_to_begin_anew()
    {
        using RefreshDisk disk = Open(IoEngineKind.Threads, 4096);
        disk.Stop();
        disk.Start(rewrite: false);
        Eventually.Holds(() => disk.Status.PositionBytes > 0, "it is under way");
        disk.Start(rewrite: true);
        disk.Start(rewrite: false);
        Eventually.Holds(() => disk.Status is { State: RefreshState.Running, Rewrites: false, PositionBytes: > 0 }, "another one is");
        disk.Stop();
        Eventually.Holds(() => disk.Status.State == RefreshState.Stopped, "it has stopped");
        disk.Start(rewrite: false);
        disk.Stop();
        Eventually.Holds(() => disk.Status.State == RefreshState.Stopped, "one that was told before it had begun has stopped");
    }

    [Fact]
    public void A_disk_that_hangs_keeps_neither_a_queue_that_drains_nor_the_end_waiting()
    {
        FaultDisk hanging = FaultDisk.Open(
            MemoryDisk.Open(new MemoryDiskOptions(SizeBytes)), new FaultDiskOptions(1, [new FaultRule { Operations = [DiskOperation.Read], Hangs = true }]));
        using var disk = new RefreshDisk(hanging, new RefreshOptions(ulong.MaxValue, IoEngineKind.Threads));
        using var bench = new WrappingBench(disk);
        disk.Start(rewrite: true);
        Eventually.Holds(() => hanging.HitCount == 1, "its read hangs");
        bench.Submit(0, DiskOperation.Write);
        Assert.Empty(bench.Ended);
        Eventually.Holds(
            () =>
            {
                bench.Queue.EndHeld();
                bench.Pass(0);
                return bench.Ended.Count == 1;
            },
            "the write goes on");
        Eventually.Holds(() => hanging.HitCount >= 2, "another read hangs");
        disk.Dispose();
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_server_that_is_silent_does_not_keep_one_that_is_told_to_stop(IoEngineKind engine)
    {
        bool isSilent = false;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (_, request) => request.Command == NbdCommand.NBD_CMD_READ && Volatile.Read(ref isSilent) ? ScriptedAnswer.Nothing : ScriptedAnswer.Serve,
        }.Start();
        // Longer than any test has patience.
        TimeSpan never = TimeSpan.FromHours(1);
        using var disk = new RefreshDisk(
            NbdDisk.Open(server.Options with { Timeout = never, Reconnect = never, DrainPatience = TimeSpan.FromMilliseconds(50) }),
            new RefreshOptions(ulong.MaxValue, engine));
        disk.Start(rewrite: false);
        Eventually.Holds(() => disk.Status is { State: RefreshState.Finished, ReadBytes: ScriptedNbdServer.SizeBytes }, "it has read all");
        Volatile.Write(ref isSilent, true);
        int before = server.Requests.Count;
        disk.Start(rewrite: false);
        Eventually.Holds(() => server.Requests.Count > before, "a read waits for an answer");
        disk.Stop();
        Eventually.Holds(() => disk.Status.State == RefreshState.Stopped, "it has stopped");
    }

    [Fact]
    public void A_disk_that_cannot_be_opened_once_more_fails_the_refresh_and_nothing_else()
    {
        List<RefreshNotice> notices = [];
        using var disk = new RefreshDisk(new OnceOnly(), new RefreshOptions(1 << 20, IoEngineKind.Threads) { Noticed = notices.Add });
        using var bench = new WrappingBench(disk);
        disk.Start(rewrite: true);
        Eventually.Holds(() => disk.Status is { State: RefreshState.Failed, Error: "Once is enough." }, "it has failed");
        bench.Submit(0, DiskOperation.Write);
        Assert.Single(bench.Take());
    }

    [Fact]
    public void What_may_not_be_rewritten_is_refused()
    {
        using var readOnly = new RefreshDisk(new ReadOnlyDisk(MemoryDisk.Open(new MemoryDiskOptions(SizeBytes))), new RefreshOptions(1 << 20, IoEngineKind.Threads));
        Assert.Throws<InvalidOperationException>(() => readOnly.Start(rewrite: true));
        using var shared = new RefreshDisk(MemoryDisk.Open(new MemoryDiskOptions(SizeBytes)), new RefreshOptions(1 << 20, IoEngineKind.Threads) { ObstacleToRewrite = "It is shared." });
        Assert.Equal("It is shared.", Assert.Throws<InvalidOperationException>(() => shared.Start(rewrite: true)).Message);
        Assert.Equal(RefreshState.None, shared.Status.State);
    }

    // Two guests write all over the disk, in blocks that are each one's own. Now and then they rest, until a piece has been read, and go on at
    // once: while it is being written again. Requests below take their time, so that this takes long enough.
    [Theory]
    [MemberData(nameof(Engines))]
    public void A_rewrite_never_undoes_what_guests_on_several_queues_write(IoEngineKind engine)
    {
        const int Guests = 2;
        int seed = TestSeed.Take(output);
        var slow = new FaultRule { Rate = 0.5, Delay = DelayDistribution.Uniform(TimeSpan.Zero, TimeSpan.FromMicroseconds(300)) };
        // Small, so that rewrites and guests meet.
        using var disk = new RefreshDisk(
            FaultDisk.Open(MemoryDisk.Open(new MemoryDiskOptions(256 << 10)), new FaultDiskOptions(seed, [slow])),
            new RefreshOptions(ulong.MaxValue, engine) { Quiet = TimeSpan.Zero, Repeats = true });
        // Of the guests, and at first of the one who starts the refresh.
        using var started = new Barrier(Guests + 1);
        Exception?[] failures = new Exception?[Guests];
        Thread[] guests = [.. Enumerable.Range(0, Guests).Select(number => new Thread(() =>
        {
            try
            {
                using var bench = new DiskBench(disk, engine);
                started.SignalAndWait();
                new RestingGuest(disk, bench, new Random(seed + number), number, Guests, started).Run();
            }
            catch (Exception exception)
            {
                failures[number] = exception;
                started.RemoveParticipant();
            }
        }))];
        Array.ForEach(guests, guest => guest.Start());
        started.SignalAndWait();
        disk.Start(rewrite: true);
        started.RemoveParticipant();
        Array.ForEach(guests, guest => guest.Join());
        Assert.All(failures, Assert.Null);
        RefreshStatus status = disk.Status;
        output.WriteLine($"{status.RewrittenBytes} bytes rewritten, {status.Pauses} pauses.");
        Assert.True(status is { State: RefreshState.Running, RewrittenBytes: > 1 << 20 }, $"Too little was rewritten to show anything: {status}.");
    }

    private static RefreshDisk Open(IoEngineKind engine, ulong rate) =>
        new(MemoryDisk.Open(new MemoryDiskOptions(SizeBytes)), new RefreshOptions(rate, engine));

    private sealed class RestingGuest(RefreshDisk disk, DiskBench bench, Random random, int number, int guests, Barrier resting)
    {
        private const int Block = 4096;
        private const int Rounds = 300;
        private const int RoundsBetweenRests = 3;
        private const int MostAtOnce = 8;
        private readonly byte[] _model = new byte[(256 << 10) / Block];

        public void Run()
        {
            for (int round = 0; round < Rounds; round++)
            {
                if (round % RoundsBetweenRests == 0)
                {
                    resting.SignalAndWait();
                    ulong seen = disk.Status.ReadBytes;
                    Eventually.Holds(() => disk.Status.ReadBytes != seen, "another piece is read");
                }

                int[] blocks = [.. Enumerable.Range(0, _model.Length).Where(block => block % guests == number)];
                random.Shuffle(blocks);
                int count = random.Next(1, MostAtOnce + 1);
                for (int i = 0; i < count; i++)
                {
                    _model[blocks[i]] = (byte)random.Next(1, 256);
                    bench.Memory.Slice(i * Block, Block).Fill(_model[blocks[i]]);
                    bench.Start(i, DiskOperation.Write, (ulong)(blocks[i] * Block), i * Block, 1, Block);
                }

                Assert.All(bench.Finish(count), one => Assert.Equal(DiskOutcome.Done, one.Value));
                for (int i = 0; i < count; i++)
                {
                    bench.Start(i, DiskOperation.Read, (ulong)(blocks[^(i + 1)] * Block), i * Block, 1, Block);
                }

                Assert.All(bench.Finish(count), one => Assert.Equal(DiskOutcome.Done, one.Value));
                for (int i = 0; i < count; i++)
                {
                    int wrong = bench.Memory.Slice(i * Block, Block).IndexOfAnyExcept(_model[blocks[^(i + 1)]]);
                    Assert.True(wrong < 0, $"Round {round}: block {blocks[^(i + 1)]} is as it was written.");
                }
            }
        }
    }

    private sealed class OnceOnly : IDisk
    {
        private readonly AnsweringDisk _inner = new();
        private bool _isOpen;

        public DiskProperties Properties => _inner.Properties;

        public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount)
        {
            if (_isOpen)
            {
                throw new InvalidOperationException("Once is enough.");
            }

            _isOpen = true;
            return _inner.OpenQueue(engine, completions, slotCount);
        }

        public DiskOutcome Flush() => DiskOutcome.Done;

        public void Dispose() => _inner.Dispose();
    }
}
