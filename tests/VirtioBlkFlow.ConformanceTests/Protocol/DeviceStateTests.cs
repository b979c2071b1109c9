using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>The state of a device on its way to another.</summary>
public class DeviceStateTests
{
    private const uint Save = 0;
    private const uint Load = 1;

    // Bit 8: no descriptor comes. Bits 0 to 7: an error.
    private const ulong NoDescriptor = 0x100;

    [Fact, Conformance("VU-38", "VU-77")]
    public void A_state_is_written_to_its_end()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options());
        session.Queues[0].Stop(session.Frontend);
        (SafeFileHandle reader, SafeFileHandle writer) = DeviceState.OpenPipe();
        Assert.Equal(NoDescriptor, session.Frontend.SetDeviceStateFd(new DeviceStateTransfer(Save, 0), writer));
        writer.Dispose();
        using FileStream stream = new(reader, FileAccess.Read);
        using MemoryStream state = new();
        // Ends because nobody holds the other end any more.
        stream.CopyTo(state);
        Assert.NotEqual(0, state.Length);
        Assert.Equal(0ul, session.Frontend.CheckDeviceState());
    }

    [Fact, Conformance("VU-39", "VU-41")]
    public async Task A_state_is_judged_when_all_of_it_has_come()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options());
        session.Queues[0].Stop(session.Frontend);
        byte[] state = DeviceState.SaveFrom(session.Frontend);
        (SafeFileHandle reader, SafeFileHandle writer) = DeviceState.OpenPipe();
        Task<ulong> answer;
        using (FileStream stream = new(writer, FileAccess.Write, bufferSize: 0))
        {
            Assert.Equal(NoDescriptor, session.Frontend.SetDeviceStateFd(new DeviceStateTransfer(Load, 0), reader));
            reader.Dispose();
            answer = Task.Run(() => session.Frontend.CheckDeviceState());
            foreach (byte one in state)
            {
                Assert.False(answer.IsCompleted, "It is answered before the end.");
                stream.WriteByte(one);
                stream.Flush();
            }
        }

        Assert.Equal(0ul, await answer);
    }

    [Fact, Conformance("VU-41", "VU-77")]
    public void What_is_no_state_or_no_transfer_is_an_error_without_a_descriptor()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Options());
        session.Queues[0].Stop(session.Frontend);
        byte[] state = DeviceState.SaveFrom(session.Frontend);
        byte[][] wrong = [[], [.. state, 0], state[..^1], [.. state.Select(one => (byte)~one)], new byte[4096]];
        Assert.All(wrong, garbage => Assert.Throws<BackendRefusedException>(() => DeviceState.LoadInto(session.Frontend, garbage)));
        foreach (DeviceStateTransfer transfer in new[] { new DeviceStateTransfer(2, 0), new DeviceStateTransfer(Save, 1) })
        {
            (SafeFileHandle reader, SafeFileHandle writer) = DeviceState.OpenPipe();
            using (reader)
            using (writer)
            {
                ulong answer = session.Frontend.SetDeviceStateFd(transfer, writer);
                Assert.NotEqual(0ul, answer & 0xff);
                Assert.Equal(NoDescriptor, answer & ~0xfful);
            }
        }

        // And the right one is taken all the same.
        DeviceState.LoadInto(session.Frontend, state);
    }

    [Theory, Conformance("VU-40")]
    [InlineData(false)]
    [InlineData(true)]
    public void The_destination_goes_on_where_the_source_stopped_and_the_driver_does_not_know(bool packed)
    {
        ShadowDisk shadow = new(4);
        using ServedDevice source = new();
        using FrontendSession session = source.Open(Options(packed));
        Assert.Equal(0ul, session.Frontend.SetConfig(BlkConfig.WritebackOffset, [1], needReply: true));
        VerifiedTraffic traffic = new(session.Drivers[0], shadow, 0, 8192, seed: 40);
        traffic.Run(500);
        uint stopped = session.Queues[0].Stop(session.Frontend);
        byte[] state = DeviceState.SaveFrom(session.Frontend);

        // The same image, as on shared storage; the source has stopped, and holds no more than a lock.
        using ServedDevice destination = new(new ServedOptions { SharedImage = source.Image });
        using VhostUserFrontend frontend = destination.Connect();
        Negotiation negotiation = Negotiation.Run(frontend, session.Options.Negotiation);
        negotiation.SendMemory(frontend, session.Memory);
        DeviceState.LoadInto(frontend, state);
        Assert.Equal([1], frontend.GetConfig(BlkConfig.WritebackOffset, 1)!);
        session.Queues[0].Start(frontend, nextAvailable: stopped);
        negotiation.SendDriverOk(frontend);
        session.Queues[0].Kick.Signal();
        traffic.Run(500);
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Flush());
        shadow.AssertEqualTo(source.Image);
    }

    private static FrontendOptions Options(bool packed = false)
    {
        FrontendOptions options = packed ? PackedBench.Options(queueCount: 1) : new FrontendOptions();
        return options with
        {
            Negotiation = options.Negotiation with { ProtocolFeatures = options.Negotiation.ProtocolFeatures | ProtocolFeatures.DEVICE_STATE },
        };
    }
}
