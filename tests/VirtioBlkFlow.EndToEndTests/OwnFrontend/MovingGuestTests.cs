using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Recovery;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>A guest under load moves to another daemon; nothing but the marks tells what the first one wrote (vhost-user.rst, "Migration").</summary>
public class MovingGuestTests
{
    private const int Mebibytes = 16;

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public Task A_guest_under_load_goes_on_where_it_arrives(bool packed, bool deviceState) =>
        MoveAsync(new MoveOptions(packed) { DeviceState = deviceState });

    /// <summary>The canary: a move without marks that goes well would prove nothing.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Without_marks_the_guest_does_not_arrive_whole(bool packed)
    {
        Exception fault = await Assert.ThrowsAnyAsync<Exception>(() => MoveAsync(new MoveOptions(packed) { Log = false, PatienceMs = 1_000 }));
        Assert.True(fault.InnerException is WorkloadException or DeviceBrokeRingException, $"{fault}");
    }

    private static async Task MoveAsync(MoveOptions options)
    {
        int seed = RandomSeed.Take();
        using TestFolder folder = new();
        using TestFolder destinationFolder = new();
        DiskImage image = folder.CreateImage(Mebibytes);
        // Both have the image open, as on shared storage; one of them writes.
        await using DaemonProcess source = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2, Lock = false });
        await using DaemonProcess destination =
            await DaemonProcess.StartAsync(destinationFolder, new Harness.DaemonOptions(image) { QueueCount = 2, Lock = false });
        try
        {
            using MovingGuest guest = new(source.SocketPath, options, (Mebibytes << 20) / BlkRequest.SectorBytes, seed);
            List<int> copied = await guest.MoveToAsync(destination.SocketPath);
            // Not vacuous: under load each round found something, and nobody marked all there is.
            Assert.True(!options.Log || copied.All(pages => pages is > 0 and < 2048), $"Pages in each round: {string.Join(' ', copied)}");
            await source.StopAsync();
            await guest.FinishAsync();
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"Seed {seed}: {exception.Message}", exception);
        }

        await destination.StopAsync();
    }
}
