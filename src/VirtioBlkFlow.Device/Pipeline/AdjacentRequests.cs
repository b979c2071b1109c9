using VirtioBlkFlow.Disks;

namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>
/// Finds reads or writes of a batch that lie one behind the other on the disk, and makes one request of them. For 4 KiB requests in sequence
/// most of the cost is per operation of the kernel, so this saves a third of the CPU and more.
/// </summary>
/// <remarks>
/// The run travels in the slot of its first request. Its list of pieces is its own, in memory that belongs to the batch, so that the requests
/// keep theirs: if the run fails each is done again alone, and one bad sector fails one request.
/// </remarks>
internal static unsafe class AdjacentRequests
{
    /// <summary>
    /// Longest run in bytes. Longer ones save nothing more, and all of a run completes at its end. Arbitrary between 128 KiB, where the cost
    /// per operation has all but vanished, and what a disk takes in one piece.
    /// </summary>
    public const uint MaxRunBytes = 256 << 10;

    /// <summary>How many requests, from <paramref name="first"/> on, are one run; 1 if the next does not fit.</summary>
    public static int CountRun(RequestTable table, ReadOnlySpan<ushort> slots, int first)
    {
        if (first + 1 >= slots.Length)
        {
            return 1;
        }

        ref readonly DiskRequest head = ref table[slots[first]].Io;
        ref readonly RequestSlot next = ref table[slots[first + 1]];
        return next.Io.OffsetBytes == head.OffsetBytes + head.LengthBytes && IsTransfer(head.Operation) ? CountLonger(table, slots, first) : 1;
    }

    /// <summary>Makes one request of a run; its pieces are added to <paramref name="pieces"/>.</summary>
    /// <returns>The request, and how many of the requests found room in it: at least one.</returns>
    public static (DiskRequest Request, int Count) Join(RequestTable table, ReadOnlySpan<ushort> run, PieceArena pieces)
    {
        DiskRequest joined = table[run[0]].Io;
        joined.Pieces = pieces.Next;
        joined.PieceCount = 0;
        joined.LengthBytes = 0;
        int count = 0;
        foreach (ushort number in run)
        {
            ref readonly DiskRequest request = ref table[number].Io;
            if (!pieces.TryAdd(request.Pieces, request.PieceCount))
            {
                break;
            }

            joined.PieceCount += request.PieceCount;
            joined.LengthBytes += request.LengthBytes;
            count++;
        }

        return (joined, count);
    }

    private static bool IsTransfer(DiskOperation operation) => operation is DiskOperation.Read or DiskOperation.Write;

    private static int CountLonger(RequestTable table, ReadOnlySpan<ushort> slots, int first)
    {
        ref readonly RequestSlot head = ref table[slots[first]];
        ulong bytes = head.Io.LengthBytes;
        int count = 1;
        while (first + count < slots.Length)
        {
            ref readonly RequestSlot next = ref table[slots[first + count]];
            // A decided request was answered by the parser; what its other fields say is of an earlier one.
            if (next.IsDecided || next.Io.Operation != head.Io.Operation || next.Io.Durable != head.Io.Durable
                || next.Io.OffsetBytes != head.Io.OffsetBytes + bytes || bytes + next.Io.LengthBytes > MaxRunBytes)
            {
                break;
            }

            bytes += next.Io.LengthBytes;
            count++;
        }

        return count;
    }
}
