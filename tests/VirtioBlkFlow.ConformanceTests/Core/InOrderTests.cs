using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Core;

/// <summary>IN_ORDER, which the operator must ask for.</summary>
public class InOrderTests
{
    [Theory, Conformance("CORE-18")]
    [InlineData(false)]
    [InlineData(true)]
    public void What_was_made_available_first_is_used_first_however_long_it_takes(bool packed)
    {
        BlkDeviceOptions options = new() { Features = new FeatureChoices((ulong)VirtioFeatures.VIRTIO_F_IN_ORDER, 0) };
        using ServedDevice device = new(new ServedOptions { Device = options });
        VirtioFeatures format = packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0;
        using FrontendSession session = device.Open(PackedBench.Options(
            VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | VirtioFeatures.VIRTIO_F_IN_ORDER | format, queueCount: 1));
        Assert.True(session.Negotiation.RingFeatures.HasFlag(VirtioFeatures.VIRTIO_F_IN_ORDER));
        DriverRing ring = session.Queues[0].Ring;
        device.Disk.Hold(operation => operation == DiskOperation.Read);
        List<ushort> sent = [];
        for (int i = 0; i < 12; i++)
        {
            RequestPlace request = new(session, dataBytes: 512);
            bool slow = i is 0 or 5;
            request.Prepare(slow ? BlkRequestType.VIRTIO_BLK_T_IN : BlkRequestType.VIRTIO_BLK_T_GET_ID);
            sent.Add(request.Send(request.Header, request.In(slow ? 512 : 20), request.Status));
        }

        Await.Until(() => device.Disk.HeldCount == 2, "both reads reach the disk");
        device.LetTurnsPass();
        Assert.False(ring.HasUsed, "The first one is not done, and something is used.");
        device.Release();
        foreach ((int i, ushort head) in sent.Index())
        {
            Await.Until(() => ring.HasUsed, $"request {i} comes back");
            Assert.True(ring.TryTakeUsed(out UsedChain used));
            Assert.Equal(new UsedChain(head, i is 0 or 5 ? 513u : 21u), used);
        }
    }
}
