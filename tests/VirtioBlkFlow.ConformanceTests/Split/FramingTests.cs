using System.Runtime.InteropServices;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.ConformanceTests.Split;

/// <summary>Descriptors: how requests may be cut, what is read, what is written, indirect tables.</summary>
public class FramingTests
{
    private const int DataBytes = 1024;

    [Fact, Conformance("SPLIT-01")]
    public void A_request_is_the_same_however_it_is_cut()
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueSize = 4096 });
        RequestPlace request = new(session);
        // Header and data out side by side, and data in and status, so that a cut may fall anywhere and nowhere.
        const int ReadableBytes = BlkRequest.HeaderBytes + DataBytes;
        const int WritableAt = 8192;
        for (int round = 0; round < 200; round++)
        {
            int most = round switch { 0 => 1, 1 => ReadableBytes, _ => 1 << random.Next(1, 11) };
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, 8);
            request.HeaderSpan.CopyTo(request.Data);
            random.NextBytes(request.Data[BlkRequest.HeaderBytes..ReadableBytes]);
            byte[] written = request.Data[BlkRequest.HeaderBytes..ReadableBytes].ToArray();
            Answer answer = request.Run([.. Cut(random, ReadableBytes, most).Select(cut => request.Out(cut.Length, cut.Offset)), request.Status]);
            Assert.True(answer == new Answer(0, 1), $"{answer} for a write in at least {ReadableBytes / most} pieces, seed {seed}.");
            Assert.Equal(written, device.Image.Read(8 * 512, DataBytes));

            request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN, 8);
            request.Data[WritableAt..(WritableAt + DataBytes + 1)].Fill(RequestPlace.NotWritten);
            request.HeaderSpan.CopyTo(request.Data);
            answer = request.Run(
            [
                .. Cut(random, BlkRequest.HeaderBytes, most).Select(cut => request.Out(cut.Length, cut.Offset)),
                .. Cut(random, DataBytes + 1, most).Select(cut => request.In(cut.Length, WritableAt + cut.Offset)),
            ]);
            Assert.True(answer.UsedBytes == DataBytes + 1, $"{answer} for a read, seed {seed}.");
            Assert.Equal(written, request.Data[WritableAt..(WritableAt + DataBytes)].ToArray());
            Assert.Equal(0, request.Data[WritableAt + DataBytes]);
        }
    }

    [Fact, Conformance("SPLIT-03", "SPLIT-05")]
    public void Neither_readable_buffers_nor_the_table_are_written()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        byte[] Table() => session.Memory.Span(session.Queues[0].Ring.DescriptorAreaAddress, session.Queues[0].Ring.QueueSize * 16).ToArray();
        for (int round = 0; round < 500; round++)
        {
            bool writes = round % 2 == 0;
            request.Prepare(writes ? BlkRequestType.VIRTIO_BLK_T_OUT : BlkRequestType.VIRTIO_BLK_T_IN, (ulong)round);
            Random.Shared.NextBytes(request.Data[..512]);
            byte[] readable = Readable(request, writes);
            ushort head = request.Publish(request.Header, writes ? request.Out(512) : request.In(512), request.Status);
            byte[] table = Table();
            session.Queues[0].Kick.Signal();
            Assert.Equal(head, request.TakeUsed().Head);
            Assert.Equal(table, Table());
            Assert.Equal(readable, Readable(request, writes));
        }
    }

    [Theory, Conformance("SPLIT-04")]
    [InlineData(0x00)]
    [InlineData(0xff)]
    [InlineData(0x5a)]
    public void What_was_in_writable_buffers_makes_no_difference(byte poison)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        request.Data[..512].Fill(0x11);
        Assert.Equal(0, request.Write(0, 512).Status);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN);
        request.Data[..512].Fill(poison);
        request.StatusByte = poison;
        Assert.Equal(new Answer(0, 513), request.Run(request.Header, request.In(512), request.Status));
        Assert.Equal(-1, request.Data[..512].IndexOfAnyExcept((byte)0x11));

        // A write with writable data before its status, which no driver sends: it is neither stored nor changed.
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, 8);
        request.Data[512..1024].Fill(poison);
        Assert.Equal(0, request.Run(request.Header, request.Out(512), request.In(512, 512), request.Status).Status);
        Assert.Equal(request.Data[..512].ToArray(), device.Image.Read(8 * 512, 512));
        Assert.Equal(new byte[512], device.Image.Read(9 * 512, 512));
    }

    [Theory, Conformance("SPLIT-06")]
    [InlineData(false)]
    [InlineData(true)]
    public void A_WRITE_flag_on_the_way_to_an_indirect_table_means_nothing(bool flag)
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Indirect());
        RequestPlace request = new(session);
        SplitDriverRing ring = session.Queues[0].SplitRing;
        foreach (BlkRequestType type in new[] { BlkRequestType.VIRTIO_BLK_T_OUT, BlkRequestType.VIRTIO_BLK_T_IN })
        {
            bool writes = type == BlkRequestType.VIRTIO_BLK_T_OUT;
            request.Prepare(type).Data[..512].Fill(writes ? (byte)0x66 : (byte)0);
            Assert.True(ring.TryAddIndirect([request.Header, writes ? request.Out(512) : request.In(512), request.Status], out ushort head));
            if (flag)
            {
                Descriptor descriptor = ring.Raw.ReadDescriptor(head);
                ring.Raw.WriteDescriptor(head, descriptor with { Flags = descriptor.Flags | DescriptorFlags.VIRTQ_DESC_F_WRITE });
            }

            ring.Publish();
            session.Queues[0].Kick.Signal();
            Assert.Equal(writes ? 1u : 513u, request.TakeUsed().WrittenBytes);
            Assert.Equal(0, request.StatusByte);
            Assert.Equal(-1, request.Data[..512].IndexOfAnyExcept((byte)0x66));
        }
    }

    [Fact, Conformance("SPLIT-07")]
    public void Direct_descriptors_may_be_followed_by_a_table()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open(Indirect());
        RequestPlace request = new(session);
        request.Data[..1024].Fill(0x33);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT, 4);
        Assert.Equal(new Answer(0, 1), request.RunIndirect([request.Header], [request.Out(1024), request.Status]));
        Assert.Equal(request.Data[..1024].ToArray(), device.Image.Read(4 * 512, 1024));
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_IN, 4).Data[..1024].Clear();
        Assert.Equal(new Answer(0, 1025), request.RunIndirect([request.Header, request.In(512)], [request.In(512, 512), request.Status]));
        Assert.Equal(-1, request.Data[..1024].IndexOfAnyExcept((byte)0x33));
    }

    [Fact, Conformance("SPLIT-25")]
    public void An_indirect_table_is_followed_by_its_links_from_entry_0()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        SplitDriverRing ring = session.Queues[0].SplitRing;
        request.Data[..512].Fill(0x21);
        request.Data[512..1024].Fill(0x22);
        request.Prepare(BlkRequestType.VIRTIO_BLK_T_OUT);
        // 0 header, 3 first sector, 1 second sector, 4 status; 2 is nobody's.
        (int Entry, DriverBuffer Buffer, ushort Next)[] links = [(0, request.Header, 3), (3, request.Out(512), 1), (1, request.Out(512, 512), 4)];
        ulong table = session.Memory.Allocate(5 * 16);
        foreach ((int entry, DriverBuffer buffer, ushort next) in links)
        {
            WriteEntry(entry, buffer, DescriptorFlags.VIRTQ_DESC_F_NEXT, next);
        }

        WriteEntry(2, DriverBuffer.Writable(1ul << 50, 77), DescriptorFlags.VIRTQ_DESC_F_NEXT, 2);
        WriteEntry(4, request.Status, DescriptorFlags.VIRTQ_DESC_F_WRITE, 0);
        Assert.True(ring.TryAdd([DriverBuffer.Readable(table, 5 * 16)], out ushort head));
        ring.Raw.WriteDescriptor(head, new Descriptor { Address = table, LengthBytes = 5 * 16, Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT });
        ring.Publish();
        session.Queues[0].Kick.Signal();
        Assert.Equal(head, request.TakeUsed().Head);
        Assert.Equal(0, request.StatusByte);
        Assert.Equal(request.Data[..1024].ToArray(), device.Image.Read(0, 1024));

        void WriteEntry(int entry, DriverBuffer buffer, DescriptorFlags flags, ushort next)
        {
            Descriptor descriptor = new() { Address = buffer.GuestAddress, LengthBytes = buffer.LengthBytes, Flags = flags, Next = next };
            MemoryMarshal.Write(session.Memory.Span(table + ((ulong)entry * 16), 16), in descriptor);
        }
    }

    private static byte[] Readable(RequestPlace request, bool writes) => [.. request.HeaderSpan, .. writes ? request.Data[..512] : default];

    private static FrontendOptions Indirect() => new() { Driver = new BlkDriverOptions { UseIndirect = true } };

    private static IEnumerable<(int Offset, int Length)> Cut(Random random, int lengthBytes, int most)
    {
        for (int offset = 0; offset < lengthBytes;)
        {
            int length = most == 1 ? 1 : Math.Min(lengthBytes - offset, random.Next(1, most + 1));
            yield return (offset, length);
            offset += length;
        }
    }
}
