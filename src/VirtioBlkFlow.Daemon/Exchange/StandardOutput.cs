using System.Runtime.InteropServices;
using Mono.Unix.Native;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>
/// Stdout for data that must arrive. That of <see cref="Console"/> takes a pipe that nobody reads any more for one that took all. Where the next
/// program writes is kept by the kernel, so that a file may be appended to.
/// </summary>
internal static class StandardOutput
{
    private const int Descriptor = 1;

    /// <summary>Writes all. May block.</summary>
    /// <param name="buffer">Pinned.</param>
    /// <param name="count">Bytes, from its beginning.</param>
    /// <exception cref="IOException">It cannot be written; the message is that of the error (write(2)).</exception>
    public static void Write(byte[] buffer, int count)
    {
        for (int done = 0; done < count;)
        {
            long written = Syscall.write(Descriptor, Marshal.UnsafeAddrOfPinnedArrayElement(buffer, done), (ulong)(count - done));
            if (written >= 0)
            {
                done += (int)written;
                continue;
            }

            Errno errno = Stdlib.GetLastError();
            if (errno == Errno.EAGAIN)
            {
                // Somebody who shares it does not want to wait; we do.
                _ = Syscall.poll([new Pollfd { fd = Descriptor, events = PollEvents.POLLOUT }], -1);
            }
            else if (errno != Errno.EINTR)
            {
                throw new IOException($"{Stdlib.strerror(errno)}.");
            }
        }
    }
}
