using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Memory;

namespace VirtioBlkFlow.VhostUser;

/// <summary>What a session needs from the device it stands for.</summary>
/// <remarks>
/// Every call comes from the one thread that runs the session, and may block until the device's own threads have done the work.
/// Descriptors and mappings handed over stay the session's property: it closes and unmaps them after the call that takes them back
/// (<see cref="StopQueue"/>, <see cref="SetDirtyLog"/>, the next <c>Replace…</c>) has returned, so the device neither closes nor keeps
/// them longer.
/// Their file status flags (O_NONBLOCK) are the front-end's and are shared with it: never change them.
/// No method may throw, but for <see cref="StartQueue"/>.
/// </remarks>
public interface IVhostUserBackend
{
    /// <summary>
    /// Virtio feature bits the device offers. The session adds those that are the protocol's own: bit 30, and bit 26 (VHOST_F_LOG_ALL)
    /// with LOG_SHMFD.
    /// </summary>
    ulong OfferedFeatures { get; }

    /// <summary>Number of queues the device can serve, 1 to 256: the answer of GET_QUEUE_NUM.</summary>
    int QueueCount { get; }

    /// <summary>A front-end has connected. The first call of a session.</summary>
    /// <param name="frontend">Thread-safe way to reach this front-end; does nothing any more once <see cref="Detached"/> was called.</param>
    void Attached(IFrontendNotifications frontend);

    /// <summary>
    /// The driver has chosen its features: a subset of <see cref="OfferedFeatures"/>, without bits 26 and 30. Called again, with the
    /// same or other bits, also while queues run; that must not reset them.
    /// </summary>
    /// <param name="features">The negotiated virtio feature bits.</param>
    /// <returns>False if the device cannot serve this subset: the request is refused, and FEATURES_OK will not be set.</returns>
    bool TrySetFeatures(ulong features);

    /// <summary>Reads the configuration space.</summary>
    /// <param name="offset">Offset in bytes, at most 256.</param>
    /// <param name="destination">Filled completely, with zeros beyond the device's own space. Offset and length end within 256.</param>
    void ReadConfig(uint offset, Span<byte> destination);

    /// <summary>Writes the configuration space.</summary>
    /// <param name="offset">Offset in bytes.</param>
    /// <param name="data">Bytes to write, at least one. Offset and length end within 256.</param>
    /// <param name="flags">0 a driver's write, 1 a restore after migration; front-ends of rust-vmm send 1 and 2 instead.</param>
    ConfigWriteOutcome WriteConfig(uint offset, ReadOnlySpan<byte> data, uint flags);

    /// <summary>
    /// Begins to serve a queue, at <see cref="QueueSetup.NextAvailable"/>. Requests may wait in the ring already: the device looks
    /// at it at once, and not only when the kick comes.
    /// </summary>
    /// <param name="index">Number of the queue.</param>
    /// <param name="setup">Where it lies and how to notify.</param>
    /// <exception cref="VhostUserRefusedException">The queue cannot be served; the message says why.</exception>
    void StartQueue(int index, in QueueSetup setup);

    /// <summary>
    /// Stops fetching, finishes what is in flight, publishes and logs it. After the return the device touches neither the ring nor the
    /// descriptors nor the inflight area. Also called for a queue that has been reported as broken.
    /// </summary>
    /// <param name="index">Number of a queue that was started.</param>
    /// <returns>
    /// Where fetching would go on, in the form of <see cref="QueueSetup.NextAvailable"/>. All is published, so for a packed ring the
    /// next used position is the same.
    /// </returns>
    ushort StopQueue(int index);

    /// <summary>Replaces the kick of a started queue.</summary>
    /// <param name="index">Number of the queue.</param>
    /// <param name="kickDescriptor">The new descriptor; null to poll the ring from now on.</param>
    void ReplaceKick(int index, SafeFileHandle? kickDescriptor);

    /// <summary>Replaces the call of a started queue, and signals the new one once: a call may just have gone to the old one.</summary>
    /// <param name="index">Number of the queue.</param>
    /// <param name="callDescriptor">The new descriptor; null if the driver polls.</param>
    void ReplaceCall(int index, SafeFileHandle? callDescriptor);

    /// <summary>Replaces the error notification of a started queue.</summary>
    /// <param name="index">Number of the queue.</param>
    /// <param name="errorDescriptor">The new descriptor; null for none.</param>
    void ReplaceError(int index, SafeFileHandle? errorDescriptor);

    /// <summary>
    /// New guest memory, while queues may run: returns when no request and no queue uses the table before any more, because its
    /// regions are unmapped next.
    /// </summary>
    /// <param name="table">The new table, from now on the only one. May be empty.</param>
    /// <param name="runningQueues">Every started queue, at its address in the new table. May be empty.</param>
    void ReplaceMemory(GuestMemoryTable table, ReadOnlySpan<QueueRings> runningQueues);

    /// <summary>
    /// How large an inflight area must be: the memory, shared with the front-end, in which the device records requests in flight, so
    /// that its successor can finish them after a crash (vhost-user.rst, "Inflight I/O tracking"). The layout is the device's own,
    /// and has to stay the same from one build to the next. A new area is zeroed.
    /// </summary>
    /// <param name="queueCount">Number of queues, at least 1 and at most <see cref="QueueCount"/>.</param>
    /// <param name="queueSize">Most descriptors of each, at least 1 and at most 32768.</param>
    /// <param name="features">The negotiated virtio feature bits: a packed ring's records are other than a split one's.</param>
    /// <returns>Bytes for all queues together; 0 if there can be no such area.</returns>
    ulong InflightBytesFor(int queueCount, int queueSize, ulong features);

    /// <summary>
    /// Dirty logging begins, changes or ends, while queues may run: returns when no thread touches the log before any more, because it
    /// may be unmapped next, and when every write to guest memory from now on will be marked in the new one. A queue that starts
    /// later has the log in <see cref="QueueSetup.DirtyLog"/>; one that stops is not in this list the next time.
    /// </summary>
    /// <param name="log">The log in force; null for none.</param>
    /// <param name="loggedUsedRings">
    /// Of the started queues, those whose writes to the used ring are to be marked too. Empty without a log.
    /// </param>
    void SetDirtyLog(DirtyLogMapping? log, ReadOnlySpan<LoggedUsedRing> loggedUsedRings);

    /// <summary>What a device must know to go on where this one stopped, elsewhere. No queue runs.</summary>
    /// <returns>At most <see cref="Wire.ProtocolLimits.MaxDeviceStateBytes"/>; the session sends it.</returns>
    byte[] SaveState();

    /// <summary>Takes over what <see cref="SaveState"/> gave elsewhere. No queue runs.</summary>
    /// <param name="state">As it came from the front-end, which need not be honest; at most as large as can be saved.</param>
    /// <returns>False if it makes no sense; nothing has changed then.</returns>
    bool TryLoadState(ReadOnlySpan<byte> state);

    /// <summary>RESET_DEVICE, or SET_STATUS with 0. Every queue has been stopped before. May come several times in a row.</summary>
    /// <remarks>
    /// It does not tell that the driver begins anew: QEMU sends it also when a virtual machine is paused, and then goes on with the same
    /// driver after SET_FEATURES alone. What a driver has written to the configuration space (writeback) is not written again then.
    /// </remarks>
    void Reset();

    /// <summary>
    /// The front-end has left. Every queue has been stopped before; guest memory and the dirty log are unmapped after the return. The
    /// last call of a session.
    /// </summary>
    void Detached();
}
