using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Virtio;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>Zones after a cut: write pointers, data and states that were acknowledged as durable, image and zone file each cut by itself.</summary>
public sealed unsafe class ZonedPowerCutTests(ITestOutputHelper output) : IDisposable
{
    private const int ZoneBytes = 16 << 10;
    private const int Capacity = 12 << 10;
    private const int Zones = 8;
    private const int CanaryLives = 2000;

    private static readonly int s_lives = CutCount.Take(300);

    private static readonly ZoneGeometry s_geometry = new() { ZoneBytes = ZoneBytes, ZoneCapacityBytes = Capacity };

    private readonly TemporaryImage _image = new(Zones * ZoneBytes);
    private readonly PowerCutHost _host = new();
    private readonly byte* _memory = (byte*)NativeMemory.AlignedAlloc((Zones + 1) * ZoneBytes, 4096);
    private readonly Iovec* _pieces = (Iovec*)NativeMemory.Alloc(Zones + 1, (nuint)sizeof(Iovec));
    private ulong _lastTag;

    public void Dispose()
    {
        File.Delete(ZoneFile.PathFor(_image.Path));
        _image.Dispose();
        NativeMemory.AlignedFree(_memory);
        NativeMemory.Free(_pieces);
    }

    [Fact]
    public void Zones_keep_after_any_cut_what_was_acknowledged_as_durable()
    {
        string? loss = Live(new Random(TestSeed.Take(output)), s_lives, Sabotage.None);
        Assert.True(loss == null, loss);
    }

    [Theory]
    [InlineData(Sabotage.NoFlush)]
    [InlineData(Sabotage.NoDurableFlag)]
    [InlineData(Sabotage.OneFileFlushed)]
    [InlineData(Sabotage.FlushAnsweredEarly)]
    public void Zones_that_are_less_durable_than_said_are_found(Sabotage sabotage)
    {
        string? loss = Live(new Random(7), CanaryLives, sabotage);
        Assert.NotNull(loss);
        output.WriteLine(loss);
    }

    private string? Live(Random random, int lives, Sabotage sabotage)
    {
        ZonePromises[]? promises = null;
        for (int life = 0; life < lives; life++)
        {
            using ZonedDisk disk = ZonedDisk.Open(_image.Open(withLock: false), s_geometry);
            if (FindLoss(disk, promises) is { } loss)
            {
                return $"After cut {life}: {loss}";
            }

            promises = [.. Enumerable.Range(0, Zones).Select(zone => PromisesOf(disk, zone))];
            new Driver(this, disk, promises, random, sabotage).Run();
            _host.Cut(random);
        }

        return null;
    }

    private ZonePromises PromisesOf(ZonedDisk disk, int zone) =>
        new(Capacity, _image.Read(zone * ZoneBytes, (int)disk.Zones[zone].Written), disk.Zones[zone].State == BlkZoneState.VIRTIO_BLK_ZS_FULL);

    private string? FindLoss(ZonedDisk disk, ZonePromises[]? promises)
    {
        if (disk.DamagedZones > 0)
        {
            return $"{disk.DamagedZones} zones have no record";
        }

        for (int zone = 0; promises != null && zone < Zones; zone++)
        {
            ref readonly Zone found = ref disk.Zones[zone];
            if (promises[zone].FindLoss((int)found.Written, found.State == BlkZoneState.VIRTIO_BLK_ZS_FULL, _image.Read(zone * ZoneBytes, Capacity)) is { } loss)
            {
                return $"zone {zone}, {loss}";
            }
        }

        return null;
    }

    /// <summary>One life: a request in flight for each zone at most, in a slot of its number, and a flush in the last slot.</summary>
    private sealed class Driver : IDiskCompletions
    {
        private readonly ZonedPowerCutTests _test;
        private readonly ZonePromises[] _promises;
        private readonly Random _random;
        private readonly VolatileEngine _engine;
        private readonly IDiskQueue _queue;
        private readonly DiskRequest?[] _requests = new DiskRequest?[Zones + 1];
        private object[] _marks = [];

        public Driver(ZonedPowerCutTests test, ZonedDisk disk, ZonePromises[] promises, Random random, Sabotage sabotage)
        {
            _test = test;
            _promises = promises;
            _random = random;
            _engine = new VolatileEngine(test._host, new EngineAgenda(new ManualClock(), static () => { }), random, sabotage);
            _queue = disk.OpenQueue(_engine, this, Zones + 1);
        }

        public void Run()
        {
            for (int steps = _random.Next(20, 150); steps > 0; steps--)
            {
                int slot = _random.Next(Zones + 1);
                if (_requests[slot] == null && _random.Next(2) == 0)
                {
                    Submit(slot);
                }
                else if (_engine.TryEndOne(out uint token, out int result))
                {
                    _queue.OnIoCompleted((int)token, result);
                }
            }

            // What is in flight now never ends.
            _queue.Dispose();
        }

        void IDiskCompletions.OnAppended(int slot, ulong offsetBytes) =>
            Assert.Equal((ulong)((slot * ZoneBytes) + _promises[slot].Pointer), offsetBytes);

        void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
        {
            DiskRequest request = _requests[slot]!.Value;
            _requests[slot] = null;
            bool done = outcome == DiskOutcome.Done;
            switch (request.Operation)
            {
                case DiskOperation.Flush:
                    for (int i = 0; done && i < Zones; i++)
                    {
                        _promises[i].MakeDurable(_marks[i]);
                    }

                    break;
                case DiskOperation.Write or DiskOperation.Append:
                    _promises[slot].EndWrite((int)request.LengthBytes, done, request.Durable);
                    break;
                case DiskOperation.ZoneFinish:
                    _promises[slot].EndFinish(done, request.Durable);
                    break;
                default:
                    _promises[slot].EndReset(done, request.Durable);
                    break;
            }

            // What became of a zone when a request for it failed, the driver would ask; here it leaves the zone alone.
            if (!done && slot < Zones)
            {
                _requests[slot] = request;
            }
        }

        private void Submit(int slot)
        {
            var request = new DiskRequest { Operation = DiskOperation.Flush, OffsetBytes = (ulong)(slot * ZoneBytes), Durable = _random.Next(3) == 0 };
            if (slot == Zones)
            {
                _marks = [.. _promises.Select(static zone => zone.Mark())];
                request = new DiskRequest { Operation = DiskOperation.Flush };
            }
            else
            {
                ZonePromises zone = _promises[slot];
                int draw = _random.Next(10);
                if (draw == 0 || zone.IsFull)
                {
                    request.Operation = DiskOperation.ZoneReset;
                    zone.BeginReset();
                }
                else if (draw == 1)
                {
                    request.Operation = DiskOperation.ZoneFinish;
                    zone.BeginFinish();
                }
                else
                {
                    request.Operation = draw < 5 ? DiskOperation.Append : DiskOperation.Write;
                    BeginWrite(slot, zone, ref request);
                }
            }

            _requests[slot] = request;
            _queue.Submit(slot, in request);
        }

        private void BeginWrite(int slot, ZonePromises zone, ref DiskRequest request)
        {
            int length = Math.Min(512 * _random.Next(1, 9), Capacity - zone.Pointer);
            var data = new Span<byte>(_test._memory + (slot * ZoneBytes), length);
            for (int at = 0; at < length; at += 512)
            {
                MemoryMarshal.Cast<byte, ulong>(data.Slice(at, 512)).Fill(++_test._lastTag);
            }

            zone.BeginWrite(data.ToArray());
            Iovec* piece = _test._pieces + slot;
            *piece = new Iovec(_test._memory + (slot * ZoneBytes), (nuint)length);
            request.OffsetBytes += request.Operation == DiskOperation.Write ? (ulong)zone.Pointer : 0;
            request.LengthBytes = (uint)length;
            request.Pieces = piece;
            request.PieceCount = 1;
        }
    }
}
