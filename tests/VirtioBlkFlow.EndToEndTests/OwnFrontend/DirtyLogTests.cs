using System.Runtime.InteropServices;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>
/// During a migration exactly the pages are marked that the device, or the kernel for it, has written (vhost-user.rst, "Migration"): for each
/// kind of request, with each kind of ring.
/// </summary>
public class DirtyLogTests
{
    private const int Mebibytes = 16;
    private const ulong Page = 4096;

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public Task Exactly_what_was_written_is_marked(bool packed, bool eventIndex) =>
        ProbeAsync(new ProbeOptions(packed, eventIndex), (name, faults) => AssertNone(name, faults));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Without_the_flag_of_the_ring_the_ring_is_not_marked(bool packed) =>
        ProbeAsync(new ProbeOptions(packed, EventIndex: true) { LogRing = false }, (name, faults) => AssertNone(name, faults));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task The_ring_is_marked_where_its_log_address_says(bool packed) =>
        ProbeAsync(new ProbeOptions(packed, EventIndex: true) { LogElsewhere = true }, (name, faults) => AssertNone(name, faults));

    /// <summary>The canary: nothing is marked without VHOST_F_LOG_ALL, and each probe finds that out.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Without_LOG_ALL_nothing_is_marked_and_that_is_noticed(bool packed) =>
        ProbeAsync(new ProbeOptions(packed, EventIndex: true) { LogAll = false }, (name, faults) =>
        {
            Assert.Contains(faults, fault => fault.StartsWith("written, and not marked", StringComparison.Ordinal));
            Assert.Contains(faults, fault => fault.StartsWith("changed, and not marked", StringComparison.Ordinal));
            Assert.Contains(faults, fault => fault.StartsWith("of the ring, and not marked", StringComparison.Ordinal));
            Assert.DoesNotContain(faults, fault => fault.StartsWith("marked, and not written", StringComparison.Ordinal));
        });

    /// <summary>The other canary: a probe that expects less than is written says so.</summary>
    [Fact]
    public async Task What_is_marked_too_much_is_noticed()
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(folder.CreateRandomImage(Mebibytes, seed: 1)));
        using (DirtyPageProbe probe = new(daemon.SocketPath, new ProbeOptions(Packed: false, EventIndex: true)))
        {
            ulong data = probe.AllocatePages(1);
            List<string> faults = probe.FindFaults(
                [probe.Header(BlkRequestType.VIRTIO_BLK_T_IN, 0), DriverBuffer.Writable(data, 512), Status(probe)], indirect: false, written: []);
            Assert.Contains(faults, fault => fault.StartsWith("marked, and not written", StringComparison.Ordinal));
        }

        await daemon.StopAsync();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Zone_requests_mark_what_they_write(bool packed)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new Harness.DaemonOptions(folder.CreateImage(Mebibytes)) { Zoned = "zone-size=1M" });
        using (DirtyPageProbe probe = new(daemon.SocketPath, new ProbeOptions(packed, EventIndex: true)))
        {
            DriverBuffer data = DriverBuffer.Readable(probe.AllocatePages(2), 2 * (uint)Page);
            DriverBuffer appended = DriverBuffer.Writable(probe.AllocatePages(2) + Page - 4, sizeof(ulong));
            AssertNone("append", probe.FindFaults(
                [probe.Header(BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND, 2048), data, appended, Status(probe)],
                indirect: false,
                [(appended.GuestAddress, sizeof(ulong))]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, probe.Status);
            Assert.Equal(2048ul, MemoryMarshal.Read<ulong>(probe.Memory.Span(appended.GuestAddress, sizeof(ulong))));
            AssertNone("append where no zone begins", probe.FindFaults(
                [probe.Header(BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND, 2049), data, appended, Status(probe)], indirect: false, []));
            Assert.NotEqual(BlkStatus.VIRTIO_BLK_S_OK, probe.Status);

            // 16 zones and the header need 17 times 64 bytes: the last of them in the second page, and nothing in the third.
            DriverBuffer report = DriverBuffer.Writable(probe.AllocatePages(3) + Page - 512, 2 * (uint)Page);
            AssertNone("report", probe.FindFaults(
                [probe.Header(BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT, 0), report, Status(probe)], indirect: true, [(report.GuestAddress, 17 * 64)]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, probe.Status);
            foreach (BlkRequestType type in new[]
            {
                BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN, BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE, BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH,
                BlkRequestType.VIRTIO_BLK_T_ZONE_RESET, BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL,
            })
            {
                AssertNone($"{type}", probe.FindFaults([probe.Header(type, 2048), Status(probe)], indirect: false, []));
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, probe.Status);
            }
        }

        await daemon.StopAsync();
    }

    private static async Task ProbeAsync(ProbeOptions options, Action<string, List<string>> judge)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(Mebibytes, seed: 1);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image));
        using (DirtyPageProbe probe = new(daemon.SocketPath, options))
        {
            foreach (ProbedRequest request in Requests(probe))
            {
                judge(request.Name, probe.FindFaults(request.Chain, request.Indirect, request.Written));
                Assert.True(request.Status == probe.Status, $"{request.Name}: {probe.Status}");
            }

            // The kernel finds only a part of what is asked for, behind the daemon's back.
            using (FileStream file = new(image.FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            {
                file.SetLength((8 << 20) + (int)Page);
            }

            ulong data = probe.AllocatePages(4);
            judge("IN over the end of a file that was cut", probe.FindFaults(
                [probe.Header(BlkRequestType.VIRTIO_BLK_T_IN, (8 << 20) / 512), DriverBuffer.Writable(data, 4 * (uint)Page), Status(probe)],
                indirect: false,
                [(data, 4 * Page)]));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, probe.Status);
        }

        await daemon.StopAsync();
    }

    private static IEnumerable<ProbedRequest> Requests(DirtyPageProbe probe)
    {
        ulong page = probe.AllocatePages(1);
        yield return Ok("IN of a page", In(8), [DriverBuffer.Writable(page, (uint)Page)], [(page, Page)]);

        ulong middle = probe.AllocatePages(4) + 2048;
        yield return Ok("IN from the middle of a page", In(8), [DriverBuffer.Writable(middle, 3 * (uint)Page)], [(middle, 3 * Page)]);

        ulong border = DirtyPageProbe.RegionBytes - 1024;
        yield return Ok("IN over the border of two regions", In(64), [DriverBuffer.Writable(border, 2048)], [(border, 2048)]);

        ulong far = (1ul << 32) + (5 * Page) + 512;
        yield return Ok("IN far away", In(64), [DriverBuffer.Writable(far, (uint)Page)], [(far, Page)]);

        ulong pieces = probe.AllocatePages(8);
        yield return Ok(
            "IN in odd pieces",
            In(3),
            [DriverBuffer.Writable(pieces + 4000, 96), DriverBuffer.Writable(pieces + (2 * Page) + 4095, 2), DriverBuffer.Writable(pieces + (5 * Page), 414)],
            [(pieces + 4000, 96), (pieces + (2 * Page) + 4095, 2), (pieces + (5 * Page), 414)]);

        ulong table = probe.AllocatePages(1);
        yield return Ok("IN in a table", In(3), [DriverBuffer.Writable(table, 512)], [(table, 512)]) with { Indirect = true };

        ulong together = probe.AllocatePages(2);
        yield return new ProbedRequest(
            "IN with the status in the same buffer",
            [In(1), DriverBuffer.Writable(together, (uint)Page + 1)],
            BlkStatus.VIRTIO_BLK_S_OK,
            [(together, Page)]);

        ulong empty = probe.AllocatePages(1);
        yield return new ProbedRequest("IN of nothing", [In(1), DriverBuffer.Writable(empty, 1)], BlkStatus.VIRTIO_BLK_S_OK, []);

        ulong beyond = probe.AllocatePages(1);
        yield return new ProbedRequest(
            "IN beyond the end", [In(Mebibytes * 2048), DriverBuffer.Writable(beyond, 512), Status(probe)], BlkStatus.VIRTIO_BLK_S_IOERR, []);
        yield return new ProbedRequest(
            "IN of half a sector", [In(0), DriverBuffer.Writable(beyond, 256), Status(probe)], BlkStatus.VIRTIO_BLK_S_IOERR, []);

        DriverBuffer source = DriverBuffer.Readable(probe.AllocatePages(2), 2 * (uint)Page);
        yield return Ok("OUT", probe.Header(BlkRequestType.VIRTIO_BLK_T_OUT, 100), [source], []);
        yield return Ok("FLUSH", probe.Header(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0), [], []);
        DriverBuffer header = probe.Header(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0);
        yield return Ok("FLUSH with its header in pieces", header with { LengthBytes = 7 }, [DriverBuffer.Readable(header.GuestAddress + 7, 9)], []);

        ulong id = probe.AllocatePages(2) + Page - 10;
        yield return Ok("GET_ID over the border of two pages", GetId(), [DriverBuffer.Writable(id, 20)], [(id, 20)]);
        ulong longId = probe.AllocatePages(2);
        yield return Ok("GET_ID with a page too much", GetId(), [DriverBuffer.Writable(longId, (uint)Page + 20)], [(longId, 20)]);

        foreach (BlkRequestType type in new[] { BlkRequestType.VIRTIO_BLK_T_DISCARD, BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES })
        {
            ulong segment = probe.AllocatePages(1);
            MemoryMarshal.Write(probe.Memory.Span(segment, BlkSegment.SizeBytes), new BlkSegment { Sector = 4096, SectorCount = 8 });
            yield return Ok($"{type}", probe.Header(type, 0), [DriverBuffer.Readable(segment, BlkSegment.SizeBytes)], []);
        }

        yield return new ProbedRequest(
            "a type nobody knows", [probe.Header((BlkRequestType)4711, 0), Status(probe)], BlkStatus.VIRTIO_BLK_S_UNSUPP, []);

        DriverBuffer In(ulong sector) => probe.Header(BlkRequestType.VIRTIO_BLK_T_IN, sector);
        DriverBuffer GetId() => probe.Header(BlkRequestType.VIRTIO_BLK_T_GET_ID, 0);
        ProbedRequest Ok(string name, DriverBuffer header, DriverBuffer[] data, (ulong Address, ulong LengthBytes)[] written) =>
            new(name, [header, .. data, Status(probe)], BlkStatus.VIRTIO_BLK_S_OK, written);
    }

    // In a page of its own, at its very end.
    private static DriverBuffer Status(DirtyPageProbe probe) => DriverBuffer.Writable(probe.AllocatePages(1) + Page - 1, 1);

    private static void AssertNone(string name, List<string> faults) => Assert.True(faults.Count == 0, $"{name}: {string.Join("; ", faults)}");

    private sealed record ProbedRequest(string Name, DriverBuffer[] Chain, BlkStatus Status, (ulong Address, ulong LengthBytes)[] Written)
    {
        public bool Indirect { get; init; }
    }
}
