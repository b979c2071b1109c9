using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>The messages that set a queue up may come in many orders; each ends with a queue that serves.</summary>
public class SetUpOrderTests
{
    // Steps that may trade places, but for BASE, which means nothing to a queue that a kick has started.
    private static readonly string[] s_movable = ["memory", "num", "base", "addr", "kick", "call", "err", "enable"];

    [Theory]
    [InlineData("QEMU", "features slots num base addr kick call err enable")]
    [InlineData("QEMU before memory slots", "features table num base addr kick call err enable")]
    [InlineData("QEMU, call first", "call err features table num base addr kick call enable")]
    [InlineData("SPDK: enable first", "features table enable num base addr kick call")]
    [InlineData("cloud-hypervisor: addresses before the base", "features table num addr base call kick enable")]
    [InlineData("libblkio: memory slots, while the queue runs", "features num base addr kick call enable slots")]
    [InlineData("memory after the addresses", "features num base addr table kick call enable")]
    [InlineData("memory last", "features num base addr kick call enable table")]
    [InlineData("kick pending before it is handed over", "features table num base addr signal kick call enable")]
    [InlineData("kick pending before enable", "features table num base addr kick call signal enable")]
    [InlineData("enabled, disabled, enabled", "features table num base addr kick call enable disable enable")]
    [InlineData("memory twice", "features table num base addr kick call enable table")]
    [InlineData("call and kick replaced while it runs", "features table num base addr kick call enable call kick call")]
    [InlineData("features twice, the second time while it runs", "features table num base addr kick call enable features")]
    [InlineData("without bit 30: nothing to enable", "plain-features table num base addr kick call")]
    [InlineData("without bit 30, features last", "table num base addr kick call plain-features")]
    [InlineData("polled: neither kick nor call", "features table num base addr no-kick no-call enable")]
    [InlineData("polled, then kicked", "features table num base addr no-kick call enable kick")]
    [InlineData("stopped and started again", "features table num base addr kick call enable stop num base addr kick call")]
    [InlineData("owner twice, reset of the owner", "features owner table reset-owner owner num base addr kick call enable")]
    public async Task A_queue_serves_after(string whose, string steps)
    {
        Assert.NotEmpty(whose);
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        foreach (bool acknowledge in new[] { true, false })
        {
            SetUpAndVerify(daemon, image, steps, acknowledge);
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_queue_serves_after_any_order()
    {
        const int Seed = 20260;
        const int Orders = 60;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        Random random = new(Seed);
        for (int i = 0; i < Orders; i++)
        {
            string[] order = [.. s_movable];
            do
            {
                random.Shuffle(order);
            }
            while (Array.IndexOf(order, "base") > Array.IndexOf(order, "kick"));

            string steps = "features " + string.Join(' ', order).Replace("memory", random.Next(2) == 0 ? "table" : "slots", StringComparison.Ordinal);
            try
            {
                SetUpAndVerify(daemon, image, steps, acknowledge: random.Next(2) == 0);
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"After '{steps}', order {i} of seed {Seed}: {exception.Message}\n{daemon.Log}", exception);
            }
        }

        await daemon.StopAsync();
    }

    private static void SetUpAndVerify(DaemonProcess daemon, DiskImage image, string steps, bool acknowledge)
    {
        string[] words = steps.Split(' ');
        bool polled = words.Contains("no-call");
        NegotiationOptions negotiation = new() { ProtocolFeatures = new NegotiationOptions().ProtocolFeatures & ~ProtocolFeatures.STATUS };
        using VhostUserFrontend frontend = VhostUserFrontend.Connect(daemon.SocketPath);
        ulong offered = frontend.GetFeatures();
        Assert.Equal(0ul, frontend.SetProtocolFeatures(frontend.GetProtocolFeatures() & negotiation.ProtocolFeatures));
        ulong features = offered & ((ulong)negotiation.Features | (ulong)negotiation.BlkFeatures);
        using Frontend.Memory.SharedMemory memory = Frontend.Memory.SharedMemory.OfSize(8 << 20);
        using FrontendQueue queue = new(memory, 1, 64, (Virtio.VirtioFeatures)features);
        BlkDriver driver = new(memory, queue, new BlkDriverOptions { QueueDepth = 4, Wait = polled ? CompletionWait.Poll : CompletionWait.Call });
        foreach (string word in words)
        {
            ulong answer = word switch
            {
                "features" => frontend.SetFeatures(features | ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES, acknowledge),
                "plain-features" => frontend.SetFeatures(features, acknowledge),
                "owner" => frontend.SetOwner(acknowledge),
                "reset-owner" => frontend.ResetOwner(acknowledge),
                "table" => frontend.SetMemTable(memory, acknowledge),
                "slots" => frontend.AddMemReg(memory.Regions[0], acknowledge),
                "num" => frontend.SetVringNum(queue.Index, (uint)queue.Ring.QueueSize, acknowledge),
                "base" => frontend.SetVringBase(queue.Index, queue.SplitRing.NextUsed, acknowledge),
                "addr" => frontend.SetVringAddr(queue.Address(), acknowledge),
                "kick" => frontend.SetVringKick(queue.Index, queue.Kick, acknowledge),
                "no-kick" => frontend.SetVringKick(queue.Index, null, acknowledge),
                "call" => frontend.SetVringCall(queue.Index, queue.Call, acknowledge),
                "no-call" => frontend.SetVringCall(queue.Index, null, acknowledge),
                "err" => frontend.SetVringErr(queue.Index, queue.Error, acknowledge),
                "enable" => frontend.SetVringEnable(queue.Index, enable: true, acknowledge),
                "disable" => frontend.SetVringEnable(queue.Index, enable: false, acknowledge),
                "stop" => frontend.GetVringBase(queue.Index) - queue.SplitRing.NextUsed,
                "signal" => Signal(queue),
                _ => throw new ArgumentException($"There is no step '{word}'.", nameof(steps)),
            };
            Assert.True(answer == 0, $"'{word}' is refused, in '{steps}'.");
        }

        byte[] written = new byte[4096];
        Random.Shared.NextBytes(written);
        Assert.Equal(Virtio.Blk.BlkStatus.VIRTIO_BLK_S_OK, driver.Write(16, written));
        Assert.Equal(written, image.Read(16 * 512, written.Length));
        Assert.False(frontend.HasUnreadReply);
    }

    private static ulong Signal(FrontendQueue queue)
    {
        queue.Kick.Signal();
        return 0;
    }
}
