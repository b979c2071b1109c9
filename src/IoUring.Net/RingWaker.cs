namespace IoUring;

/// <summary>
/// Wakes the thread that waits on a ring, from any other thread: an eventfd under a multishot poll. It is never read; each write
/// to an eventfd wakes its pollers anew, whatever its counter says (io_uring_prep_poll_multishot(3)).
/// </summary>
/// <remarks>All but <see cref="Wake"/> belongs to the ring's thread.</remarks>
public sealed unsafe class RingWaker : IDisposable
{
    private readonly Ring _ring;
    private readonly ulong _userData;

    // Shared: a wake must not write to a descriptor that was closed and given to somebody else meanwhile.
    private readonly Lock _closing = new();
    private int _descriptor;

    /// <summary>Creates and arms a waker.</summary>
    /// <param name="ring">The ring to wake.</param>
    /// <param name="userData">Comes back in the completion of a wake.</param>
    /// <exception cref="IoUringException">No descriptor is to be had, or the submission queue is full.</exception>
    public RingWaker(Ring ring, ulong userData)
    {
        _ring = ring;
        _userData = userData;
        _descriptor = Syscalls.eventfd(0, Syscalls.EFD_CLOEXEC_NONBLOCK);
        if (_descriptor < 0)
        {
            throw IoUringException.From("eventfd(2)", Marshal.GetLastPInvokeError());
        }

        try
        {
            Arm();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Makes the ring complete, now or at its next wait. From any thread, also while or after the waker is disposed.</summary>
    public void Wake()
    {
        ulong one = 1;
        lock (_closing)
        {
            // A full counter (EAGAIN) means that a wake is pending already.
            if (_descriptor >= 0)
            {
                Syscalls.write(_descriptor, &one, sizeof(ulong));
            }
        }
    }

    /// <summary>
    /// To be called with each completion that carries this waker's user data: arms it again if it has ended, unless it was cancelled or
    /// this waker is disposed.
    /// </summary>
    /// <exception cref="IoUringException">The kernel refused the poll; to ask again would never end.</exception>
    public void OnCompletion(in CompletionEntry completion)
    {
        if (completion.Result is < 0 and not -Syscalls.ECANCELED)
        {
            throw IoUringException.From("Polling the waker's eventfd", -completion.Result);
        }

        bool hasEnded = (completion.Flags & CompletionFlags.IORING_CQE_F_MORE) == 0;
        if (hasEnded && completion.Result >= 0 && _descriptor >= 0)
        {
            Arm();
        }
    }

    /// <summary>Closes the descriptor. The ring is disposed with or after it; its poll ends with the ring.</summary>
    public void Dispose()
    {
        lock (_closing)
        {
            if (_descriptor >= 0)
            {
                Syscalls.close(_descriptor);
                _descriptor = -1;
            }
        }
    }

    private void Arm()
    {
        if (!_ring.TryGetEntry(out SubmissionEntry* entry))
        {
            _ring.Submit();
            if (!_ring.TryGetEntry(out entry))
            {
                throw new IoUringException("The submission queue is full and takes no waker.");
            }
        }

        entry->PreparePollAdd(_descriptor, SubmissionEntry.POLLIN, multishot: true, _userData);
    }
}
