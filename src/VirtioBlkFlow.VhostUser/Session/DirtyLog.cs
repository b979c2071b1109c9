using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// The dirty log of one session: mapped by SET_LOG_BASE, in force while VHOST_F_LOG_ALL is set. Owned by the session's thread.
/// </summary>
/// <remarks>
/// <para>
/// Without VHOST_F_LOG_ALL nothing is marked, not even the used ring of a vring with VHOST_VRING_F_LOG: so do libvhost-user and DPDK, and
/// front-ends set and clear both together.
/// </para>
/// <para>
/// A reset clears VHOST_F_LOG_ALL with all features and keeps the mapping, because a migration outlives a guest's reboot. The log goes
/// with the connection or when another one replaces it.
/// </para>
/// </remarks>
internal sealed class DirtyLog(VringSet vrings)
{
    /// <summary>Alignment of the log in its file: front-ends and back-ends swap and set words of 8 bytes.</summary>
    private const uint AlignmentBytes = 8;

    private FileMapping? _mapping;
    private bool _logsAll;

    /// <summary>SET_LOG_BASE. The log before is unmapped once the device has let go of it.</summary>
    /// <param name="description">Where the log lies.</param>
    /// <param name="file">Its file; stays the caller's.</param>
    /// <exception cref="VhostUserRefusedException">It cannot be mapped or is too short. The log before is in force.</exception>
    public void Replace(LogDescription description, SafeFileHandle file)
    {
        var mapping = FileMapping.MapArea(file, description.MmapOffset, description.LengthBytes, AlignmentBytes, "dirty log");
        try
        {
            vrings.RequireWithin(InForce(mapping, _logsAll));
        }
        catch
        {
            mapping.Dispose();
            throw;
        }

        vrings.SetDirtyLog(InForce(mapping, _logsAll));
        _mapping?.Dispose();
        _mapping = mapping;
    }

    /// <summary>Refuses VHOST_F_LOG_ALL if the log that is there is too short for it.</summary>
    /// <param name="logsAll">Whether VHOST_F_LOG_ALL is going to be set.</param>
    /// <exception cref="VhostUserRefusedException">A used ring to be logged is not within the log.</exception>
    public void RequireRoom(bool logsAll) => vrings.RequireWithin(InForce(_mapping, logsAll));

    /// <summary>VHOST_F_LOG_ALL is set or cleared.</summary>
    /// <param name="logsAll">Which of the two.</param>
    public void SetLogsAll(bool logsAll)
    {
        vrings.SetDirtyLog(InForce(_mapping, logsAll));
        _logsAll = logsAll;
    }

    /// <summary>Unmaps. The device has let go of the log before.</summary>
    public void Unmap() => _mapping?.Dispose();

    private static DirtyLogMapping? InForce(FileMapping? mapping, bool logsAll) =>
        mapping is not null && logsAll ? new DirtyLogMapping(mapping.Address, mapping.LengthBytes) : null;
}
