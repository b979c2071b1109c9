using System.Buffers.Binary;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Core;

/// <summary>What is offered, what is accepted, and the configuration space before that.</summary>
public class FeatureTests
{
    // Bits this device may ever offer: block device 1 to 17, LOG_ALL, the rings', the protocol's own, VERSION_1. All others are reserved,
    // legacy (0, 7, 24, 27), another transport's (36 to 42) or nothing vhost-user can carry (33 ACCESS_PLATFORM, 43 SUSPEND).
    private static readonly int[] s_possible = [1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 26, 28, 29, 30, 32, 34, 35];

    [Theory, Conformance("CORE-04", "CORE-07", "CORE-16", "CORE-19", "CORE-20", "CORE-23", "BLK-01", "BLK-02", "BLK-05", "BLK-37")]
    [InlineData(false, CacheMode.Writethrough, 1)]
    [InlineData(false, CacheMode.Writethrough, 4)]
    [InlineData(false, CacheMode.Writeback, 1)]
    [InlineData(false, CacheMode.Writeback, 4)]
    [InlineData(true, CacheMode.Writethrough, 1)]
    [InlineData(true, CacheMode.Writeback, 4)]
    public void What_is_offered_belongs_here_and_is_complete(bool readOnly, CacheMode cache, int queueCount)
    {
        using ServedDevice device = new(new ServedOptions { ReadOnly = readOnly, Device = new BlkDeviceOptions { Cache = cache, QueueCount = queueCount } });
        using VhostUserFrontend frontend = device.Connect();
        ulong offered = frontend.GetFeatures();
        Assert.Equal(0ul, offered & ~s_possible.Aggregate(0ul, (all, bit) => all | (1ul << bit)));
        Assert.True(Has(32), "VERSION_1");
        Assert.True(Has(9), "FLUSH");
        Assert.False(Has(17), "ZONED of a file without zones");
        Assert.False(Has(15), "LIFETIME of a file");
        // What each needs: CONFIG_WCE needs FLUSH; what came after the legacy device needs VERSION_1.
        foreach ((int feature, int needed) in new[] { (11, 9), (33, 32), (34, 32), (35, 32), (40, 32) })
        {
            Assert.True(!Has(feature) || Has(needed), $"Bit {feature} without {needed}.");
        }

        Assert.Equal(readOnly, Has(5));

        bool Has(int bit) => (offered & (1ul << bit)) != 0;
    }

    [Fact, Conformance("CORE-05")]
    public void Every_subset_with_VERSION_1_works()
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using ServedDevice device = new();
        ulong offered;
        using (VhostUserFrontend frontend = device.Connect())
        {
            offered = frontend.GetFeatures() & ~(ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES | (ulong)VirtioFeatures.VIRTIO_F_VERSION_1);
        }

        IEnumerable<ulong> without = Enumerable.Range(0, 64).Where(bit => (offered & (1ul << bit)) != 0).Select(bit => offered & ~(1ul << bit));
        IEnumerable<ulong> subsets = Enumerable.Range(0, 24).Select(_ => offered & (ulong)random.NextInt64());
        foreach (ulong subset in without.Concat(subsets).Append(0ul))
        {
            try
            {
                NegotiationOptions wanted = new()
                {
                    Features = (VirtioFeatures)subset | VirtioFeatures.VIRTIO_F_VERSION_1,
                    BlkFeatures = (BlkFeatures)subset,
                };
                using FrontendSession session = device.Open(new FrontendOptions { Negotiation = wanted });
                session.VerifyRoundTripSmall(device.Image, (ulong)random.Next(4000));
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"Features 0x{subset:x}, seed {seed}: {exception.Message}", exception);
            }
        }
    }

    [Fact, Conformance("CORE-06")]
    public void Features_that_were_not_offered_do_not_stick()
    {
        using ServedDevice device = new();
        using VhostUserFrontend frontend = device.Connect();
        Negotiation negotiation = Negotiation.Run(frontend, new NegotiationOptions());
        foreach (int bit in new[] { 3, 24, 33, 36, 43, 63 })
        {
            ulong bad = negotiation.Features | (1ul << bit);
            Assert.NotEqual(0ul, frontend.SetFeatures(bad, needReply: true));
            Assert.Equal(0ul, frontend.SetFeatures(bad));
            frontend.SetStatus(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK);
            Assert.Equal(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER, frontend.GetStatus());
        }

        Assert.Equal(0ul, frontend.SetFeatures(negotiation.Features, needReply: true));
        frontend.SetStatus(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK);
        Assert.True(frontend.GetStatus().HasFlag(DeviceStatus.FEATURES_OK));
    }

    [Fact, Conformance("CORE-17")]
    public void A_driver_without_VERSION_1_is_refused_in_good_order()
    {
        using ServedDevice device = new();
        using (VhostUserFrontend frontend = device.Connect())
        {
            frontend.SetProtocolFeatures(frontend.GetProtocolFeatures());
            ulong legacy = frontend.GetFeatures() & ~(ulong)VirtioFeatures.VIRTIO_F_VERSION_1;
            Assert.NotEqual(0ul, frontend.SetFeatures(legacy, needReply: true));
            frontend.SetStatus(DeviceStatus.FEATURES_OK);
            Assert.False(frontend.GetStatus().HasFlag(DeviceStatus.FEATURES_OK));
        }

        using (VhostUserFrontend frontend = device.Connect())
        {
            // Without a way to say no, the end.
            frontend.SetFeatures(0);
            Assert.True(frontend.WaitForClose(Frontend.Deadline.In(Await.DeadlineMs)));
        }

        using FrontendSession next = device.Open();
        next.VerifyRoundTrip(device.Image, sector: 8);
    }

    [Fact, Conformance("CORE-11", "CORE-12", "VU-13")]
    public void The_configuration_is_there_before_features_are_and_little_endian()
    {
        const long Sectors = 0x01020304;
        using ServedDevice device = new(new ServedOptions { ImageBytes = Sectors * 512, Device = new BlkDeviceOptions { QueueCount = 2 } });
        using VhostUserFrontend frontend = device.Connect();
        frontend.SetProtocolFeatures(frontend.GetProtocolFeatures());
        byte[] config = frontend.GetConfig(0, BlkConfig.SizeBytes)!;
        Assert.Equal([4, 3, 2, 1, 0, 0, 0, 0], config[..8]);
        Assert.Equal([2, 0], config[34..36]);
        Assert.True(BinaryPrimitives.ReadUInt32LittleEndian(config.AsSpan(12)) > 0, "seg_max");
        Assert.Equal([0, 2, 0, 0], config[20..24]);
        foreach (int offset in new[] { 36, 40, 48, 52 })
        {
            Assert.True(BinaryPrimitives.ReadUInt32LittleEndian(config.AsSpan(offset)) > 0, $"The limit at {offset} is 0.");
        }
    }
}
