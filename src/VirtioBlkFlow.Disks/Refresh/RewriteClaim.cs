namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>A range that is being read and written again: nobody else may change it meanwhile.</summary>
/// <param name="startBytes">First byte.</param>
/// <param name="endBytes">Behind the last byte.</param>
internal sealed class RewriteClaim(ulong startBytes, ulong endBytes)
{
    /// <summary>Whether a request would change the range. Requests to zones are not looked into: such disks are not rewritten.</summary>
    public unsafe bool IsChangedBy(in DiskRequest request)
    {
        switch (request.Operation)
        {
            case DiskOperation.Read:
            case DiskOperation.Flush:
            case DiskOperation.ZoneReport:
                return false;
            case DiskOperation.Write:
                return Overlaps(request.OffsetBytes, request.LengthBytes);
            case DiskOperation.Discard:
            case DiskOperation.WriteZeroes:
            case DiskOperation.SecureErase:
                foreach (DiskRange range in new ReadOnlySpan<DiskRange>(request.Ranges, request.RangeCount))
                {
                    if (Overlaps(range.OffsetBytes, range.LengthBytes))
                    {
                        return true;
                    }
                }

                return false;
            default:
                return true;
        }
    }

    // A request that was checked against a larger disk may begin anywhere; none is so long that the sum would wrap.
    private bool Overlaps(ulong offsetBytes, ulong lengthBytes) => offsetBytes < endBytes && startBytes < offsetBytes + lengthBytes;
}
