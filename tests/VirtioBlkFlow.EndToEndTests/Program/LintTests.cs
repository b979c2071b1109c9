using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>--lint: what the program says about those who break a rule, and that it says nothing about those who do not.</summary>
public class LintTests
{
    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED)]
    public async Task Nothing_is_said_of_a_front_end_and_a_driver_that_keep_the_rules(VirtioFeatures ring)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath, "--lint");
        var options = new FrontendOptions
        {
            Negotiation = new NegotiationOptions
            {
                Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC | ring,
            },
        };
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName], options))
        {
            session.VerifyRoundTrip(image, sector: 8);
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].GetId(out _));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Discard(new BlkSegment { Sector = 64, SectorCount = 64 }));
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        Assert.Empty(daemon.Errors.Lines);
    }

    [Fact]
    public async Task A_broken_rule_is_a_warning_and_the_session_ends_with_a_summary()
    {
        using TestFolder folder = new();
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", folder.CreateImage(16).FilePath, "--lint");
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            for (int i = 0; i < 10; i++)
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Execute(BlkRequestType.VIRTIO_BLK_T_FLUSH, 7, 0).Status);
            }
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        Assert.Collection(
            daemon.Errors.Lines,
            static line => Assert.Contains("VIRTIO-BLK-FLUSH-SECTOR, for the driver (MUST; VIRTIO 1.4,", line, StringComparison.Ordinal),
            static line => Assert.EndsWith(": VIRTIO-BLK-FLUSH-SECTOR 10.", line, StringComparison.Ordinal));
    }
}
