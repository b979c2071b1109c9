namespace VirtioBlkFlow.Frontend;

/// <summary>Waiting on a descriptor with poll(2) and a deadline.</summary>
internal static unsafe class DescriptorWait
{
    /// <summary>Waits until a descriptor is readable, or its other end is gone.</summary>
    /// <returns>False when the deadline passed first.</returns>
    public static bool UntilReadable(int descriptor, Deadline deadline)
    {
        var poll = new NativeMethods.PollDescriptor { Descriptor = descriptor, Events = NativeMethods.POLLIN };
        while (true)
        {
            int ready = NativeMethods.Poll(&poll, 1, deadline.RemainingMs);
            if (ready > 0)
            {
                return true;
            }

            if (ready == 0 && deadline.HasPassed)
            {
                return false;
            }

            // EINTR: the runtime's own signals interrupt poll(2).
            if (ready < 0 && Marshal.GetLastPInvokeError() != NativeMethods.EINTR)
            {
                throw NativeMethods.LastError("poll");
            }
        }
    }
}
