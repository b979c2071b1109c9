using System.Globalization;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using Xunit.Abstractions;
using static VirtioBlkFlow.Disks.DiskOperation;

namespace VirtioBlkFlow.UnitTests.Disks.Zoned;

/// <summary>Random requests to a zoned disk and to <see cref="ZoneModel"/>: both answer the same, and hold the same.</summary>
public sealed class ZoneModelTests(ITestOutputHelper output)
{
    private const int Zones = 8;
    private const int ZoneBytes = 32 << 10;
    private const int Capacity = 24 << 10;
    private const int Conventional = 1;

    [Theory]
    [InlineData(0, 0, IoEngineKind.Threads)]
    [InlineData(2, 0, IoEngineKind.IoUring)]
    [InlineData(2, 4, IoEngineKind.Threads)]
    [InlineData(3, 3, IoEngineKind.IoUring)]
    public void Answers_and_holds_what_the_model_does(int maxOpen, int maxActive, IoEngineKind engine)
    {
        Random random = Seeded();
        var model = new ZoneModel(Zones, ZoneBytes, Capacity, Conventional, maxOpen, maxActive);
        var geometry = new ZoneGeometry
        {
            ZoneBytes = ZoneBytes,
            ZoneCapacityBytes = Capacity,
            ConventionalZones = Conventional,
            MaxOpen = maxOpen,
            MaxActive = maxActive,
        };
        using var disk = new ZonedBench(geometry, Zones * ZoneBytes, engine);
        for (int step = 0; step < 3000; step++)
        {
            Step(disk, model, random, step);
            if (step % 100 == 99)
            {
                Compare(disk, model);
            }

            if (step % 250 == 249)
            {
                disk.Reopen();
                model.Reopen();
                Compare(disk, model);
            }
        }
    }

    [Fact]
    public void A_record_that_was_torn_leaves_the_one_before_it()
    {
        Random random = Seeded();
        using var disk = new ZonedBench(new ZoneGeometry { ZoneBytes = ZoneBytes, ConventionalZones = Conventional }, Zones * ZoneBytes);
        for (int round = 0; round < 100; round++)
        {
            int zone = random.Next(Conventional, Zones);
            byte value = (byte)(round + 1);
            Assert.Equal(DiskOutcome.Done, disk.Do(ZoneReset, zone));
            Assert.Equal(DiskOutcome.Done, disk.Write((ulong)(zone * ZoneBytes), 1024, value));
            // Durable from here on; what follows is not, and is torn on its way to storage.
            Assert.Equal(DiskOutcome.Done, disk.Bench.Flush());
            byte[][] before = [disk.ReadRecord(0, zone), disk.ReadRecord(1, zone)];
            int updates = random.Next(1, 4);
            for (int i = 0; i < updates; i++)
            {
                Assert.Equal(DiskOutcome.Done, disk.Write((ulong)((zone * ZoneBytes) + ((i + 1) * 1024)), 1024, value));
            }

            int torn = disk.ReadRecord(0, zone).AsSpan().SequenceEqual(before[0]) ? 1 : 0;
            byte[] other = disk.ReadRecord(1 - torn, zone);
            Assert.Equal(before[1 - torn], other);
            disk.Reopen(() =>
            {
                byte[] record = disk.ReadRecord(torn, zone);
                // Some of the old record, some of the new one.
                int cut = random.Next(1, 8);
                before[torn].AsSpan(0, cut).CopyTo(record);
                record[random.Next(8, 32)] ^= (byte)random.Next(1, 256);
                disk.WriteRecord(torn, zone, record);
            });
            BlkZoneDescriptor now = disk.Report()[zone];
            Assert.Equal((BlkZoneState.VIRTIO_BLK_ZS_CLOSED, 2UL), (now.State, now.WritePointerSector - now.StartSector));
            Assert.Equal(DiskOutcome.Done, disk.Read((ulong)(zone * ZoneBytes), 4096, out byte[] data));
            Assert.Equal(-1, data.AsSpan(0, 1024).IndexOfAnyExcept(value));
            Assert.Equal(-1, data.AsSpan(1024).IndexOfAnyExcept((byte)0));
            Assert.Equal(0, disk.Disk.DamagedZones);
        }
    }

    private Random Seeded()
    {
        int seed = Environment.GetEnvironmentVariable("VIRTIOBLKFLOW_SEED") is { Length: > 0 } text
            ? int.Parse(text, CultureInfo.InvariantCulture)
            : Random.Shared.Next();
        output.WriteLine($"VIRTIOBLKFLOW_SEED={seed}");
        return new Random(seed);
    }

    private static void Step(ZonedBench disk, ZoneModel model, Random random, int step)
    {
        int zone = random.Next(Zones);
        byte value = (byte)random.Next(1, 256);
        int length = 512 * random.Next(1, 17);
        switch (random.Next(20))
        {
            case < 9:
                // Mostly where it belongs.
                int start = random.Next(6) == 0 ? 512 * random.Next((ZoneBytes / 512) - 17) : Math.Min(model.Pointers[zone], ZoneBytes - length);
                Same(disk.Write((ulong)((zone * ZoneBytes) + start), length, value, durable: random.Next(4) == 0), model.Write(zone, start, length, value, append: false));
                break;
            case < 13:
                Same(disk.Append(zone, length, value), model.Write(zone, 0, length, value, append: true));
                break;
            case 13:
                Same(disk.Bench.Flush(), DiskOutcome.Done);
                break;
            case 14 when random.Next(20) == 0:
                Same(disk.Do(ZoneResetAll, zone), model.Change(ZoneResetAll, zone));
                break;
            default:
                DiskOperation operation = random.Next(4) switch { 0 => ZoneOpen, 1 => ZoneClose, 2 => ZoneFinish, _ => ZoneReset };
                Same(disk.Do(operation, zone, durable: random.Next(4) == 0), model.Change(operation, zone));
                break;
        }

        void Same(DiskOutcome actual, DiskOutcome expected) => Assert.Equal((step, expected), (step, actual));
    }

    private static void Compare(ZonedBench disk, ZoneModel model)
    {
        BlkZoneDescriptor[] zones = disk.Report();
        Assert.Equal(model.States, zones.Select(zone => zone.State));
        for (int i = 0; i < Zones; i++)
        {
            Assert.Equal((ulong)model.Pointers[i], (zones[i].WritePointerSector - zones[i].StartSector) * 512);
            Assert.Equal(DiskOutcome.Done, disk.Read((ulong)(i * ZoneBytes), ZoneBytes, out byte[] data));
            Assert.True(data.AsSpan().SequenceEqual(model.Data.AsSpan(i * ZoneBytes, ZoneBytes)), $"Zone {i} holds something else.");
        }
    }
}
