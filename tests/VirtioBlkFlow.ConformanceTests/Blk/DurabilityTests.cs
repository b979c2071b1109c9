using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Blk;

/// <summary>When writes are durable, seen by what the kernel is asked for.</summary>
public class DurabilityTests
{
    private const BlkFeatures Flush = BlkFeatures.VIRTIO_BLK_F_FLUSH;
    private const BlkFeatures Wce = BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE;

    [Theory, Conformance("BLK-31")]
    [InlineData(CacheMode.Writeback)]
    [InlineData(CacheMode.Writethrough)]
    public void A_driver_that_cannot_flush_has_durable_writes(CacheMode cache)
    {
        using ServedDevice device = Device(cache);
        using FrontendSession session = device.Open(Without(Flush | Wce));
        AssertWriteIsDurable(device, new RequestPlace(session), durable: true);
    }

    [Fact, Conformance("BLK-32", "BLK-73", "VU-70")]
    public void A_driver_that_chooses_writethrough_has_durable_writes()
    {
        using ServedDevice device = Device(CacheMode.Writeback);
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        foreach (byte writeback in new byte[] { 0, 1, 0 })
        {
            Assert.Equal(0ul, session.Frontend.SetConfig(BlkConfig.WritebackOffset, [writeback], needReply: true));
            Assert.Equal([writeback], session.Frontend.GetConfig(BlkConfig.WritebackOffset, 1)!);
            AssertWriteIsDurable(device, request, durable: writeback == 0);
        }
    }

    [Fact, Conformance("BLK-03")]
    public void A_driver_that_can_toggle_but_not_flush_starts_with_writethrough()
    {
        using ServedDevice device = Device(CacheMode.Writeback);
        using FrontendSession session = device.Open(Without(Flush));
        Assert.Equal(0, session.Frontend.GetBlkConfig().Writeback);
        AssertWriteIsDurable(device, new RequestPlace(session), durable: true);
    }

    [Fact, Conformance("BLK-36")]
    public void Where_flushes_are_not_offered_writes_are_durable_all_the_same()
    {
        FeatureChoices choices = new(0, (ulong)Flush);
        using ServedDevice device = new(new ServedOptions { Device = new BlkDeviceOptions { Cache = CacheMode.Writeback, Features = choices } });
        using FrontendSession session = device.Open();
        Assert.Equal(BlkFeatures.None, (BlkFeatures)session.Negotiation.OfferedFeatures & (Flush | Wce));
        AssertWriteIsDurable(device, new RequestPlace(session), durable: true);
    }

    [Theory, Conformance("BLK-33", "BLK-34")]
    [InlineData(0)]
    [InlineData(1)]
    public void A_flush_makes_the_writes_of_every_queue_durable_before_it_completes(int flushedBy)
    {
        using ServedDevice device = Device(CacheMode.Writeback);
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 2 });
        RequestPlace write = new(session, queue: 0);
        RequestPlace flush = new(session, queue: flushedBy);
        AssertWriteIsDurable(device, write, durable: false);
        int before = device.Disk.Steps.Count;
        Assert.Equal(new Answer(0, 1), flush.Flush());
        Assert.Equal(
            [new IoStep(IoKind.Fdatasync, 0, true, HasEnded: false), new IoStep(IoKind.Fdatasync, 0, false, HasEnded: true)],
            device.Disk.Steps.Skip(before));
    }

    [Fact, Conformance("BLK-35")]
    public async Task Toggling_under_load_fails_nothing()
    {
        using ServedDevice device = Device(CacheMode.Writeback);
        ShadowDisk shadow = new(4);
        using FrontendSession session = device.Open();
        VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 35);
        bool enough = false;
        Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
        try
        {
            for (int round = 0; round < 50; round++)
            {
                traffic.WaitForProgress();
                Assert.Equal(0ul, session.Frontend.SetConfig(BlkConfig.WritebackOffset, [(byte)(round % 2)], needReply: true));
            }
        }
        finally
        {
            Volatile.Write(ref enough, true);
            await loading;
        }

        shadow.AssertEqualTo(device.Image);
    }

    private static ServedDevice Device(CacheMode cache) => new(new ServedOptions { Device = new BlkDeviceOptions { Cache = cache, QueueCount = 2 } });

    private static FrontendOptions Without(BlkFeatures features) =>
        new() { Negotiation = new NegotiationOptions { BlkFeatures = new NegotiationOptions().BlkFeatures & ~features } };

    // Durable is a write as with RWF_DSYNC, or one followed by an fdatasync, that has ended when the request comes back.
    private static void AssertWriteIsDurable(ServedDevice device, RequestPlace request, bool durable)
    {
        int before = device.Disk.Steps.Count;
        Assert.Equal(new Answer(0, 1), request.Write(16, 4096));
        IoStep[] steps = [.. device.Disk.Steps.Skip(before)];
        int write = Array.FindIndex(steps, step => step is { Kind: IoKind.Write, HasEnded: false });
        Assert.True(write >= 0, "Nothing was written.");
        Assert.Contains(steps[write..], step => step is { Kind: IoKind.Write, HasEnded: true });
        bool synchronised = Array.FindLastIndex(steps, step => step is { Kind: IoKind.Fdatasync, HasEnded: true }) > write;
        Assert.Equal(durable, steps[write].Durable || synchronised);
    }
}
