using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Blk;

/// <summary>How worn a disk is, where it knows.</summary>
public class LifetimeTests
{
    [Theory, Conformance("BLK-38", "BLK-70")]
    [InlineData(1u, 2u, 3u, 1, 2, 3)]
    [InlineData(3u, 11u, 10u, 3, 11, 10)]
    // What the specification reserves is said to be undefined.
    [InlineData(4u, 12u, 1u, 0, 0, 1)]
    [InlineData(0xffffu, 0xffu, 0x1_0001u, 0, 0, 0)]
    public void Six_bytes_say_what_is_known_and_never_what_is_reserved(uint preEol, uint a, uint b, byte saidPreEol, byte saidA, byte saidB)
    {
        using ServedDevice device = new(new ServedOptions { Lifetime = new DiskLifetime(preEol, a, b) });
        using FrontendSession session = device.Open();
        Assert.True(((BlkFeatures)session.Negotiation.Features).HasFlag(BlkFeatures.VIRTIO_BLK_F_LIFETIME));
        RequestPlace request = new(session);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME).Data.Fill(RequestPlace.NotWritten);
        Assert.Equal(new Answer(0, 7), request.Run(request.Header, request.In(6), request.Status));
        Assert.Equal([saidPreEol, 0, saidA, 0, saidB, 0, RequestPlace.NotWritten], request.Data[..7].ToArray());
    }
}
