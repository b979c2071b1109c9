using System.Collections.Concurrent;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>A flush says that writes are durable, or it fails: also when the server that had them may be gone.</summary>
public sealed class NbdDurabilityTests
{
    public static TheoryData<DiskOperation> Changes => [DiskOperation.Write, DiskOperation.Discard, DiskOperation.WriteZeroes];

    [Theory]
    [MemberData(nameof(Changes))]
    public void After_a_loss_with_unflushed_changes_no_flush_succeeds_any_more(DiskOperation change)
    {
        var news = new ConcurrentQueue<NbdNews>();
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { OnNews = (one, _) => news.Enqueue(one) });
        using var bench = new DiskBench(disk, IoEngineKind.IoUring);
        Change(bench, change);
        server.DropAll();
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(DiskOutcome.Failed, bench.Flush());
            Assert.Equal(DiskOutcome.Failed, disk.Flush());
            Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
            // What promises nothing goes on.
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        }

        Assert.Single(news, NbdNews.DurabilityLost);
    }

    [Fact]
    public void A_loss_with_nothing_unflushed_is_none()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.IoUring);
        Change(bench, DiskOperation.Write);
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
        server.DropAll();
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Change(bench, DiskOperation.Write);
        Assert.Equal(DiskOutcome.Done, disk.Flush());
        server.DropAll();
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
        Assert.Equal(DiskOutcome.Done, bench.Flush());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Where_the_server_keeps_what_it_has_a_loss_is_none(bool byItsWord)
    {
        // Without a flush in the protocol, nothing is to be flushed.
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        server.Flags = byItsWord ? server.Flags : (ushort)(server.Flags & ~(NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA));
        using NbdDisk disk = NbdDisk.Open(server.Options with { ServerKeepsWrites = byItsWord });
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Change(bench, DiskOperation.Write);
        server.DropAll();
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
    }

    [Fact]
    public void What_is_lost_while_it_is_in_flight_is_done_again_and_not_lost()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, _) => connection.Number == 1 ? ScriptedAnswer.Close : ScriptedAnswer.Serve,
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.IoUring);
        Change(bench, DiskOperation.Write);
        Assert.Equal(DiskOutcome.Done, bench.Flush());
    }

    [Fact]
    public void What_one_queue_has_not_flushed_is_missed_by_the_flush_of_another()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var one = new DiskBench(disk, IoEngineKind.IoUring);
        using var other = new DiskBench(disk, IoEngineKind.Threads);
        // Both have a connection.
        one.Start(0, DiskOperation.Write, 0, 0, 1, 4096);
        Assert.Equal(DiskOutcome.Done, other.Transfer(DiskOperation.Write, 4096, 0, 1, 4096));
        Assert.Single(one.Finish(1));
        Assert.Equal(2, server.Connections);
        server.DropAll();
        Assert.Equal(DiskOutcome.Failed, other.Flush());
        Assert.Equal(DiskOutcome.Failed, one.Flush());
    }

    [Fact]
    public void A_flush_over_a_new_connection_does_not_hide_that_an_older_one_has_ended()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
                connection.Number == 1 && request.Command == NbdCommand.NBD_CMD_READ ? ScriptedAnswer.Nothing : ScriptedAnswer.Serve,
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var one = new DiskBench(disk, IoEngineKind.IoUring);
        using var other = new DiskBench(disk, IoEngineKind.Threads);
        Change(one, DiskOperation.Write);
        // The first connection is taken, and its queue has too much to do to notice its end.
        one.Start(1, DiskOperation.Read, 0, 0, 1, 4096);
        one.ReapUntil(() => server.Requests.Any(request => request.Command == NbdCommand.NBD_CMD_READ));
        // As if the server had died and its successor were there already.
        server.DropAll();
        Assert.Equal(DiskOutcome.Failed, other.Flush());
        Assert.Equal(DiskOutcome.Done, Assert.Single(one.Finish(1)).Value);
        Assert.Equal(DiskOutcome.Failed, one.Flush());
    }

    [Fact]
    public void What_a_server_has_not_flushed_that_once_had_nothing_to_flush_is_missed_too()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        ushort flags = server.Flags;
        server.Flags = (ushort)(flags & ~(NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA));
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Change(bench, DiskOperation.Write);
        server.DropAll();
        server.Flags = flags;
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Change(bench, DiskOperation.Write);
        server.DropAll();
        Assert.Equal(DiskOutcome.Failed, bench.Flush());
    }

    [Fact]
    public void A_sync_that_failed_is_not_forgotten_because_a_connection_is_lost_at_that_moment()
    {
        var current = new NbdDurability(isWatched: true);
        long losses = 0;
        bool isOver = false;
        var losing = new Thread(() =>
        {
            while (!Volatile.Read(ref isOver))
            {
                NbdDurability one = Volatile.Read(ref current);
                one.NoteLoss(one.Generation);
                Volatile.Write(ref losses, losses + 1);
            }
        });
        losing.Start();
        try
        {
            for (int round = 0; round < 300; round++)
            {
                Volatile.Write(ref current, new NbdDurability(isWatched: true));
                WaitForLosses();
                current.Lose();
                WaitForLosses();
                Assert.True(current.IsLost, $"Forgotten in round {round}.");
            }
        }
        finally
        {
            Volatile.Write(ref isOver, true);
            losing.Join();
        }

        void WaitForLosses()
        {
            long seen = Volatile.Read(ref losses);
            Eventually.Holds(() => Volatile.Read(ref losses) > seen + 1, "the other thread goes on");
        }
    }

    [Fact]
    public void What_a_closed_queue_has_not_flushed_is_not_forgotten()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using (var first = new DiskBench(disk, IoEngineKind.Threads))
        {
            Change(first, DiskOperation.Write);
        }

        server.DropAll();
        using var second = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(DiskOutcome.Failed, second.Flush());
    }

    [Fact]
    public void A_reply_of_a_server_that_may_be_gone_counts_for_nothing()
    {
        using var isHeld = new ManualResetEventSlim();
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                if (request.Command == NbdCommand.NBD_CMD_WRITE && connection.Number == 2)
                {
                    isHeld.Wait();
                }

                return request.Command == NbdCommand.NBD_CMD_TRIM && connection.Number == 1 ? ScriptedAnswer.Close : ScriptedAnswer.Serve;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var one = new DiskBench(disk, IoEngineKind.Threads);
        using var other = new DiskBench(disk, IoEngineKind.Threads);
        // The first connection is taken, so that the other queue gets the second.
        one.Start(0, DiskOperation.Write, 0, 0, 1, 4096);
        other.Start(0, DiskOperation.Write, 4096, 0, 1, 4096);
        other.ReapUntil(() => !server.Requests.IsEmpty);
        Assert.Single(one.Finish(1));
        Assert.Equal(DiskOutcome.Done, one.Flush());
        // With nothing unflushed, the first is lost. What the second says now may be of the same server, before its end.
        one.StartRanges(1, DiskOperation.Discard, false, new DiskRange(0, 4096, false));
        Assert.Equal(DiskOutcome.Done, Assert.Single(one.Finish(1)).Value);
        isHeld.Set();
        Assert.Equal(DiskOutcome.Done, Assert.Single(other.Finish(1)).Value);
        Assert.Equal(2, server.Requests.Count(request => request.Command == NbdCommand.NBD_CMD_WRITE && request.OffsetBytes == 4096));
        Assert.Equal(DiskOutcome.Done, other.Flush());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void After_a_flush_that_failed_none_succeeds(bool isOfAWrite)
    {
        bool fails = true;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                if (!fails || !(request.Command == NbdCommand.NBD_CMD_FLUSH || request.IsDurable))
                {
                    return ScriptedAnswer.Serve;
                }

                fails = false;
                connection.Send(connection.Error(request, NBD_EIO));
                return ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.IoUring);
        Assert.Equal(DiskOutcome.Failed, isOfAWrite ? bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true) : bench.Flush());
        Assert.Equal(DiskOutcome.Failed, bench.Flush());
        Assert.Equal(DiskOutcome.Failed, disk.Flush());
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
    }

    private static void Change(DiskBench bench, DiskOperation operation) => Assert.Equal(
        DiskOutcome.Done,
        operation == DiskOperation.Write
            ? bench.Transfer(operation, 8192, 0, 1, 4096)
            : bench.Ranges(operation, durable: false, new DiskRange(8192, 4096, true)));
}
