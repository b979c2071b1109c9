using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using static VirtioBlkFlow.Frontend.Ring.RawPackedRing;

namespace VirtioBlkFlow.ConformanceTests.Packed;

/// <summary>Lists of a packed ring: the order of their buffers, what is read, what is written, indirect tables.</summary>
public class PackedFramingTests
{
    // Everything that means nothing in a table: of its flags only WRITE counts.
    private const ushort NoiseInTables = VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

    [Fact, Conformance("PACKED-04")]
    public void Readable_buffers_are_not_written()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 16);
        RequestPlace request = bench.Request;
        for (int round = 0; round < 300; round++)
        {
            bool writes = round % 2 == 0;
            request.Prepare(writes ? BlkRequestType.VIRTIO_BLK_T_OUT : BlkRequestType.VIRTIO_BLK_T_IN, (ulong)round);
            Random.Shared.NextBytes(request.Data[..512]);
            byte[] readable = Readable(request, writes);
            bench.Send(PackedBench.List(1, request.Header, writes ? request.Out(512) : request.In(512), request.Status));
            bench.TakeUsed(3);
            Assert.Equal(readable, Readable(request, writes));
        }
    }

    [Theory, Conformance("PACKED-05")]
    [InlineData(0x00)]
    [InlineData(0xff)]
    [InlineData(0x5a)]
    public void What_was_in_writable_buffers_makes_no_difference(byte poison)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 16);
        RequestPlace request = bench.Request;
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT).Data[..512].Fill(0x11);
        bench.Send(PackedBench.List(1, request.Header, request.Out(512), request.Status));
        bench.TakeUsed(3);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN).Data[..512].Fill(poison);
        request.StatusByte = poison;
        bench.Send(PackedBench.List(2, request.Header, request.In(512), request.Status));
        Assert.Equal(513u, bench.TakeUsed(3).LengthBytes);
        Assert.Equal(0, request.StatusByte);
        Assert.Equal(-1, request.Data[..512].IndexOfAnyExcept((byte)0x11));
    }

    [Fact, Conformance("PACKED-08", "PACKED-09")]
    public void The_buffers_of_a_list_are_used_in_their_order_and_as_many_as_the_device_allows()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 200);
        RequestPlace request = bench.Request;
        foreach (int pieces in new[] { 1, 16, (int)session.Negotiation.Config.SegMax })
        {
            // From the back to the front of the data, so that no order but the list's gives this.
            byte[] expected = [.. Enumerable.Range(0, pieces).SelectMany(i => Enumerable.Repeat((byte)(i + 1), 512))];
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT);
            for (int i = 0; i < pieces; i++)
            {
                request.Data.Slice((pieces - 1 - i) * 512, 512).Fill((byte)(i + 1));
            }

            bench.Send(PackedBench.List(
                1, [request.Header, .. Enumerable.Range(0, pieces).Select(i => request.Out(512, (pieces - 1 - i) * 512)), request.Status]));
            Assert.Equal(1u, bench.TakeUsed(pieces + 2).LengthBytes);
            Assert.Equal(0, request.StatusByte);
            Assert.Equal(expected, device.Image.Read(0, pieces * 512));
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN).Data.Clear();
            bench.Send(PackedBench.List(
                2, [request.Header, .. Enumerable.Range(0, pieces).Select(i => request.In(512, (pieces - 1 - i) * 512)), request.Status]));
            bench.TakeUsed(pieces + 2);
            Assert.Equal(expected, Enumerable.Range(0, pieces).SelectMany(i => request.Data.Slice((pieces - 1 - i) * 512, 512).ToArray()));
        }
    }

    [Theory, Conformance("PACKED-16", "PACKED-17")]
    [InlineData(0)]
    [InlineData(VIRTQ_DESC_F_WRITE)]
    public void An_indirect_table_is_read_in_its_order_and_only_WRITE_counts_and_only_in_the_table(ushort flagsOfReference)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 16);
        RequestPlace request = bench.Request;
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT).Data[..512].Fill(0x21);
        request.Data[512..1024].Fill(0x22);
        Assert.Equal(1u, SendTable(request.Header, request.Out(512), request.Out(512, 512), request.Status).LengthBytes);
        Assert.Equal(0, request.StatusByte);
        Assert.Equal(request.Data[..1024].ToArray(), device.Image.Read(0, 1024));
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN).Data[..1024].Clear();
        Assert.Equal(1025u, SendTable(request.Header, request.In(512, 512), request.In(512), request.Status).LengthBytes);
        Assert.Equal(-1, request.Data[..512].IndexOfAnyExcept((byte)0x22));
        Assert.Equal(-1, request.Data[512..1024].IndexOfAnyExcept((byte)0x21));

        PackedSlot SendTable(params DriverBuffer[] buffers)
        {
            bench.Send(Table(session, 3, NoiseInTables, flagsOfReference, buffers));
            PackedSlot used = bench.TakeUsed(1);
            Assert.Equal(3, used.Id);
            return used;
        }
    }

    [Fact, Conformance("PACKED-18")]
    public void Lists_and_tables_alternate_in_one_ring()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(PackedBench.Options());
        using PackedBench bench = new(session, 7);
        RequestPlace request = bench.Request;
        for (ushort i = 0; i < 100; i++)
        {
            bool direct = i % 2 == 0;
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, i).Data[..512].Fill((byte)i);
            DriverBuffer[] buffers = [request.Header, request.Out(512), request.Status];
            bench.Send(direct ? PackedBench.List(i, buffers) : [Table(session, i, 0, 0, buffers)]);
            Assert.Equal(i, bench.TakeUsed(direct ? 3 : 1).Id);
            Assert.Equal(0, request.StatusByte);
            Assert.Equal(request.Data[..512].ToArray(), device.Image.Read(i * 512, 512));
        }
    }

    private static PackedSlot Table(FrontendSession session, ushort id, ushort flagsInTable, ushort flagsOfReference, params DriverBuffer[] buffers)
    {
        ulong table = session.Memory.Allocate((ulong)buffers.Length * SlotBytes);
        for (int i = 0; i < buffers.Length; i++)
        {
            PackedSlot entry = new(
                buffers[i].GuestAddress,
                buffers[i].LengthBytes,
                (ushort)Random.Shared.Next(65536),
                (ushort)(flagsInTable | (buffers[i].DeviceWritable ? VIRTQ_DESC_F_WRITE : 0)));
            System.Runtime.InteropServices.MemoryMarshal.Write(session.Memory.Span(table + ((ulong)i * SlotBytes), SlotBytes), in entry);
        }

        return new PackedSlot(table, (uint)(buffers.Length * SlotBytes), id, (ushort)(VIRTQ_DESC_F_INDIRECT | flagsOfReference));
    }

    private static byte[] Readable(RequestPlace request, bool writes) => [.. request.HeaderSpan, .. writes ? request.Data[..512] : default];
}
