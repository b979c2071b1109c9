using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>
/// What every disk does, whatever it is made of. Each derived class opens one kind of disk and says what it has that others have not.
/// </summary>
/// <remarks>
/// The device checks offsets and lengths against the capacity, so a request beyond it is not part of the contract, with one exception: after
/// <see cref="IDisk.Refresh"/> has made the disk smaller, requests that were checked before may still come.
/// </remarks>
public abstract partial class DiskContract(ITestOutputHelper output)
{
    /// <summary>Size of the disk to open.</summary>
    protected const int SizeBytes = 4 << 20;

    private const int Half = DiskBench.MemoryBytes / 2;

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    /// <summary>Whether what is written is read again.</summary>
    protected virtual bool KeepsData => true;

    /// <summary>The part of the disk, from its start, that can be written anywhere.</summary>
    protected virtual int AreaBytes => SizeBytes;

    /// <summary>A new disk that reads as zeros.</summary>
    protected abstract IDisk OpenDisk();

    /// <summary>Gives what is below an open disk another size, without telling the disk; false if it has but one size.</summary>
    protected virtual bool TryResize(long sizeBytes) => false;

    [Theory]
    [MemberData(nameof(Engines))]
    public void What_was_written_is_read_again_however_the_memory_is_split(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        int block = (int)disk.Properties.LogicalBlockBytes;
        var random = new Random(TestSeed.Take(output));
        for (int round = 0; round < 60; round++)
        {
            int length = block * random.Next(1, (512 << 10) / block);
            ulong offset = (ulong)(block * random.Next(0, ((AreaBytes - length) / block) + 1));
            int shift = random.Next(1, 5000);
            random.NextBytes(bench.Memory.Slice(shift, length));
            byte[] written = bench.Memory.Slice(shift, length).ToArray();
            bench.StartSplit(0, DiskOperation.Write, offset, shift, Split(random, length), durable: random.Next(4) == 0);
            Assert.Equal(DiskOutcome.Done, Assert.Single(bench.Finish(1)).Value);
            Assert.True(bench.Memory.Slice(shift, length).SequenceEqual(written), "A write leaves the memory as it was.");
            bench.Memory[Half..].Fill(0xee);
            bench.StartSplit(0, DiskOperation.Read, offset, Half + shift, Split(random, length));
            Assert.Equal(DiskOutcome.Done, Assert.Single(bench.Finish(1)).Value);
            Assert.True(!KeepsData || bench.Memory.Slice(Half + shift, length).SequenceEqual(written), $"Round {round}: {length} bytes at {offset} are read as written.");
            Assert.Equal(-1, bench.Memory[Half..(Half + shift)].IndexOfAnyExcept((byte)0xee));
            Assert.Equal(-1, bench.Memory[(Half + shift + length)..].IndexOfAnyExcept((byte)0xee));
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void The_first_the_last_and_all_blocks_are_there(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        int block = (int)disk.Properties.LogicalBlockBytes;
        Assert.Equal((ulong)SizeBytes, disk.Properties.CapacityBytes);
        bench.Memory.Fill(0x11);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, AreaBytes));
        bench.Memory.Fill(0x22);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, block));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, (ulong)(AreaBytes - block), 0, 1, block));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 0, 0));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, (ulong)AreaBytes, 0, 0, 0));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, AreaBytes));
        if (KeepsData)
        {
            Assert.Equal(-1, bench.Memory[..block].IndexOfAnyExcept((byte)0x22));
            Assert.Equal(-1, bench.Memory[block..(AreaBytes - block)].IndexOfAnyExcept((byte)0x11));
            Assert.Equal(-1, bench.Memory[(AreaBytes - block)..AreaBytes].IndexOfAnyExcept((byte)0x22));
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void What_one_queue_has_written_another_one_reads(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var one = new DiskBench(disk, engine);
        using var other = new DiskBench(disk, engine);
        for (int i = 1; i <= 50; i++)
        {
            (DiskBench writer, DiskBench reader) = i % 2 == 0 ? (one, other) : (other, one);
            writer.Memory[..8192].Fill((byte)i);
            Assert.Equal(DiskOutcome.Done, writer.Transfer(DiskOperation.Write, 4096, 0, 2, 4096, durable: i % 3 == 0));
            reader.Memory[..8192].Clear();
            Assert.Equal(DiskOutcome.Done, reader.Transfer(DiskOperation.Read, 4096, 0, 1, 8192));
            Assert.True(!KeepsData || reader.Memory[..8192].IndexOfAnyExcept((byte)i) == -1, $"Write {i} is seen by the other queue.");
        }

        Assert.Equal(DiskOutcome.Done, one.Flush());
        Assert.Equal(DiskOutcome.Done, disk.Flush());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Requests_that_overlap_leave_of_each_byte_what_one_of_them_wrote(IoEngineKind engine)
    {
        const int Writers = 8;
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        for (int i = 0; i < Writers; i++)
        {
            bench.Memory.Slice(i * 65536, 65536).Fill((byte)(0x10 + i));
            bench.Start(i, DiskOperation.Write, (ulong)(i * 4096), i * 65536, 16, 4096);
            bench.Start(Writers + i, DiskOperation.Read, 0, Half + (i * 65536), 1, 65536);
        }

        Assert.All(bench.Finish(2 * Writers), one => Assert.Equal(DiskOutcome.Done, one.Value));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, Half, 1, 65536 + ((Writers - 1) * 4096)));
        for (int i = 0; KeepsData && i < 65536 + ((Writers - 1) * 4096); i++)
        {
            byte found = bench.Memory[Half + i];
            // Writer w has touched blocks w to w + 15.
            int writer = found - 0x10;
            Assert.True(writer is >= 0 and < Writers && writer <= i / 4096 && i / 4096 < writer + 16, $"Byte {i} is {found:x}.");
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Flushes_end_also_between_writes_and_with_nothing_to_do(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        for (int i = 0; i < 100; i++)
        {
            if (i % 3 == 2)
            {
                bench.StartFlush(i);
            }
            else
            {
                bench.Start(i, DiskOperation.Write, (ulong)i * 4096, 0, 1, 4096, durable: i % 3 == 1);
            }
        }

        Assert.All(bench.Finish(100), one => Assert.Equal(DiskOutcome.Done, one.Value));
        Assert.Equal(DiskOutcome.Done, disk.Flush());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Discarded_and_zeroed_ranges_read_as_zeros_and_all_else_stays(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        int block = (int)disk.Properties.LogicalBlockBytes;
        var random = new Random(TestSeed.Take(output));
        foreach ((DiskOperation operation, bool able) in new[]
            { (DiskOperation.Discard, disk.Properties.CanDiscard), (DiskOperation.WriteZeroes, disk.Properties.CanWriteZeroes) })
        {
            byte[] model = new byte[AreaBytes];
            for (int round = 0; round < 12; round++)
            {
                model.AsSpan().Fill(0x5a);
                bench.Memory.Fill(0x5a);
                Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, AreaBytes));
                var ranges = new DiskRange[random.Next(1, 17)];
                foreach (ref DiskRange range in ranges.AsSpan())
                {
                    // Now and then a range of nothing, or one that ends where the area does.
                    int first = random.Next(0, AreaBytes / block);
                    int count = random.Next(5) == 0 ? (AreaBytes / block) - first : random.Next(0, Math.Min(40, (AreaBytes / block) - first + 1));
                    range = new DiskRange((ulong)(first * block), (ulong)(count * block), MayDeallocate: operation == DiskOperation.WriteZeroes && random.Next(2) == 0);
                    model.AsSpan(first * block, count * block).Clear();
                }

                DiskOutcome outcome = bench.Ranges(operation, durable: random.Next(2) == 0, ranges);
                Assert.Equal(able ? DiskOutcome.Done : DiskOutcome.Unsupported, outcome);
                bench.Memory.Fill(0xee);
                Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, AreaBytes));
                if (KeepsData && able)
                {
                    Assert.True(bench.Memory[..AreaBytes].SequenceEqual(model), $"Round {round}: {operation} of {string.Join(", ", ranges)}");
                }
                else if (KeepsData)
                {
                    Assert.Equal(-1, bench.Memory[..AreaBytes].IndexOfAnyExcept((byte)0x5a));
                }
            }
        }
    }

    [Fact]
    public void What_a_disk_does_not_do_it_says_and_does_not_do()
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        bench.Memory.Fill(0x5a);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, AreaBytes));
        if (!disk.Properties.CanSecureErase)
        {
            Assert.Equal(DiskOutcome.Unsupported, bench.Ranges(DiskOperation.SecureErase, false, new DiskRange(0, 1 << 20, false)));
        }

        if (disk.Properties.Zones == null)
        {
            foreach (DiskOperation operation in new[]
            {
                DiskOperation.ZoneOpen, DiskOperation.ZoneClose, DiskOperation.ZoneFinish, DiskOperation.ZoneReset, DiskOperation.ZoneResetAll,
                DiskOperation.ZoneReport, DiskOperation.Append,
            })
            {
                Assert.Equal(DiskOutcome.Unsupported, bench.Do(operation, 0));
            }
        }

        bench.Memory.Clear();
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 0, 0, 1, AreaBytes));
        Assert.True(!KeepsData || bench.Memory[..AreaBytes].IndexOfAnyExcept((byte)0x5a) == -1);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_disk_of_another_size_is_used_to_its_new_end_and_not_beyond(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        Assert.Equal(new DiskResize(SizeBytes, SizeBytes, 0), disk.Refresh());
        if (!TryResize(SizeBytes + (1 << 20)))
        {
            return;
        }

        // Nothing changes before it is asked for.
        Assert.Equal((ulong)SizeBytes, disk.Properties.CapacityBytes);
        Assert.Equal(new DiskResize(SizeBytes, SizeBytes + (1 << 20), 0), disk.Refresh());
        Assert.Equal((ulong)SizeBytes + (1 << 20), disk.Properties.CapacityBytes);
        bench.Memory[..4096].Fill(0x77);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, SizeBytes + (1 << 20) - 4096, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, SizeBytes + (1 << 20) - 4096, 8192, 1, 4096));
        Assert.Equal(-1, bench.Memory.Slice(8192, 4096).IndexOfAnyExcept((byte)0x77));

        Assert.True(TryResize(SizeBytes / 2));
        Assert.Equal(new DiskResize(SizeBytes + (1 << 20), SizeBytes / 2, 0), disk.Refresh());
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, SizeBytes - 4096, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, SizeBytes / 2, 0, 1, 4096));
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Read, (SizeBytes / 2) - 4096, 0, 1, 8192));
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, (SizeBytes / 2) - 4096, 0, 1, 4096));
    }

    private static int[] Split(Random random, int lengthBytes)
    {
        var pieces = new List<int>();
        while (lengthBytes > 0)
        {
            int most = random.Next(3) switch { 0 => 16, 1 => 5000, _ => 200_000 };
            // Most requests have few pieces; one operation takes at most 1024 of them, and some have more.
            int piece = pieces.Count > 1500 ? lengthBytes : Math.Min(lengthBytes, random.Next(1, most));
            pieces.Add(piece);
            lengthBytes -= piece;
        }

        return [.. pieces];
    }
}
