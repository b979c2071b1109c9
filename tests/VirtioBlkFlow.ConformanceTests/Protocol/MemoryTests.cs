using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Protocol;

/// <summary>Guest memory: which descriptor is which region, which address is whose.</summary>
public class MemoryTests
{
    private const ulong FarAway = 0x1_0000_0000;

    [Fact, Conformance("VU-42", "VU-52")]
    public void Regions_in_any_order_each_with_its_own_file_offset_and_addresses_are_told_apart()
    {
        using ServedDevice device = new();
        using VhostUserFrontend frontend = device.Connect();
        Negotiation negotiation = Negotiation.Run(frontend, new NegotiationOptions { PreferMemorySlots = false });
        // The orders of guest addresses, of user addresses and of the message all differ; user addresses are where other guest ones are.
        using SharedMemory memory = new(
            new SharedRegionOptions(0x3000_0000, 1 << 20) { UserAddress = 0x1000_0000, MmapOffset = 4096 },
            new SharedRegionOptions(0x0000_0000, 1 << 20) { UserAddress = 0x3000_0000, MmapOffset = 0 },
            new SharedRegionOptions(0x1000_0000, 1 << 20) { UserAddress = 0x2000_0000, MmapOffset = 65536 });
        negotiation.SendMemory(frontend, memory);
        using FrontendQueue queue = new(memory, 0, 128, negotiation.RingFeatures);
        negotiation.StartQueues(frontend, queue);
        RequestPlace request = new(memory, queue);
        foreach (SharedRegion region in memory.Regions)
        {
            ulong last = region.GuestAddress + region.LengthBytes - 4096;
            byte[] data = new byte[4096];
            Random.Shared.NextBytes(data);
            data.CopyTo(memory.Span(last, data.Length));
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, 8);
            Assert.Equal(0, request.Run(request.Header, DriverBuffer.Readable(last, 4096), request.Status).Status);
            Assert.Equal(data, device.Image.Read(8 * 512, data.Length));
        }
    }

    [Fact, Conformance("VU-72")]
    public void The_number_of_slots_is_the_same_over_reconnects()
    {
        using ServedDevice device = new();
        ulong[] answers = [.. Enumerable.Range(0, 3).Select(_ =>
        {
            using FrontendSession session = device.Open();
            session.VerifyRoundTripSmall(device.Image, sector: 8);
            return session.Frontend.GetMaxMemSlots();
        })];
        Assert.True(answers[0] >= ProtocolLimits.MaxTableRegions);
        Assert.Single(answers.Distinct());
    }

    [Fact, Conformance("VU-73", "VU-74", "VU-75")]
    public void A_region_comes_with_one_descriptor_and_goes_by_its_addresses_alone()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        using SharedMemory other = new(new SharedRegionOptions(FarAway, 1 << 20) { UserAddress = 0x7000_0000_0000, MmapOffset = 8192 });
        SharedRegion region = other.Regions[0];
        SafeFileHandle file = region.Handle;
        byte[] added = Payload(VhostUserFrontend.Describe(region));
        RequestPlace request = new(session);
        int mappings = Mappings();

        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, added));
        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, added, file, file));
        Assert.Equal(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, added, file));
        Assert.Equal(mappings + 1, Mappings());
        Assert.Equal(0, Read(request, FarAway));

        // Another size or address is another region; the offset in the file is nobody's business any more.
        MemoryRegion named = VhostUserFrontend.Describe(region);
        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.REM_MEM_REG, Payload(named with { LengthBytes = 4096 })));
        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.REM_MEM_REG, Payload(named with { GuestAddress = FarAway + 4096 })));
        Assert.NotEqual(0ul, session.Frontend.Ask(FrontendRequest.REM_MEM_REG, Payload(named with { UserAddress = 4096 })));
        Assert.Equal(0, Read(request, FarAway));
        Assert.Equal(0ul, session.Frontend.Ask(FrontendRequest.REM_MEM_REG, Payload(named with { MmapOffset = 0 }), file));
        Assert.Equal(mappings, Mappings());
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_IOERR, Read(request, FarAway));
        for (int round = 0; round < 50; round++)
        {
            Assert.Equal(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, added, file));
            Assert.Equal(0ul, session.Frontend.Ask(FrontendRequest.REM_MEM_REG, added, file));
        }

        Assert.Equal(mappings, Mappings());
        Assert.Equal(0ul, session.Frontend.Ask(FrontendRequest.ADD_MEM_REG, added, file));
        using TracedDescriptor unused = new();
        Assert.Equal(0ul, session.Frontend.Ask(FrontendRequest.REM_MEM_REG, added, unused.Handle));
        unused.AssertNobodyHoldsIt();
        session.VerifyRoundTrip(device.Image, sector: 8);
    }

    private static byte Read(RequestPlace request, ulong address)
    {
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
        return request.Run(request.Header, DriverBuffer.Writable(address, 512), request.Status).Status;
    }

    private static byte[] Payload(MemoryRegion region) => WireBytes.Of(new SingleMemoryRegion(0, region));

    // The region alone lies at this offset of its file.
    private static int Mappings() => File.ReadLines("/proc/self/maps").Count(line => line.Contains(" 00002000 ", StringComparison.Ordinal) && line.Contains("guest-memory", StringComparison.Ordinal));
}
