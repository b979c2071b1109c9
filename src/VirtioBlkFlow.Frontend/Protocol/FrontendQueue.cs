using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>
/// One queue as the front-end has it: the driver's ring in shared memory and the three descriptors. The ring belongs to the driver's
/// thread; starting and stopping to the thread of the front-end, while the driver rests.
/// </summary>
public sealed class FrontendQueue : IDisposable
{
    private readonly SharedMemory _memory;

    /// <summary>Places a ring in memory.</summary>
    /// <param name="memory">Where to.</param>
    /// <param name="index">Number of the queue.</param>
    /// <param name="queueSize">Entries: up to 32768; a power of two if the ring is split.</param>
    /// <param name="features">What was negotiated; decides about the format.</param>
    /// <param name="indirectEntries">Entries of the indirect table each chain gets; 0 for none.</param>
    /// <param name="startIndex">Where both indices of a split ring start.</param>
    public FrontendQueue(SharedMemory memory, int index, int queueSize, VirtioFeatures features, int indirectEntries = 0, ushort startIndex = 0)
        : this(memory, index, queueSize, features, new DriverRingOptions { IndirectEntries = indirectEntries, StartIndex = startIndex })
    {
    }

    /// <summary>Places a ring in memory.</summary>
    /// <param name="memory">Where to.</param>
    /// <param name="index">Number of the queue.</param>
    /// <param name="queueSize">Entries: up to 32768; a power of two if the ring is split.</param>
    /// <param name="features">What was negotiated; decides about the format.</param>
    /// <param name="options">What the driver does of its own will.</param>
    public FrontendQueue(SharedMemory memory, int index, int queueSize, VirtioFeatures features, DriverRingOptions options)
    {
        _memory = memory;
        Index = (uint)index;
        Ring = DriverRing.Create(memory, queueSize, features, options);
    }

    /// <summary>Number of the queue.</summary>
    public uint Index { get; }

    /// <summary>The driver's side of the ring.</summary>
    public DriverRing Ring { get; }

    /// <summary>The same where the ring is known to be split.</summary>
    /// <exception cref="InvalidCastException">It is packed.</exception>
    public SplitDriverRing SplitRing => (SplitDriverRing)Ring;

    /// <summary>The same where the ring is known to be packed.</summary>
    /// <exception cref="InvalidCastException">It is split.</exception>
    public PackedDriverRing PackedRing => (PackedDriverRing)Ring;

    /// <summary>Driver to device.</summary>
    public EventDescriptor Kick { get; } = new();

    /// <summary>Device to driver.</summary>
    public EventDescriptor Call { get; } = new();

    /// <summary>Signalled by the device when it gives the ring up.</summary>
    public EventDescriptor Error { get; } = new();

    /// <summary>Where the ring is, in the front-end's addresses.</summary>
    /// <param name="flags">0, or <see cref="VringAddress.LogEnabled"/>: then the log address is the true one of what the device writes.</param>
    public VringAddress Address(uint flags = 0) => new(
        Index,
        flags,
        _memory.UserAddressOf(Ring.DescriptorAreaAddress),
        _memory.UserAddressOf(Ring.DeviceAreaAddress),
        _memory.UserAddressOf(Ring.DriverAreaAddress),
        flags == 0 ? 0 : Ring.DeviceAreaAddress);

    /// <summary>
    /// Sets the queue up and starts it, in QEMU's order: NUM, BASE, ADDR, KICK, CALL, ERR, ENABLE.
    /// </summary>
    /// <param name="frontend">The connection.</param>
    /// <param name="acknowledge">Whether REPLY_ACK is there to ask with.</param>
    /// <param name="enable">Whether to send SET_VRING_ENABLE, which needs bit 30 negotiated.</param>
    /// <param name="nextAvailable">Base, as SET_VRING_BASE has it; by default that of a device which goes on after a clean stop.</param>
    /// <param name="address">Where the ring is, if it is to be logged; by default <see cref="Address"/> without flags.</param>
    /// <exception cref="BackendRefusedException">The back-end refuses a step.</exception>
    public void Start(
        VhostUserFrontend frontend, bool acknowledge = true, bool enable = true, uint? nextAvailable = null, VringAddress? address = null)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        Require(frontend.SetVringNum(Index, (uint)Ring.QueueSize, acknowledge), "SET_VRING_NUM");
        Require(frontend.SetVringBase(Index, nextAvailable ?? Ring.Base, acknowledge), "SET_VRING_BASE");
        Require(frontend.SetVringAddr(address ?? Address(), acknowledge), "SET_VRING_ADDR");
        Require(frontend.SetVringKick(Index, Kick, acknowledge), "SET_VRING_KICK");
        Require(frontend.SetVringCall(Index, Call, acknowledge), "SET_VRING_CALL");
        Require(frontend.SetVringErr(Index, Error, acknowledge), "SET_VRING_ERR");
        if (enable)
        {
            Require(frontend.SetVringEnable(Index, enable: true, acknowledge), "SET_VRING_ENABLE");
        }
    }

    /// <summary>Stops the queue as QEMU does: ENABLE 0, then GET_VRING_BASE.</summary>
    /// <returns>Base: split, index of the next available entry the device would have fetched; packed, both places with their wrap counters.</returns>
    public uint Stop(VhostUserFrontend frontend, bool acknowledge = true, bool disable = true)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        if (disable)
        {
            Require(frontend.SetVringEnable(Index, enable: false, acknowledge), "SET_VRING_ENABLE");
        }

        return frontend.GetVringBase(Index);
    }

    /// <summary>Closes the descriptors; the ring stays in memory.</summary>
    public void Dispose()
    {
        Kick.Dispose();
        Call.Dispose();
        Error.Dispose();
    }

    private void Require(ulong acknowledgement, string step)
    {
        if (acknowledgement != 0)
        {
            throw new BackendRefusedException($"The back-end refuses {step} of queue {Index} with {acknowledgement}.");
        }
    }
}
