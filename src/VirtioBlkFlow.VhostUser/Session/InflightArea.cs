using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// The memory in which a device records requests in flight (vhost-user.rst, "Inflight I/O tracking"): made here, kept by the front-end,
/// handed back to us or to our successor. Owned by the session's thread.
/// </summary>
/// <remarks>
/// <para>
/// GET_INFLIGHT_FD makes an area and keeps nothing of it: only SET_INFLIGHT_FD puts one in force, which may be this one, an older
/// process's, or one that came with a migration. So both can be repeated at will, in whatever order.
/// </para>
/// <para>
/// No area is replaced under a queue that runs. After a crash the front-end has only the newest one, and what was recorded in an older one
/// would be lost; front-ends send it before they start the first queue.
/// </para>
/// <para>
/// A reset drops the area. Whoever begins anew after it has another ring, in which the old heads mean something else: records of a queue
/// that broke with requests in flight would be carried out against it. QEMU, which resets at every pause too, loses nothing: it hands the
/// area over again at every start, and has a new one made if it was the guest that was reset.
/// </para>
/// </remarks>
internal sealed class InflightArea(IVhostUserBackend backend, VringSet vrings)
{
    /// <summary>Alignment in the file: a cache line, so that no field of a record lies across two. Arbitrary.</summary>
    private const uint AlignmentBytes = 64;

    private FileMapping? _mapping;

    /// <summary>GET_INFLIGHT_FD: makes an area of zeros in a file that keeps its size for ever.</summary>
    /// <param name="wanted">For how many queues of which size.</param>
    /// <param name="file">The file; becomes the caller's.</param>
    /// <returns>Where in the file it lies.</returns>
    /// <exception cref="VhostUserRefusedException">There can be none.</exception>
    public InflightDescription Create(InflightDescription wanted, out SafeFileHandle file)
    {
        var lengthBytes = BytesFor(wanted);
        var descriptor = NativeMethods.memfd_create("vhost-user-inflight", NativeMethods.MFD_CLOEXEC_ALLOW_SEALING);
        if (descriptor < 0)
        {
            throw new VhostUserRefusedException($"memfd_create fails with {Stdlib.GetLastError()}");
        }

        file = new SafeFileHandle(descriptor, ownsHandle: true);
        if (Syscall.ftruncate(descriptor, (long)lengthBytes) != 0
            || NativeMethods.fcntl(descriptor, NativeMethods.F_ADD_SEALS, NativeMethods.F_SEAL_SIZE) != 0)
        {
            var error = Stdlib.GetLastError();
            file.Dispose();
            throw new VhostUserRefusedException($"a memfd of {lengthBytes} bytes cannot be made: {error}");
        }

        return wanted with { LengthBytes = lengthBytes, MmapOffset = 0 };
    }

    /// <summary>SET_INFLIGHT_FD. Counts for queues that start from now on.</summary>
    /// <param name="description">Where the area lies, and for how many queues of which size it is.</param>
    /// <param name="file">Its file; stays the caller's.</param>
    /// <exception cref="VhostUserRefusedException">It cannot be mapped, is too short, or a queue runs. Nothing has changed.</exception>
    public void Replace(InflightDescription description, SafeFileHandle file)
    {
        if (vrings.HasRunning)
        {
            throw new VhostUserRefusedException("the inflight area cannot be replaced while a vring runs");
        }

        var needed = BytesFor(description);
        if (description.LengthBytes < needed)
        {
            throw new VhostUserRefusedException(
                $"an inflight area of {description.LengthBytes} bytes is too short for {description.QueueCount} vrings of "
                + $"{description.QueueSize} descriptors, which need {needed}");
        }

        var mapping = FileMapping.MapArea(file, description.MmapOffset, description.LengthBytes, AlignmentBytes, "inflight area");
        vrings.InflightArea = new InflightMapping(mapping.Address, mapping.LengthBytes, description.QueueCount, description.QueueSize);
        _mapping?.Dispose();
        _mapping = mapping;
    }

    /// <summary>A reset, or the end: unmaps the area. No vring runs.</summary>
    public void Drop()
    {
        vrings.InflightArea = default;
        _mapping?.Dispose();
        _mapping = null;
    }

    private ulong BytesFor(InflightDescription description)
    {
        var isPossible = description.QueueCount > 0 && description.QueueCount <= backend.QueueCount
            && description.QueueSize is > 0 and <= ProtocolLimits.MaxVringSize;
        var lengthBytes = isPossible ? backend.InflightBytesFor(description.QueueCount, description.QueueSize, vrings.Features) : 0;
        return lengthBytes is > 0 and <= long.MaxValue
            ? lengthBytes
            : throw new VhostUserRefusedException(
                $"there is no inflight area for {description.QueueCount} vrings of {description.QueueSize} descriptors");
    }
}
