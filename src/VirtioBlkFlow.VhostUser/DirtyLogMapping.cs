namespace VirtioBlkFlow.VhostUser;

/// <summary>
/// The dirty log, mapped into this process: one bit for each 4096 bytes of guest-physical memory, byte <c>address / 4096 / 8</c>, bit
/// <c>address / 4096 % 8</c>. Set atomically, because the front-end takes words out meanwhile (vhost-user.rst, "Migration").
/// </summary>
/// <remarks>
/// A page beyond its end has no bit, and a write to it cannot be logged: the log is the front-end's to size, and not checked against
/// guest memory, which may grow after it.
/// </remarks>
/// <param name="Address">Host address of the first byte, 8-byte aligned.</param>
/// <param name="LengthBytes">Length in bytes, at least 1.</param>
public readonly record struct DirtyLogMapping(nint Address, ulong LengthBytes)
{
    /// <summary>VHOST_LOG_PAGE: bytes of guest memory that share a bit (vhost-user.rst, "Migration").</summary>
    public const ulong PageBytes = 4096;

    /// <summary>Whether every page of a range has a bit.</summary>
    /// <param name="guestAddress">Guest-physical address of the first byte, of whatever value.</param>
    /// <param name="lengthBytes">Length in bytes.</param>
    public bool Covers(ulong guestAddress, ulong lengthBytes)
    {
        if (lengthBytes == 0)
        {
            return true;
        }

        // The last byte decides; the address is the peer's, so the sum must not run past the end.
        var last = lengthBytes - 1;
        return guestAddress <= ulong.MaxValue - last && (guestAddress + last) / PageBytes / 8 < LengthBytes;
    }
}

/// <summary>
/// A queue whose writes to the used ring are marked in the dirty log: VHOST_VRING_F_LOG of SET_VRING_ADDR. A write at offset <c>n</c>
/// of the used ring is one to guest address <paramref name="GuestAddress"/> + <c>n</c>, whether or not a memory region holds it.
/// </summary>
/// <remarks>
/// The whole used ring, with avail_event, was checked to lie within the log. Of a packed ring it is the device event area, 4 bytes, and
/// the document does not say under which address the descriptor ring is to be logged.
/// </remarks>
/// <param name="QueueIndex">Number of the queue.</param>
/// <param name="GuestAddress">The log address of SET_VRING_ADDR.</param>
public readonly record struct LoggedUsedRing(int QueueIndex, ulong GuestAddress);
