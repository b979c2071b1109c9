using FsCheck;
using FsCheck.Fluent;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// "The device MUST NOT make assumptions about the particular arrangement of descriptors" (VIRTIO 1.4, "Message Framing"): however a
/// request is cut, it parses to the same.
/// </summary>
public sealed unsafe class BlkRequestCutTests(ITestOutputHelper output)
{
    private const int IndirectEntries = 600;
    private const ulong AnySector = 0x0123_4567_89ab_cdef;

    /// <summary>A request as two streams of bytes, and where they are cut. Equal cuts make zero-length descriptors.</summary>
    /// <param name="Type">IN or OUT.</param>
    /// <param name="DataBytes">Length of its data.</param>
    /// <param name="ReadableCuts">Offsets into the readable stream.</param>
    /// <param name="WritableCuts">Offsets into the writable stream.</param>
    /// <param name="DirectCount">How many descriptors stand in the main table, before an indirect one.</param>
    /// <param name="Gap">Bytes between two buffers.</param>
    public sealed record CutRequest(BlkRequestType Type, int DataBytes, int[] ReadableCuts, int[] WritableCuts, int DirectCount, int Gap)
    {
        public override string ToString() =>
            $"{Type}, {DataBytes} bytes, readable cut at [{string.Join(' ', ReadableCuts)}], writable at [{string.Join(' ', WritableCuts)}], {DirectCount} direct, gap {Gap}";
    }

    [Fact]
    public void Any_cut_of_a_request_parses_to_the_same_request_with_the_same_bytes()
    {
        using var pair = new RingPair(1024, VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC, IndirectEntries);
        SeededProperty.Check(output, 2000, Prop.ForAll(Arb.From(Requests(), Shrink), request => ParsesToTheSame(pair, request)));
    }

    [Theory]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_OUT)]
    [InlineData(BlkRequestType.VIRTIO_BLK_T_IN)]
    public void A_request_of_one_byte_descriptors_parses(BlkRequestType type)
    {
        using var pair = new RingPair(1024);
        bool isWrite = type == BlkRequestType.VIRTIO_BLK_T_OUT;
        ParsesToTheSame(pair, new CutRequest(
            type, 512, [.. Enumerable.Range(1, isWrite ? 527 : 15)], [.. Enumerable.Range(1, isWrite ? 0 : 512)], int.MaxValue, 1));
    }

    private static Gen<CutRequest> Requests() =>
        from type in Gen.Elements(BlkRequestType.VIRTIO_BLK_T_IN, BlkRequestType.VIRTIO_BLK_T_OUT)
        from dataBytes in Gen.OneOf(Gen.Choose(0, 20), Gen.Choose(0, 2048), Gen.Constant(512))
        let readable = BlkRequest.HeaderBytes + (type == BlkRequestType.VIRTIO_BLK_T_OUT ? dataBytes : 0)
        let writable = 1 + (type == BlkRequestType.VIRTIO_BLK_T_IN ? dataBytes : 0)
        from readableCuts in Cuts(readable)
        from writableCuts in Cuts(writable)
        from direct in Gen.OneOf(Gen.Constant(0), Gen.Constant(int.MaxValue), Gen.Choose(1, 20))
        from gap in Gen.Choose(0, 3)
        select new CutRequest(type, dataBytes, readableCuts, writableCuts, direct, gap);

    private static Gen<int[]> Cuts(int streamBytes) =>
        from count in Gen.OneOf(Gen.Choose(0, 3), Gen.Choose(0, 20), Gen.Choose(100, 250))
        from cuts in Gen.Choose(0, streamBytes).ArrayOf(count)
        select cuts.Order().ToArray();

    private static IEnumerable<CutRequest> Shrink(CutRequest request)
    {
        for (int i = 0; i < request.ReadableCuts.Length; i++)
        {
            yield return request with { ReadableCuts = [.. request.ReadableCuts[..i], .. request.ReadableCuts[(i + 1)..]] };
        }

        for (int i = 0; i < request.WritableCuts.Length; i++)
        {
            yield return request with { WritableCuts = [.. request.WritableCuts[..i], .. request.WritableCuts[(i + 1)..]] };
        }
    }

    private static bool ParsesToTheSame(RingPair pair, CutRequest request)
    {
        bool isWrite = request.Type == BlkRequestType.VIRTIO_BLK_T_OUT;
        byte[] data = new byte[request.DataBytes];
        new Random(request.DataBytes).NextBytes(data);
        byte[] readable = new byte[BlkRequest.HeaderBytes + (isWrite ? data.Length : 0)];
        BitConverter.TryWriteBytes(readable, (uint)request.Type);
        BitConverter.TryWriteBytes(readable.AsSpan(4), 0x5555_5555);
        BitConverter.TryWriteBytes(readable.AsSpan(8), AnySector);
        data.AsSpan(0, isWrite ? data.Length : 0).CopyTo(readable.AsSpan(BlkRequest.HeaderBytes));
        int writableBytes = 1 + (isWrite ? 0 : data.Length);

        // The buffers lie around the border of two regions, so that some of them straddle it.
        ulong at = RingPair.Border - 700;
        var buffers = new List<DriverBuffer>();
        foreach ((int start, int end) in Pieces(request.ReadableCuts, readable.Length))
        {
            buffers.Add(DriverBuffer.Readable(at, (uint)(end - start)));
            pair.Write(at, readable.AsSpan(start, end - start));
            at += (ulong)(end - start + request.Gap);
        }

        foreach ((int start, int end) in Pieces(request.WritableCuts, writableBytes))
        {
            buffers.Add(DriverBuffer.Writable(at, (uint)(end - start)));
            at += (ulong)(end - start + request.Gap);
        }

        DriverBuffer[] chain = [.. buffers];
        int direct = Math.Min(request.DirectCount, chain.Length);
        Assert.True(pair.Driver.TryAddMixed(chain.AsSpan(0, direct), chain.AsSpan(direct), out ushort head));
        pair.Driver.Publish();
        DescriptorChain popped = pair.Pop();
        Assert.Equal(head, popped.Slot);
        Assert.True(BlkRequest.TryParse(in popped, out BlkRequest parsed, out BlkParseError error), error.ToString());
        Assert.Equal((request.Type, AnySector), (parsed.Type, parsed.Sector));
        Assert.Equal(isWrite ? (uint)data.Length : 0, parsed.DataOutBytes);
        Assert.Equal(isWrite ? 0 : (uint)data.Length, parsed.DataInBytes);
        Assert.Equal(parsed.DataOutBytes, Sum(parsed.DataOut, parsed.DataOutCount));
        Assert.Equal(parsed.DataInBytes, Sum(parsed.DataIn, parsed.DataInCount));
        if (isWrite)
        {
            byte[] arrived = new byte[data.Length];
            Iovec.Gather(parsed.DataOut, parsed.DataOutCount, arrived);
            Assert.Equal(data, arrived);
        }
        else
        {
            Assert.Equal(data.Length, Iovec.Scatter(data, parsed.DataIn, parsed.DataInCount));
        }

        uint usedBytes = parsed.Reply.Finish(BlkStatus.VIRTIO_BLK_S_OK, parsed.DataInBytes);
        Assert.Equal((uint)writableBytes, usedBytes);
        pair.Complete(head, usedBytes);
        byte[] written = [.. buffers.Where(buffer => buffer.DeviceWritable).SelectMany(buffer => pair.Read(buffer.GuestAddress, (int)buffer.LengthBytes))];
        Assert.Equal(isWrite ? [0] : [.. data, 0], written);
        return true;
    }

    private static IEnumerable<(int Start, int End)> Pieces(int[] cuts, int streamBytes)
    {
        int start = 0;
        foreach (int cut in cuts.Select(cut => Math.Min(cut, streamBytes)).Append(streamBytes))
        {
            yield return (start, cut);
            start = cut;
        }
    }

    private static uint Sum(Iovec* pieces, int count)
    {
        uint sum = 0;
        for (int i = 0; i < count; i++)
        {
            Assert.NotEqual((nuint)0, pieces[i].LengthBytes);
            sum += (uint)pieces[i].LengthBytes;
        }

        return sum;
    }
}
