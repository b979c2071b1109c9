using System.Runtime.InteropServices;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>The configuration space: read in any cut, written only where it may be.</summary>
public class ConfigurationTests
{
    private const uint SpaceBytes = 256;

    [Fact]
    public async Task Any_stretch_of_the_configuration_space_can_be_read()
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(folder.CreateImage(16)) { QueueCount = 5 });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            byte[] whole = session.Frontend.GetConfig(0, SpaceBytes)!;
            BlkConfig config = MemoryMarshal.Read<BlkConfig>(whole);
            Assert.Equal((16ul << 20) / 512, config.Capacity);
            Assert.Equal(5, config.NumQueues);
            Assert.Equal(512u, config.BlkSize);
            Assert.Equal(new byte[SpaceBytes - BlkConfig.SizeBytes], whole[BlkConfig.SizeBytes..]);
            foreach (uint size in new uint[] { 1, 2, 8, 36, 48, 57, 60, 96, 255, 256 })
            {
                for (uint offset = 0; offset + size <= SpaceBytes; offset += 7)
                {
                    // Flags 1 is what front-ends of rust-vmm send.
                    Assert.Equal(whole[(int)offset..(int)(offset + size)], session.Frontend.GetConfig(offset, size, flags: offset % 2, needReply: size == 8));
                }
            }
        }

        await daemon.StopAsync();
    }

    [Theory]
    [InlineData(0u, 257u)]
    [InlineData(1u, 256u)]
    [InlineData(256u, 1u)]
    [InlineData(uint.MaxValue, 1u)]
    [InlineData(uint.MaxValue - 3, 8u)]
    public async Task What_is_not_in_the_space_is_answered_without_payload_and_the_connection_goes_on(uint offset, uint size)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            Assert.Null(session.Frontend.GetConfig(offset, size));
            session.VerifyRoundTrip(image, sector: 8);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task The_write_cache_is_toggled_under_load()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2, Cache = "writeback" });
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            VhostUserFrontend frontend = session.Frontend;
            VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 8);
            bool enough = false;
            Task loading = Task.Run(() => traffic.RunWhile(() => !Volatile.Read(ref enough)));
            try
            {
                for (int round = 0; round < 100; round++)
                {
                    traffic.WaitForProgress();
                    byte mode = (byte)(round % 2);
                    // Flags as QEMU sends them, and as front-ends of rust-vmm do (VU-70).
                    Assert.Equal(0ul, frontend.SetConfig(BlkConfig.WritebackOffset, [mode], flags: (uint)(round % 3), needReply: true));
                    Assert.Equal([mode], frontend.GetConfig(BlkConfig.WritebackOffset, 1)!);
                }
            }
            finally
            {
                Volatile.Write(ref enough, true);
                await loading;
            }

            Assert.NotEqual(0ul, frontend.SetConfig(BlkConfig.WritebackOffset, [2], needReply: true));
            Assert.Equal([1], frontend.GetConfig(BlkConfig.WritebackOffset, 1)!);
        }

        await daemon.StopAsync();
        shadow.AssertEqualTo(image);
    }

    [Fact]
    public async Task Fields_that_are_not_the_drivers_to_write_stay_as_they_are()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath))
        {
            byte[] before = session.Frontend.GetConfig(0, SpaceBytes)!;
            // VU-69, and writeback only as a whole and by itself.
            foreach ((uint offset, int length) in new (uint, int)[] { (0, 8), (20, 4), (31, 2), (32, 2), (33, 1), (34, 2), (255, 1), (0, 256) })
            {
                Assert.NotEqual(0ul, session.Frontend.SetConfig(offset, new byte[length], ConfigHeader.Writable, needReply: true));
                // Not asked for an answer, it is ignored, and the connection lives.
                Assert.Equal(0ul, session.Frontend.SetConfig(offset, new byte[length]));
            }

            Assert.Equal(before, session.Frontend.GetConfig(0, SpaceBytes));
            session.VerifyRoundTrip(image, sector: 8);
        }

        await daemon.StopAsync();
    }
}
