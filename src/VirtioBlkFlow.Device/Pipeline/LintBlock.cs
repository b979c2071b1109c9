using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Stage between notify and parse, linked in only when asked for: looks for what is against the specification in requests that are
/// served all the same. What is refused is explained where it is refused. Changes nothing, and allocates nothing but for the first
/// occurrence of a rule.
/// </summary>
/// <remarks>
/// Headers and segments are read here and again where they are parsed. A driver that changes them in between can only accuse itself.
/// </remarks>
public sealed class LintBlock : ReactorBlock<RequestBatch, RequestBatch>
{
    // Fixed at construction.
    private readonly Virtqueue _virtqueue;
    private readonly QueueLint _lint;
    private readonly uint _segMax;
    private readonly uint _sizeMax;
    private readonly uint _discardAlignment;
    private readonly bool _limitsChains;

    internal LintBlock(string name, TaskScheduler scheduler, Virtqueue virtqueue, QueueLint lint)
        : base(name, scheduler)
    {
        _virtqueue = virtqueue;
        _lint = lint;
        OfferedShape shape = lint.Device.Shape;
        _segMax = lint.Has(BlkFeatures.VIRTIO_BLK_F_SEG_MAX & (BlkFeatures)shape.Features) ? shape.SegMax : uint.MaxValue;
        _sizeMax = lint.Has(BlkFeatures.VIRTIO_BLK_F_SIZE_MAX & (BlkFeatures)shape.Features) ? shape.SizeMax : uint.MaxValue;
        _discardAlignment = Math.Max(1, shape.DiscardAlignmentSectors);
        // For a packed ring the specification limits the list in the ring, and not clearly the table.
        _limitsChains = (lint.Features & VirtioFeatures.VIRTIO_F_RING_PACKED) == 0;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    protected override void Process(RequestBatch message)
    {
        if (LintRules.Of(_virtqueue.CheckDriverEvent()) is { } rule)
        {
            _lint.Count(rule);
        }

        for (int i = 0; i < message.Count; i++)
        {
            Check(in message.ChainAt(i));
        }

        Emit(message);
    }

    private unsafe void Check(in DescriptorChain chain)
    {
        if (_limitsChains && chain.DescriptorCount > _virtqueue.QueueSize)
        {
            _lint.Count(LintRule.RingChainLength, chain.DescriptorCount, (uint)_virtqueue.QueueSize);
        }

        if (chain.Faults != ChainFaults.None || chain.WritableBytes == 0 || chain.ReadableBytes < BlkRequest.HeaderBytes)
        {
            return;
        }

        Span<ulong> header = stackalloc ulong[BlkRequest.HeaderBytes / sizeof(ulong)];
        Iovec.Gather(chain.Pieces, chain.ReadableCount, MemoryMarshal.AsBytes(header));
        var type = (BlkRequestType)(uint)header[0];
        ulong sector = header[1];
        uint dataInBytes = chain.WritableBytes - 1;
        uint dataOutBytes = chain.ReadableBytes - BlkRequest.HeaderBytes;
        CheckFeature(type);
        switch (type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                CheckPieces(in chain, chain.Writable, chain.WritableCount, leading: 0, trailing: 1);
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT:
            case BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND:
                CheckPieces(in chain, chain.Pieces, chain.ReadableCount, leading: BlkRequest.HeaderBytes, trailing: 0);
                break;
            case BlkRequestType.VIRTIO_BLK_T_FLUSH:
                CountIf(sector != 0, LintRule.BlkFlushSector, sector);
                CountIf(dataInBytes + (ulong)dataOutBytes > 0, LintRule.BlkFlushData, dataInBytes + (ulong)dataOutBytes);
                break;
            case BlkRequestType.VIRTIO_BLK_T_GET_ID:
                CountIf(dataInBytes != ParseBlock.IdBytes, LintRule.BlkIdLength, dataInBytes);
                break;
            case BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL:
                CountIf(sector != 0, LintRule.BlkResetAllSector, sector);
                break;
            case BlkRequestType.VIRTIO_BLK_T_DISCARD when _lint.Has(BlkFeatures.VIRTIO_BLK_F_DISCARD):
                CheckDiscard(in chain);
                break;
        }
    }

    // A type that is not even offered is refused, and explained there.
    private void CheckFeature(BlkRequestType type)
    {
        BlkFeatures feature = LintRules.FeatureOf(type);
        if (feature != BlkFeatures.None && !_lint.Has(feature) && ((ulong)feature & _lint.Device.Shape.Features) != 0)
        {
            _lint.CountNotNegotiated(type, feature);
        }
    }

    // Data segments are descriptors. A piece is never more than one, but one descriptor may be several pieces; so neither number may be
    // taken alone, and the smaller of both counts is what there is at least.
    private unsafe void CheckPieces(in DescriptorChain chain, Iovec* pieces, int count, uint leading, uint trailing)
    {
        int dataPieces = 0;
        ulong largest = 0;
        for (int i = 0; i < count; i++)
        {
            ulong bytes = pieces[i].LengthBytes;
            ulong skipped = Math.Min(bytes, leading);
            leading -= (uint)skipped;
            bytes -= skipped;
            bytes -= i == count - 1 ? Math.Min(bytes, trailing) : 0;
            dataPieces += bytes > 0 ? 1 : 0;
            largest = Math.Max(largest, bytes);
        }

        int otherPieces = chain.ReadableCount + chain.WritableCount - dataPieces;
        int segments = Math.Min(dataPieces, chain.DescriptorCount - otherPieces);
        CountIf(segments > _segMax, LintRule.BlkSegMax, (ulong)Math.Max(segments, 0), _segMax);
        CountIf(largest > _sizeMax, LintRule.BlkSizeMax, largest, _sizeMax);
    }

    private unsafe void CheckDiscard(in DescriptorChain chain)
    {
        Span<byte> bytes = stackalloc byte[BlkRequest.HeaderBytes + (BlkLimits.MaxSegments * BlkSegment.SizeBytes)];
        int copied = Iovec.Gather(chain.Pieces, chain.ReadableCount, bytes);
        ReadOnlySpan<byte> list = bytes[BlkRequest.HeaderBytes..copied];
        foreach (ref readonly BlkSegment segment in MemoryMarshal.Cast<byte, BlkSegment>(list))
        {
            if (segment.Sector % _discardAlignment != 0)
            {
                _lint.Count(LintRule.BlkDiscardAlignment, segment.Sector, _discardAlignment);
                return;
            }
        }
    }

    private void CountIf(bool condition, LintRule rule, ulong first = 0, ulong second = 0)
    {
        if (condition)
        {
            _lint.Count(rule, first, second);
        }
    }
}
