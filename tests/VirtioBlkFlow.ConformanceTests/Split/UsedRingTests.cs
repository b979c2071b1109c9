using System.Runtime.CompilerServices;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.ConformanceTests.Split;

/// <summary>What stands in the used ring, and when.</summary>
public class UsedRingTests
{
    [Fact, Conformance("SPLIT-14")]
    public void Element_and_data_are_there_when_the_index_says_so()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        FrontendQueue queue = session.Queues[0];
        for (int round = 0; round < 5000; round++)
        {
            ushort index = queue.SplitRing.Raw.UsedIndex;
            Unsafe.WriteUnaligned(ref session.Memory.Span(queue.Ring.DeviceAreaAddress + 4 + (8ul * (ulong)(index % queue.Ring.QueueSize)), 8)[0], ulong.MaxValue);
            request.Prepare(BlkRequestType.VIRTIO_BLK_T_GET_ID);
            ushort head = request.Send(request.Header, request.In(20), request.Status);
            // The tightest look there is: no kernel between the device's store and this read.
            while (queue.SplitRing.Raw.UsedIndex == index)
            {
                Thread.SpinWait(1);
            }

            (uint id, uint lengthBytes) = queue.SplitRing.Raw.ReadUsedElement(index);
            Assert.Equal(head, id);
            Assert.Equal(21u, lengthBytes);
            Assert.Equal(0, request.StatusByte);
            Assert.True(queue.Ring.TryTakeUsed(out _));
        }
    }

    [Fact, Conformance("SPLIT-15", "SPLIT-16")]
    public void As_many_bytes_as_the_length_counts_were_written_and_none_outside_the_buffers()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        RequestPlace request = new(session);
        const int Guard = 64;
        (BlkRequestType Type, ulong Sector, int DataBytes, Func<IoKind, int, int>? Host)[] cases =
        [
            (BlkRequestType.VIRTIO_BLK_T_IN, 0, 512, null),
            (BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096, null),
            (BlkRequestType.VIRTIO_BLK_T_IN, 1ul << 40, 512, null),
            (BlkRequestType.VIRTIO_BLK_T_IN, 0, 4096, (kind, result) => kind == IoKind.Read ? -5 : result),
            (BlkRequestType.VIRTIO_BLK_T_IN, 0, 100, null),
            (BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, 20, null),
            (BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, 512, null),
            (BlkRequestType.VIRTIO_BLK_T_FLUSH, 0, 512, null),
            ((BlkRequestType)99, 0, 512, null),
        ];
        foreach ((BlkRequestType type, ulong sector, int dataBytes, Func<IoKind, int, int>? host) in cases)
        {
            device.Disk.Answer(host ?? ((_, result) => result));
            byte[][] runs = new byte[2][];
            uint usedBytes = 0;
            for (int run = 0; run < 2; run++)
            {
                byte poison = (byte)(run == 0 ? 0xaa : 0x55);
                request.Prepare(type, sector).Data.Fill(poison);
                usedBytes = request.Run(request.Header, request.In(dataBytes + 1, Guard)).UsedBytes;
                runs[run] = request.Data[..(dataBytes + 1 + (2 * Guard))].ToArray();
                Assert.Equal(-1, runs[run].AsSpan(0, Guard).IndexOfAnyExcept(poison));
                Assert.Equal(-1, runs[run].AsSpan(Guard + dataBytes + 1).IndexOfAnyExcept(poison));
                Assert.NotEqual(poison, runs[run][Guard + dataBytes]);
            }

            // What is the same over two poisons was written.
            Assert.Equal(runs[0][Guard..(Guard + (int)usedBytes)], runs[1][Guard..(Guard + (int)usedBytes)]);
        }
    }

    [Fact, Conformance("SPLIT-22")]
    public void What_completes_first_comes_back_first_and_each_head_once()
    {
        using ServedDevice device = new();
        using FrontendSession session = device.Open();
        device.Disk.Hold(operation => operation == DiskOperation.Read);
        RequestPlace slow = new(session);
        RequestPlace fast = new(session);
        ushort slowHead = slow.Send(slow.Header, slow.In(512), slow.Status);
        Await.Until(() => device.Disk.HeldCount == 1, "the read reaches the disk");
        fast.Data[..512].Fill(9);
        for (ushort i = 1; i <= 3; i++)
        {
            Assert.Equal(new Answer(0, 1), fast.Write(8, 512));
            Assert.Equal(i, session.Queues[0].SplitRing.Raw.UsedIndex);
        }

        Assert.Equal(RequestPlace.NotWritten, slow.StatusByte);
        device.Release();
        Assert.Equal(new UsedChain(slowHead, 513), slow.TakeUsed());
        Assert.Equal(4, session.Queues[0].SplitRing.Raw.UsedIndex);
    }

    [Theory, Conformance("SPLIT-23", "SPLIT-24", "VU-54")]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(256)]
    [InlineData(1024)]
    [InlineData(32768)]
    public void Indices_wrap_at_65536_in_queues_of_every_size(int size)
    {
        const ushort Start = 65530;
        using ServedDevice device = new();
        using FrontendSession session = device.Open(new FrontendOptions { QueueCount = 0 });
        BlkDriverOptions options = new() { QueueDepth = Math.Min(size, 8), MaxTransferBytes = 512, UseIndirect = true };
        using FrontendQueue queue = new(session.Memory, 0, size, session.Negotiation.RingFeatures, indirectEntries: 3, startIndex: Start);
        BlkDriver driver = new(session.Memory, queue, options);
        queue.Start(session.Frontend);
        ShadowDisk shadow = new(4);
        VerifiedTraffic traffic = new(driver, shadow, 0, shadow.SectorCount, seed: size);
        traffic.Run(1000);
        Assert.Equal(unchecked((ushort)(Start + 1000)), queue.SplitRing.Raw.UsedIndex);
        Assert.Equal(unchecked((ushort)(Start + 1000)), queue.Stop(session.Frontend));
        shadow.AssertEqualTo(device.Image);
    }
}
