using System.Diagnostics;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Nbd;
using Xunit;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>Queues that are to stop while requests wait for a server.</summary>
public sealed class NbdDrainTests
{
    private static readonly TimeSpan s_short = TimeSpan.FromMilliseconds(100);

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_queue_that_drains_does_not_wait_for_a_server_that_hangs(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer { Script = (_, _) => ScriptedAnswer.Nothing }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = TimeSpan.FromHours(1), Reconnect = TimeSpan.FromHours(1), DrainPatience = s_short });
        using var bench = new DiskBench(disk, engine);
        Assert.False(bench.EndHeld());
        for (int slot = 0; slot < 4; slot++)
        {
            // One of them is more than the socket takes.
            bench.Start(slot, slot == 3 ? DiskOperation.Write : DiskOperation.Read, 0, 0, 1, slot == 3 ? ScriptedNbdServer.SizeBytes : 4096);
        }

        Assert.All(bench.Drain(4), one => Assert.Equal(DiskOutcome.Failed, one.Value));
        Assert.False(bench.EndHeld());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_queue_that_drains_does_not_wait_for_a_server_that_is_gone_but_for_one_that_works(IoEngineKind engine)
    {
        using var go = new ManualResetEventSlim();
        using ScriptedNbdServer server = new ScriptedNbdServer { Script = (_, _) => Served(go) }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Reconnect = TimeSpan.FromHours(1) });
        using var bench = new DiskBench(disk, engine);
        bench.Start(0, DiskOperation.Read, 0, 0, 1, 4096);
        Assert.False(bench.EndHeld());
        bench.Reap();
        Assert.False(bench.EndHeld());
        go.Set();
        Assert.Equal(DiskOutcome.Done, Assert.Single(bench.Drain(1)).Value);
        server.Stop();
        bench.Start(0, DiskOperation.Read, 0, 0, 1, 4096);
        Assert.Equal(DiskOutcome.Failed, Assert.Single(bench.Drain(1)).Value);

        static ScriptedAnswer Served(ManualResetEventSlim go)
        {
            go.Wait();
            return ScriptedAnswer.Serve;
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_queue_that_drains_does_not_wait_longer_for_a_server_that_hangs_after_an_answer(IoEngineKind engine)
    {
        using var go = new ManualResetEventSlim();
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (_, request) =>
            {
                go.Wait();
                return request.OffsetBytes == 0 ? ScriptedAnswer.Serve : ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = TimeSpan.FromHours(1), Reconnect = TimeSpan.FromHours(1), DrainPatience = 3 * s_short });
        using var bench = new DiskBench(disk, engine);
        bench.Start(0, DiskOperation.Read, 0, 0, 1, 4096);
        bench.Start(1, DiskOperation.Read, 4096, 4096, 1, 4096);
        bench.Reap();
        // From here on its patience counts, and the answer comes after that.
        Assert.False(bench.EndHeld());
        go.Set();
        Assert.Equal(DiskOutcome.Failed, bench.Drain(2)[1]);
    }

    [Fact]
    public void A_queue_that_drains_waits_for_its_turn_as_long_as_the_server_works_for_others()
    {
        // Longer than a busy machine keeps this thread from going on.
        var patience = TimeSpan.FromSeconds(1);
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            // One request of the first queue takes for ever, so that it keeps the only connection.
            Script = (_, request) => request.Command == NbdCommand.NBD_CMD_TRIM ? ScriptedAnswer.Nothing : ScriptedAnswer.Serve,
        }.Start();
        server.Flags = (ushort)(server.Flags & ~NBD_FLAG_CAN_MULTI_CONN);
        using NbdDisk disk = NbdDisk.Open(server.Options with { DrainPatience = patience });
        using var one = new DiskBench(disk, IoEngineKind.Threads);
        using var other = new DiskBench(disk, IoEngineKind.Threads);
        one.StartRanges(0, DiskOperation.Discard, durable: false, new DiskRange(0, 512, false));
        one.ReapUntil(() => !server.Requests.IsEmpty);
        other.Start(0, DiskOperation.Read, 0, 0, 1, 512);
        Assert.False(other.EndHeld());
        long begun = Stopwatch.GetTimestamp();
        for (int slot = 1; Stopwatch.GetElapsedTime(begun) < 1.2 * patience; slot++)
        {
            // A turn has more commands than this.
            one.ReapUntil(() => Stopwatch.GetElapsedTime(begun) > slot * patience / 20);
            one.Start(slot, DiskOperation.Read, 0, 0, 1, 512);
            Assert.Single(one.Finish(1));
            Assert.False(other.EndHeld());
        }

        Assert.Equal(0, other.Ended);
        // From here on nobody is answered.
        Assert.Equal(DiskOutcome.Failed, Assert.Single(other.Drain(1)).Value);
    }
}
