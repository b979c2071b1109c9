using System.Collections.Concurrent;
using System.Diagnostics;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>Servers that end, come back, hang, or have changed meanwhile.</summary>
public sealed class NbdReconnectTests
{
    private static readonly TimeSpan s_short = TimeSpan.FromMilliseconds(100);

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [MemberData(nameof(Engines))]
    public void Requests_in_flight_are_asked_again_of_the_next_connection_and_each_ends_once(IoEngineKind engine)
    {
        int answered = 0;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            // Each connection but the last ends in the middle of it all.
            Script = (connection, request) =>
                connection.Number <= 5 && Interlocked.Increment(ref answered) % 7 == 0 ? ScriptedAnswer.Close : ScriptedAnswer.Serve,
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { ServerKeepsWrites = true });
        using var bench = new DiskBench(disk, engine);
        for (int slot = 0; slot < 50; slot++)
        {
            bench.Memory.Slice(slot * 4096, 4096).Fill((byte)(slot + 1));
            bench.Start(slot, DiskOperation.Write, (ulong)slot * 4096, slot * 4096, 8, 512);
        }

        Assert.All(bench.Finish(50), one => Assert.Equal(DiskOutcome.Done, one.Value));
        Assert.InRange(server.Connections, 2, 6);
        for (int slot = 0; slot < 50; slot++)
        {
            Assert.Equal(-1, server.Image.AsSpan(slot * 4096, 4096).IndexOfAnyExcept((byte)(slot + 1)));
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_write_that_the_server_reads_only_in_part_is_asked_again(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        server.Negotiate = connection =>
        {
            bool agreed = connection.NegotiateProperly();
            if (connection.Number > 3)
            {
                return agreed;
            }

            // More than a socket holds: the rest of it waits to be sent.
            connection.Receive(connection.Number switch { 1 => 28 + 100_000, 2 => 28, _ => 5 });
            return false;
        };
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, engine);
        bench.Memory.Fill(0x77);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, ScriptedNbdServer.SizeBytes));
        Assert.Equal(4, server.Connections);
        Assert.Equal(-1, server.Image.AsSpan().IndexOfAnyExcept((byte)0x77));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_server_that_answers_a_write_before_it_has_read_it_and_reads_no_more_is_given_up(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        server.Negotiate = connection =>
        {
            bool agreed = connection.NegotiateProperly();
            if (connection.Number == 1)
            {
                // Nothing is outstanding any more, and the data is still to be sent.
                ScriptedRequest request = connection.ReceiveHeader();
                connection.Send(connection.Done(request));
                SpinWait.SpinUntil(() => server.Connections > 1, Eventually.PatienceMs);
            }

            return agreed && connection.Number > 1;
        };
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = s_short });
        using var bench = new DiskBench(disk, engine);
        bench.Memory.Fill(0x77);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, ScriptedNbdServer.SizeBytes));
        Assert.Equal(-1, server.Image.AsSpan().IndexOfAnyExcept((byte)0x77));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Requests_that_were_answered_before_all_was_sent_end_once_when_the_last_connection_for_them_ends(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        server.Negotiate = connection =>
        {
            if (!connection.NegotiateProperly())
            {
                return false;
            }

            // Three writes go out together, and all are answered before the last, which no socket holds, is read.
            ScriptedRequest[] requests = new ScriptedRequest[3];
            for (int i = 0; i < requests.Length; i++)
            {
                requests[i] = connection.ReceiveHeader();
                connection.Receive(i < 2 ? (int)requests[i].LengthBytes : 0);
            }

            connection.Send([.. connection.Error(requests[0], NBD_ESHUTDOWN), .. connection.Done(requests[1]), .. connection.Done(requests[2])]);
            connection.Receive((int)requests[2].LengthBytes);
            connection.Receive(1);
            return false;
        };
        using NbdDisk disk = NbdDisk.Open(server.Options with { ServerKeepsWrites = true });
        using var bench = new DiskBench(disk, engine);
        // Without a connection, so that none goes ahead of the others.
        bench.Start(0, DiskOperation.Write, 0, 0, 1, 4096);
        bench.Start(1, DiskOperation.Write, 4096, 4096, 1, 4096);
        bench.Start(2, DiskOperation.Write, 0, 0, 1, ScriptedNbdServer.SizeBytes);
        Dictionary<int, DiskOutcome> outcomes = bench.Finish(3);
        Assert.All(outcomes, one => Assert.Equal(DiskOutcome.Failed, one.Value));
        Assert.InRange(server.Connections, 33, 34);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_server_that_does_not_come_back_makes_requests_fail_until_it_does(IoEngineKind engine)
    {
        var news = new ConcurrentQueue<NbdNews>();
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Reconnect = s_short, OnNews = (one, _) => news.Enqueue(one) });
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        server.Stop();
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        // From now on at once.
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        }

        Assert.Equal(DiskOutcome.Failed, bench.Flush());
        Assert.Equal(DiskOutcome.Failed, disk.Flush());
        Assert.Equal([NbdNews.Lost, NbdNews.GivenUp], news);
        server.Start();
        Eventually.Holds(() => news.Contains(NbdNews.Connected), "it is found again");
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Assert.Equal(DiskOutcome.Done, disk.Flush());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Without_time_to_reconnect_requests_fail_with_the_connection(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer { Script = (_, _) => ScriptedAnswer.Close }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Reconnect = TimeSpan.Zero });
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        Assert.Single(server.Requests);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_server_that_hangs_is_given_up_and_asked_again_on_another_connection(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, _) => connection.Number == 1 ? ScriptedAnswer.Nothing : ScriptedAnswer.Serve,
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = s_short });
        using var bench = new DiskBench(disk, engine);
        bench.Start(0, DiskOperation.Read, 0, 0, 1, 4096);
        bench.Start(1, DiskOperation.Write, 8192, 8192, 1, 4096);
        Assert.All(bench.Finish(2), one => Assert.Equal(DiskOutcome.Done, one.Value));
        Assert.Equal(2, server.Connections);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_server_that_hangs_is_given_up_although_more_and_more_is_asked_of_it(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, _) => connection.Number == 1 ? ScriptedAnswer.Nothing : ScriptedAnswer.Serve,
        }.Start();
        bool isLost = false;
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = s_short, OnNews = (news, _) => isLost |= news == NbdNews.Lost });
        using var bench = new DiskBench(disk, engine);
        int started = 0;
        while (!isLost)
        {
            // There is time for a handful until the first has waited long enough.
            Assert.True(started < 20, "It was not given up.");
            bench.Start(started++, DiskOperation.Read, 0, 0, 1, 512);
            long begun = Stopwatch.GetTimestamp();
            bench.ReapUntil(() => Stopwatch.GetElapsedTime(begun) > s_short / 5);
        }

        Assert.All(bench.Finish(started), one => Assert.Equal(DiskOutcome.Done, one.Value));
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring, false)]
    [InlineData(IoEngineKind.IoUring, true)]
    [InlineData(IoEngineKind.Threads, false)]
    [InlineData(IoEngineKind.Threads, true)]
    public void A_server_that_answers_nothing_or_nonsense_on_any_connection_is_given_up(IoEngineKind engine, bool isNonsense)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, _) =>
            {
                connection.Send(isNonsense ? [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] : []);
                return ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = s_short, Reconnect = s_short });
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        Assert.InRange(server.Connections, 1, 20);
    }

    [Fact]
    public void A_server_that_is_shutting_down_is_left_and_its_successor_is_asked()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                if (connection.Number > 1)
                {
                    return ScriptedAnswer.Serve;
                }

                connection.Send(connection.Error(request, NBD_ESHUTDOWN));
                return ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        Assert.Equal(2, server.Connections);
    }

    [Theory]
    [InlineData("read-only")]
    [InlineData("larger blocks")]
    [InlineData("smaller transfers")]
    public void A_server_that_comes_back_as_another_disk_is_not_taken_for_the_one_there_was(string change)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Reconnect = s_short });
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        server.Stop();
        ushort flags = server.Flags;
        server.Flags |= change == "read-only" ? NBD_FLAG_READ_ONLY : (ushort)0;
        server.BlockSizes = change switch { "larger blocks" => (4096, 4096, 1 << 25), "smaller transfers" => (1, 4096, 1 << 20), _ => null };
        server.Start();
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        server.Stop();
        (server.Flags, server.BlockSizes) = (flags, null);
        server.Start();
        Eventually.Holds(() => bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096) == DiskOutcome.Done, "it is itself again");
    }

    [Fact]
    public void A_server_that_comes_back_with_less_ability_is_used_as_it_is()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
        server.Stop();
        server.HasStructuredReplies = false;
        server.Flags = 1 | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_WRITE_ZEROES;
        server.Start();
        server.Requests.Clear();
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096, durable: true));
        Assert.Equal([NbdCommand.NBD_CMD_WRITE, NbdCommand.NBD_CMD_FLUSH], server.Requests.Select(request => request.Command));
        Assert.All(server.Requests, request => Assert.Equal(0, request.Flags));
        Assert.Equal(DiskOutcome.Unsupported, bench.Ranges(DiskOperation.Discard, false, new DiskRange(0, 4096, false)));
        Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.WriteZeroes, false, new DiskRange(0, 4096, false)));
    }

    [Fact]
    public void A_request_that_every_connection_dies_of_fails_in_the_end_and_others_do_not()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (_, request) => request.OffsetBytes == 512 * 1024 ? ScriptedAnswer.Close : ScriptedAnswer.Serve,
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { ServerKeepsWrites = true });
        using var bench = new DiskBench(disk, IoEngineKind.IoUring);
        DiskOutcome? outcome = null;
        bench.Start(9, DiskOperation.Read, 512 * 1024, 0, 1, 4096);
        while (outcome == null)
        {
            bench.Start(1, DiskOperation.Read, 0, 8192, 1, 4096);
            for (bool isWaiting = true; isWaiting;)
            {
                foreach ((int slot, DiskOutcome ended) in bench.Finish(1))
                {
                    if (slot == 9)
                    {
                        outcome = ended;
                    }
                    else
                    {
                        Assert.Equal(DiskOutcome.Done, ended);
                        isWaiting = false;
                    }
                }
            }
        }

        Assert.Equal(DiskOutcome.Failed, outcome);
    }
}
