using System.Runtime.InteropServices;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Virtio;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// The same through a running device with two queues, in all the ways a driver has to make a write durable: writethrough, writeback and
/// FLUSH, and both in turn by the <c>writeback</c> field. A moment is not the same again with a seed here, what must hold is.
/// </summary>
public sealed class DevicePowerCutTests(ITestOutputHelper output) : IDisposable
{
    private const int SectorBytes = VolatileFile.SectorBytes;
    private const int Sectors = 256;
    private const int CanaryLives = 300;

    private static readonly int s_lives = CutCount.Take(30);

    private readonly TemporaryImage _image = new(Sectors * SectorBytes);
    private readonly PowerCutHost _host = new();
    private readonly Dictionary<RequestArea, Sent> _inFlight = [];
    private VolatileStorage _allowed = new(SectorBytes);
    private ulong _lastTag;

    public enum Mode
    {
        Writethrough,
        Writeback,
        Switched,
    }

    public void Dispose() => _image.Dispose();

    [Theory]
    [InlineData(Mode.Writethrough)]
    [InlineData(Mode.Writeback)]
    [InlineData(Mode.Switched)]
    public void What_a_device_has_acknowledged_is_there_after_any_cut(Mode mode)
    {
        string? loss = Live(mode, TestSeed.Take(output), s_lives, Sabotage.None);
        Assert.True(loss == null, loss);
    }

    [Theory]
    [InlineData(Mode.Writethrough, Sabotage.NoDurableFlag)]
    [InlineData(Mode.Writethrough, Sabotage.NoFlush)]
    [InlineData(Mode.Writeback, Sabotage.NoFlush)]
    [InlineData(Mode.Writeback, Sabotage.FlushAnsweredEarly)]
    [InlineData(Mode.Switched, Sabotage.NoFlush)]
    public void A_device_that_acknowledges_what_is_not_durable_is_found(Mode mode, Sabotage sabotage)
    {
        string? loss = Live(mode, seed: 7, CanaryLives, sabotage);
        Assert.NotNull(loss);
        output.WriteLine(loss);
    }

    private string? Live(Mode mode, int seed, int lives, Sabotage sabotage)
    {
        var random = new Random(seed);
        for (int life = 1; life <= lives; life++)
        {
            _allowed = new VolatileStorage(SectorBytes);
            for (int sector = 0; sector < Sectors; sector++)
            {
                _allowed.Load(sector, _image.Read(sector * SectorBytes, SectorBytes));
            }

            CacheMode cache = mode == Mode.Writethrough ? CacheMode.Writethrough : CacheMode.Writeback;
            var disk = new VolatileDisk(_image.Open(), _host, random.Next(), sabotage);
            using (DeviceRig rig = new(disk, new BlkDeviceOptions { Cache = cache }, queueCount: 2))
            {
                Assert.True(rig.Device.TrySetFeatures(rig.Device.OfferedFeatures));
                Use(rig, disk, mode, random);
            }

            for (int sector = 0; sector < Sectors; sector++)
            {
                byte[] found = _image.Read(sector * SectorBytes, SectorBytes);
                if (!_allowed.IsPossible(sector, found))
                {
                    string wanted = string.Join(", ", _allowed.Possible(sector).Select(static content => content.IsEmpty ? 0 : MemoryMarshal.Read<ulong>(content.Span)));
                    return $"After cut {life}: sector {sector} holds {MemoryMarshal.Read<ulong>(found)}; it may hold {wanted}.";
                }
            }
        }

        return null;
    }

    private void Use(DeviceRig rig, VolatileDisk disk, Mode mode, Random random)
    {
        bool writethrough = mode == Mode.Writethrough;
        foreach (DriverQueue queue in rig.Queues)
        {
            queue.Start();
        }

        for (int steps = random.Next(30, 120); steps > 0; steps--)
        {
            DriverQueue queue = rig.Queues[random.Next(2)];
            if (mode == Mode.Switched && random.Next(10) == 0)
            {
                Switch(rig, disk, !writethrough);
                writethrough = !writethrough;
            }
            else if (_inFlight.Count < 16 && random.Next(2) == 0)
            {
                for (int count = random.Next(1, 5); count > 0; count--)
                {
                    Send(queue, random, writethrough);
                }

                queue.Publish();
            }
            else if (_inFlight.Values.Any(sent => sent.Queue == queue))
            {
                Acknowledge(queue.Take());
            }
        }

        // From here on whatever ends has never been.
        _host.Cut(random);
        foreach (DriverQueue queue in rig.Queues)
        {
            queue.Stop();
        }

        _inFlight.Clear();
    }

    // To writethrough: the device has flushed when it answers, and what had completed before is durable, unless a sync has failed: that it
    // cannot say here, and says to every request that is to be durable from then on. To writeback: what is in flight may be of the new kind.
    private void Switch(DeviceRig rig, VolatileDisk disk, bool toWritethrough)
    {
        long begun = _allowed.BeginSync();
        Assert.Equal(ConfigWriteOutcome.Written, rig.Device.WriteConfig(BlkConfig.WritebackOffset, [toWritethrough ? (byte)0 : (byte)1], 0));
        if (!toWritethrough)
        {
            foreach (Sent sent in _inFlight.Values)
            {
                sent.IsWritethrough = false;
            }
        }
        else if (disk.FailedFlushes == 0)
        {
            _allowed.EndSync(begun);
        }
    }

    private void Send(DriverQueue queue, Random random, bool writethrough)
    {
        int first = random.Next(Sectors);
        int count = random.Next(1, Math.Min(16, Sectors - first) + 1);
        RequestArea area = queue.TakeArea();
        var sent = new Sent(queue) { IsWritethrough = writethrough };
        BlkRequestType type = random.Next(8) switch
        {
            0 => BlkRequestType.VIRTIO_BLK_T_FLUSH,
            1 => BlkRequestType.VIRTIO_BLK_T_DISCARD,
            2 => BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES,
            _ => BlkRequestType.VIRTIO_BLK_T_OUT,
        };
        uint dataBytes = 0;
        if (type == BlkRequestType.VIRTIO_BLK_T_FLUSH)
        {
            sent.FlushBegun = _allowed.BeginSync();
            first = 0;
        }
        else if (type == BlkRequestType.VIRTIO_BLK_T_OUT)
        {
            dataBytes = (uint)(count * SectorBytes);
            for (int i = 0; i < count; i++)
            {
                MemoryMarshal.Cast<byte, ulong>(area.Data((int)dataBytes).Slice(i * SectorBytes, SectorBytes)).Fill(++_lastTag);
            }

            sent.Write = _allowed.BeginWrite(first * SectorBytes, area.Data((int)dataBytes).ToArray());
        }
        else
        {
            dataBytes = BlkSegment.SizeBytes;
            uint flags = type == BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES && random.Next(2) == 0 ? BlkSegment.UnmapFlag : 0;
            area.WriteSegments(new BlkSegment { Sector = (ulong)first, SectorCount = (uint)count, Flags = flags });
            sent.Write = _allowed.BeginZeroes(first * SectorBytes, count * SectorBytes);
            first = 0;
        }

        queue.AddChain(area, area.Chain(type, (ulong)first, dataBytes));
        _inFlight.Add(area, sent);
    }

    private void Acknowledge(Answer answer)
    {
        Assert.True(_inFlight.Remove(answer.Area, out Sent? sent));
        bool done = answer.Status == (byte)BlkStatus.VIRTIO_BLK_S_OK;
        if (sent.Write is { } write)
        {
            // Of one that failed nobody knows how far it got.
            _allowed.End(write, done ? write.Versions.Length : 0, sent.IsWritethrough);
        }
        else if (done)
        {
            _allowed.EndSync(sent.FlushBegun);
        }
    }

    private sealed record Sent(DriverQueue Queue)
    {
        public bool IsWritethrough { get; set; }

        public VolatileStorage.PendingWrite? Write { get; set; }

        public long FlushBegun { get; set; }
    }
}
