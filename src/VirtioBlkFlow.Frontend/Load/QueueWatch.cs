namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// What a queue's thread waits for besides its ring: a call, the end of the back-end, a ring the back-end gave up. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class QueueWatch
{
    private const int CallPlace = 0;
    private const int ErrorPlace = 1;
    private const int SocketPlace = 2;
    private const long NsPerSecond = 1_000_000_000;

    private readonly int _queue;
    private readonly EventDescriptor _call;
    private readonly NativeMethods.PollDescriptor[] _polls;

    /// <summary>Prepares.</summary>
    /// <param name="queue">Number of the queue, for complaints.</param>
    /// <param name="call">Its call descriptor.</param>
    /// <param name="error">Its err descriptor.</param>
    /// <param name="socket">The connection; a negative number for none.</param>
    public QueueWatch(int queue, EventDescriptor call, EventDescriptor error, int socket)
    {
        _queue = queue;
        _call = call;
        _polls =
        [
            new() { Descriptor = NumberOf(call), Events = NativeMethods.POLLIN },
            new() { Descriptor = NumberOf(error), Events = NativeMethods.POLLIN },
            new() { Descriptor = socket, Events = NativeMethods.POLLIN },
        ];
    }

    /// <summary>Sleeps until a call comes or the time is over.</summary>
    /// <returns>The calls that came.</returns>
    /// <exception cref="LoadException">The back-end is gone, or gave the ring up.</exception>
    public ulong Sleep(long timeoutNs) => Poll(CallPlace, timeoutNs) ? _call.Take() : 0;

    /// <summary>Calls that came and were not waited for.</summary>
    public ulong TakeCalls() => _call.Take();

    /// <summary>Looks whether the back-end is still there.</summary>
    /// <exception cref="LoadException">It is gone, or gave the ring up.</exception>
    public void Check() => Poll(ErrorPlace, 0);

    private static int NumberOf(EventDescriptor descriptor) => (int)descriptor.Handle.DangerousGetHandle();

    private bool Poll(int first, long timeoutNs)
    {
        var timeout = new NativeMethods.TimeSpec { Seconds = timeoutNs / NsPerSecond, Nanoseconds = timeoutNs % NsPerSecond };
        fixed (NativeMethods.PollDescriptor* polls = _polls)
        {
            int ready = NativeMethods.PollWithTime(polls + first, (nuint)(_polls.Length - first), &timeout, null);
            // The runtime's own signals interrupt ppoll(2): the caller looks at everything again anyway.
            if (ready < 0 && Marshal.GetLastPInvokeError() != NativeMethods.EINTR)
            {
                throw NativeMethods.LastError("ppoll");
            }

            if (ready <= 0)
            {
                return false;
            }
        }

        if (_polls[SocketPlace].ReturnedEvents != 0)
        {
            throw new LoadException("The back-end closed the connection, or ended, in the middle of the run: its own log may say why.");
        }

        if (_polls[ErrorPlace].ReturnedEvents != 0)
        {
            throw new LoadException($"The back-end gave up queue {_queue}: it signalled the queue's err descriptor.");
        }

        return first == CallPlace && _polls[CallPlace].ReturnedEvents != 0;
    }
}
