using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio;
using Xunit;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>What a server is asked, over how many connections, and what that costs.</summary>
public sealed unsafe class NbdCommandTests
{
    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Fact]
    public void Durable_is_FUA_and_what_must_stay_allocated_is_NO_HOLE()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Transfer(DiskOperation.Write, 0, 0, 1, 512);
        bench.Transfer(DiskOperation.Write, 0, 0, 1, 512, durable: true);
        bench.Ranges(DiskOperation.Discard, durable: false, new DiskRange(512, 1024, false), new DiskRange(0, 0, false), new DiskRange(8192, 512, false));
        bench.Ranges(DiskOperation.Discard, durable: true, new DiskRange(512, 1024, false));
        bench.Ranges(DiskOperation.WriteZeroes, durable: true, new DiskRange(512, 1024, MayDeallocate: true));
        bench.Ranges(DiskOperation.WriteZeroes, durable: false, new DiskRange(512, 1024, MayDeallocate: false));
        bench.Flush();
        Assert.Equal(
            [
                (NbdCommand.NBD_CMD_WRITE, 0, 0ul, 512u),
                (NbdCommand.NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512),
                (NbdCommand.NBD_CMD_TRIM, 0, 512, 1024),
                (NbdCommand.NBD_CMD_TRIM, 0, 8192, 512),
                (NbdCommand.NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 512, 1024),
                (NbdCommand.NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA, 512, 1024),
                (NbdCommand.NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 512, 1024),
                (NbdCommand.NBD_CMD_FLUSH, 0, 0, 0),
            ],
            server.Requests.Select(request => (request.Command, (int)request.Flags, request.OffsetBytes, request.LengthBytes)));
    }

    [Fact]
    public void Without_FUA_a_flush_follows_what_is_to_be_durable_and_without_a_flush_nothing_does()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        server.Flags = (ushort)(server.Flags & ~NBD_FLAG_SEND_FUA);
        using (NbdDisk disk = NbdDisk.Open(server.Options))
        {
            using var bench = new DiskBench(disk, IoEngineKind.Threads);
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 512, durable: true));
            Assert.Equal(DiskOutcome.Done, bench.Ranges(DiskOperation.Discard, durable: true, new DiskRange(0, 512, false), new DiskRange(1024, 512, false)));
            Assert.Equal(
                [NbdCommand.NBD_CMD_WRITE, NbdCommand.NBD_CMD_FLUSH, NbdCommand.NBD_CMD_TRIM, NbdCommand.NBD_CMD_TRIM, NbdCommand.NBD_CMD_FLUSH],
                server.Requests.Select(request => request.Command));
        }

        server.Requests.Clear();
        server.Flags = (ushort)(server.Flags & ~NBD_FLAG_SEND_FLUSH);
        using NbdDisk without = NbdDisk.Open(server.Options);
        using var other = new DiskBench(without, IoEngineKind.Threads);
        Assert.Equal(DiskOutcome.Done, other.Transfer(DiskOperation.Write, 0, 0, 1, 512, durable: true));
        Assert.Equal(DiskOutcome.Done, other.Flush());
        Assert.Equal(DiskOutcome.Done, without.Flush());
        Assert.Equal([NbdCommand.NBD_CMD_WRITE], server.Requests.Select(request => request.Command));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void No_transfer_is_larger_than_the_server_takes(IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer { BlockSizes = (1, 4096, 10_000) }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, engine);
        new Random(3).NextBytes(bench.Memory);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 512, 0, 20, 2560));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 512, 1 << 20, 5, 10240));
        Assert.True(bench.Memory.Slice(1 << 20, 51200).SequenceEqual(bench.Memory[..51200]));
        // 19 blocks of 512 bytes.
        Assert.All(server.Requests, request => Assert.InRange(request.LengthBytes, 1u, 9728u));
    }

    [Theory]
    [InlineData(true, 16, 3)]
    [InlineData(true, 2, 2)]
    [InlineData(true, 1, 1)]
    [InlineData(false, 16, 1)]
    public void Queues_have_connections_of_their_own_where_the_server_allows_and_take_turns_where_not(bool allows, int connections, int most)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer().Start();
        server.Flags = allows ? server.Flags : (ushort)(server.Flags & ~NBD_FLAG_CAN_MULTI_CONN);
        using NbdDisk disk = NbdDisk.Open(server.Options with { Connections = connections });
        Task[] queues = [.. Enumerable.Range(0, 3).Select(i => Task.Factory.StartNew(() => Work(disk, i), TaskCreationOptions.LongRunning))];
        Eventually.Ends(Task.WhenAll(queues), "all queues have done their work");
        Assert.InRange(server.MostAtOnce, 1, most);
        Assert.InRange(server.Connections, 1, most);

        static void Work(NbdDisk disk, int number)
        {
            using var bench = new DiskBench(disk, number % 2 == 0 ? IoEngineKind.IoUring : IoEngineKind.Threads);
            for (int round = 0; round < 20; round++)
            {
                for (int slot = 0; slot < 100; slot++)
                {
                    bench.Start(slot, slot % 2 == 0 ? DiskOperation.Read : DiskOperation.Write, (ulong)slot * 4096, slot * 4096, 1, 4096);
                }

                Assert.All(bench.Finish(100), one => Assert.Equal(DiskOutcome.Done, one.Value));
                Assert.Equal(DiskOutcome.Done, bench.Flush());
            }
        }
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring, true)]
    [InlineData(IoEngineKind.IoUring, false)]
    [InlineData(IoEngineKind.Threads, true)]
    [InlineData(IoEngineKind.Threads, false)]
    public void A_request_costs_no_allocation(IoEngineKind kind, bool isStructured)
    {
        const int Slots = 16;
        using var folder = new NbdTestFolder();
        using NbdServerProcess server = NbdServerProcess.StartNbdkit(folder.Address, [.. isStructured ? Array.Empty<string>() : ["--no-sr"], "memory", "1M"]);
        using NbdDisk disk = NbdDisk.Open(new NbdDiskOptions { Address = folder.Address });
        using IIoEngine engine = IoEngines.Create(kind, 64);
        var completions = new Counted();
        IDiskQueue queue = disk.OpenQueue(engine, completions, Slots);
        byte* memory = (byte*)NativeMemory.AllocZeroed(Slots * 1024);
        var pieces = (Iovec*)NativeMemory.AllocZeroed(2 * Slots, (nuint)sizeof(Iovec));
        var ranges = (DiskRange*)NativeMemory.AllocZeroed(Slots, (nuint)sizeof(DiskRange));
        int submitted = 0;
        Assert.Equal(0, Allocations.LeastOf(() =>
        {
            Span<IoCompletion> ended = stackalloc IoCompletion[16];
            for (int round = 0; round < 20; round++)
            {
                for (int slot = 0; slot < Slots; slot++)
                {
                    pieces[2 * slot] = new Iovec(memory + (slot * 1024), 100);
                    pieces[(2 * slot) + 1] = new Iovec(memory + (slot * 1024) + 100, 924);
                    ranges[slot] = new DiskRange((ulong)(slot * 1024), 1024, MayDeallocate: true);
                    queue.Submit(slot, Request(slot, pieces + (2 * slot), ranges + slot));
                    submitted++;
                }

                while (completions.Count < submitted)
                {
                    engine.Wait(30_000_000_000);
                    engine.Reap(ended);
                }
            }
        }));
        Assert.Equal(0, completions.Failures);
        queue.Dispose();
        NativeMemory.Free(memory);
        NativeMemory.Free(pieces);
        NativeMemory.Free(ranges);
    }

    private static DiskRequest Request(int slot, Iovec* pieces, DiskRange* ranges) => (slot % 5) switch
    {
        0 => new DiskRequest { Operation = DiskOperation.Read, OffsetBytes = (ulong)(slot * 1024), LengthBytes = 1024, Pieces = pieces, PieceCount = 2 },
        1 => new DiskRequest { Operation = DiskOperation.Write, OffsetBytes = (ulong)(slot * 1024), LengthBytes = 1024, Pieces = pieces, PieceCount = 2 },
        2 => new DiskRequest { Operation = DiskOperation.Discard, Ranges = ranges, RangeCount = 1 },
        3 => new DiskRequest { Operation = DiskOperation.WriteZeroes, Ranges = ranges, RangeCount = 1, Durable = true },
        _ => new DiskRequest { Operation = DiskOperation.Flush },
    };

    private sealed class Counted : IDiskCompletions
    {
        public int Count { get; private set; }

        public int Failures { get; private set; }

        public void OnCompleted(int slot, DiskOutcome outcome)
        {
            Count++;
            Failures += outcome == DiskOutcome.Done ? 0 : 1;
        }
    }
}
