using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device.Lint;

/// <summary>What a device has offered, beyond the limits that requests are checked against.</summary>
/// <param name="Features">Features; they do not change with the size.</param>
/// <param name="SegMax">seg_max.</param>
/// <param name="SizeMax">size_max; only with its feature.</param>
/// <param name="DiscardAlignmentSectors">discard_sector_alignment; 0 if DISCARD is not offered.</param>
internal readonly record struct OfferedShape(ulong Features, uint SegMax, uint SizeMax, uint DiscardAlignmentSectors);

/// <summary>The linter of a device, as its queues need it.</summary>
/// <param name="Lint">Counts and logs.</param>
/// <param name="Limits">What requests are checked against.</param>
/// <param name="Shape">What was offered besides.</param>
/// <param name="ChecksRequests">Whether requests that are served are looked at too, which takes a stage of its own.</param>
internal sealed record DeviceLint(SpecLint Lint, ServedLimits Limits, OfferedShape Shape, bool ChecksRequests);

/// <summary>
/// Says which rule a request that was refused, or a ring that broke, has broken. Called where something has gone wrong anyway, and costs
/// nothing elsewhere. Owned by the queue's thread.
/// </summary>
internal sealed class QueueLint(DeviceLint device, int queue, VirtioFeatures features)
{
    /// <summary>The device's linter.</summary>
    public DeviceLint Device => device;

    /// <summary>What was negotiated.</summary>
    public VirtioFeatures Features => features;

    /// <summary>Whether a feature was negotiated.</summary>
    public bool Has(BlkFeatures feature) => ((ulong)features & (ulong)feature) != 0;

    /// <summary>A rule was broken.</summary>
    public void Count(LintRule rule, ulong first = 0, ulong second = 0) => device.Lint.Count(rule, queue, first, second);

    /// <summary>The ring cannot be served any further.</summary>
    public void OnDefect(RingDefect defect)
    {
        if (LintRules.Of(defect) is { } rule)
        {
            Count(rule);
        }
    }

    /// <summary>A chain is no request.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public void OnUnparsed(in DescriptorChain chain, BlkParseError error)
    {
        // Not that a chain is too long: our limit is one byte below the specification's.
        if ((chain.Faults & ChainFaults.Unmapped) != 0)
        {
            Count(LintRule.RingUnmapped);
        }
        else if ((chain.Faults & ChainFaults.ReadableAfterWritable) != 0)
        {
            Count(LintRule.RingWritableFirst);
        }
        else if (error == BlkParseError.NoStatusByte)
        {
            Count(LintRule.BlkStatusByte);
        }
        else if (error == BlkParseError.ShortHeader)
        {
            Count(LintRule.BlkHeader, chain.ReadableBytes);
        }
    }

    /// <summary>A request was refused while it was parsed. Not every refusal is the driver's fault.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public void OnRefused(in BlkRequest request, BlkLimits limits)
    {
        switch (request.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                ExplainTransfer(in request, request.DataInBytes, limits);
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT when limits.ReadOnly:
                Count(LintRule.BlkReadOnly, (uint)request.Type);
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                ExplainTransfer(in request, request.DataOutBytes, limits);
                break;
            default:
                BlkFeatures feature = LintRules.FeatureOf(request.Type);
                if (feature != BlkFeatures.None && !Has(feature))
                {
                    CountNotNegotiated(request.Type, feature);
                }
                else
                {
                    ExplainSegments(in request, limits);
                }

                break;
        }
    }

    /// <summary>A request belongs to a feature that was not negotiated.</summary>
    public void CountNotNegotiated(BlkRequestType type, BlkFeatures feature) =>
        Count(LintRule.BlkNotNegotiated, (uint)type, (uint)BitOperations.TrailingZeroCount((ulong)feature));

    private void ExplainTransfer(in BlkRequest request, uint dataBytes, BlkLimits limits)
    {
        if (dataBytes % BlkRequest.SectorBytes != 0)
        {
            Count(LintRule.BlkDataLength, dataBytes);
        }
        else
        {
            ExplainRange(request.Sector, dataBytes / BlkRequest.SectorBytes, limits);
        }
    }

    private void ExplainRange(ulong sector, uint sectors, BlkLimits limits)
    {
        // A driver that has not heard yet that the disk shrank is innocent.
        ulong capacity = device.Limits.LargestCapacitySectors;
        uint blockSectors = limits.LogicalBlockBytes / BlkRequest.SectorBytes;
        if (sector > capacity || sectors > capacity - sector)
        {
            Count(LintRule.BlkCapacity, sector, sectors);
        }
        else if (Has(BlkFeatures.VIRTIO_BLK_F_BLK_SIZE) && ((sector | sectors) & (blockSectors - 1)) != 0)
        {
            Count(LintRule.BlkBlockAlignment, sector, limits.LogicalBlockBytes);
        }
    }

    // The first mistake in the order in which the requests are checked.
    private unsafe void ExplainSegments(in BlkRequest request, BlkLimits limits)
    {
        SegmentLimits? offered = request.Type switch
        {
            BlkRequestType.VIRTIO_BLK_T_DISCARD => limits.Discard,
            BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES => limits.WriteZeroes,
            BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE => limits.SecureErase,
            _ => null,
        };
        if (offered is not { MaxSectors: > 0 } most)
        {
            return;
        }

        if (request.DataOutBytes == 0 || request.DataOutBytes % BlkSegment.SizeBytes != 0)
        {
            Count(LintRule.BlkSegmentList, request.DataOutBytes);
            return;
        }

        // Read a second time, but only to accuse: a driver that changes what it has sent breaks another rule anyway.
        Span<BlkSegment> segments = stackalloc BlkSegment[BlkLimits.MaxSegments];
        int copied = Iovec.Gather(request.DataOut, request.DataOutCount, MemoryMarshal.AsBytes(segments));
        segments = segments[..(copied / BlkSegment.SizeBytes)];
        foreach (ref readonly BlkSegment segment in segments)
        {
            if ((segment.Flags & ~BlkSegment.UnmapFlag) != 0)
            {
                Count(LintRule.BlkSegmentFlags, segment.Flags);
                return;
            }

            if (segment.Flags != 0 && request.Type == BlkRequestType.VIRTIO_BLK_T_DISCARD)
            {
                Count(LintRule.BlkDiscardUnmap, segment.Flags);
                return;
            }
        }

        uint count = request.DataOutBytes / BlkSegment.SizeBytes;
        if (count > most.MaxSegments)
        {
            Count(LintRule.BlkSegmentCount, count, most.MaxSegments);
            return;
        }

        foreach (ref readonly BlkSegment segment in segments)
        {
            if (segment.SectorCount > most.MaxSectors)
            {
                Count(LintRule.BlkSegmentSectors, segment.SectorCount, most.MaxSectors);
                return;
            }

            ExplainRange(segment.Sector, segment.SectorCount, limits);
        }
    }
}
