using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>The daemon's ways to reach the file and to wait for the guest, each under a real driver.</summary>
public class EngineTests
{
    [Theory]
    [InlineData("io_uring", false, null)]
    [InlineData("threads", false, null)]
    [InlineData("io_uring", true, null)]
    [InlineData("threads", true, null)]
    [InlineData("io_uring", false, true)]
    [InlineData("io_uring", false, false)]
    public async Task Data_survives_with_this_engine(string engine, bool direct, bool? poll)
    {
        using TestFolder folder = new();
        DaemonOptions options = new(folder.CreateImage(128)) { IoEngine = engine, Direct = direct, Poll = poll };
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, options);

        await QemuGuest.RunAsync(folder, daemon, new GuestScenario().RawTraffic().DiscardAndZero());

        await daemon.StopAsync();
    }
}
