using System.Runtime.CompilerServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>A request in a disk's words, for the servers that are not the pipeline: reads, writes and flushes.</summary>
internal static unsafe class RequestPlan
{
    /// <summary>Checks a request and says what to ask of the disk.</summary>
    /// <param name="request">As it was parsed.</param>
    /// <param name="limits">What it is checked against.</param>
    /// <param name="io">What to ask of the disk, if the status is OK.</param>
    /// <returns>OK, or the status the request is answered with at once.</returns>
    // Into the hand-written loop, where it came from.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlkStatus Of(in BlkRequest request, BlkLimits limits, out DiskRequest io)
    {
        io = default;
        switch (request.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                io.Operation = DiskOperation.Read;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataIn;
                io.PieceCount = request.DataInCount;
                io.LengthBytes = request.DataInBytes;
                return limits.CheckTransfer(request.Sector, request.DataInBytes);
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                io.Operation = DiskOperation.Write;
                io.OffsetBytes = request.Sector * BlkRequest.SectorBytes;
                io.Pieces = request.DataOut;
                io.PieceCount = request.DataOutCount;
                io.LengthBytes = request.DataOutBytes;
                return limits.ReadOnly ? BlkStatus.VIRTIO_BLK_S_IOERR : limits.CheckTransfer(request.Sector, request.DataOutBytes);
            case BlkRequestType.VIRTIO_BLK_T_FLUSH:
                io.Operation = DiskOperation.Flush;
                return BlkStatus.VIRTIO_BLK_S_OK;
            default:
                return BlkStatus.VIRTIO_BLK_S_UNSUPP;
        }
    }
}
