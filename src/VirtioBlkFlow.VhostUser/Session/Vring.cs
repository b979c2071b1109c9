using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// What the front-end has said about one vring. Owned by the session's thread; <see cref="VringSet"/> makes the moves.
/// </summary>
/// <remarks>
/// <see cref="IsStarted"/> and <see cref="IsEnabled"/> are the two flags of vhost-user.rst, "Ring states". <see cref="IsRunning"/> is
/// ours: the device serves it. It needs both flags, a size, addresses, and memory under the addresses.
/// </remarks>
[DebuggerDisplay("vring {Index}: size {Size}, started {IsStarted}, enabled {IsEnabled}, running {IsRunning}")]
internal sealed class Vring(int index)
{
    /// <summary>Base of a packed ring nobody has set: offset 0 and wrap counter 1, for the available and the used position.</summary>
    private const uint InitialPackedBase = 0x8000_8000;

    /// <summary>Number of the vring.</summary>
    public int Index { get; } = index;

    /// <summary>Number of descriptors; 0 until SET_VRING_NUM.</summary>
    public ushort Size { get; set; }

    /// <summary>Addresses; null until SET_VRING_ADDR.</summary>
    public VringAddress? Address { get; set; }

    /// <summary>
    /// Where fetching begins, as SET_VRING_BASE has it; null until it or a stop says. Kept as it came, because what the upper half
    /// means depends on features that may be negotiated later.
    /// </summary>
    public uint? Base { get; set; }

    /// <summary>
    /// Base at which a reset has stopped the vring, until SET_VRING_BASE or the next start; null otherwise. It is where GET_VRING_BASE
    /// answers from, and never where a start begins: QEMU 7.2 sends SET_STATUS 0 on every stop of the virtual machine <i>before</i> it
    /// asks for the base, and when the machine goes on that answer is where the guest's requests go on. With 0 they would run twice.
    /// </summary>
    public uint? BaseBeforeReset { get; set; }

    /// <summary>From SET_VRING_KICK to GET_VRING_BASE.</summary>
    public bool IsStarted { get; set; }

    /// <summary>From SET_VRING_ENABLE; tracked while the vring is stopped too.</summary>
    public bool IsEnabled { get; set; }

    /// <summary>From the device's StartQueue to its StopQueue.</summary>
    public bool IsRunning { get; set; }

    /// <summary>Whether the vring that runs is packed: features set meanwhile do not change it.</summary>
    public bool RunsPacked { get; set; }

    /// <summary>Eventfd of driver → device, null to poll.</summary>
    public SafeFileHandle? Kick { get; set; }

    /// <summary>Eventfd of device → driver, null if the driver polls.</summary>
    public SafeFileHandle? Call { get; set; }

    /// <summary>Eventfd for a broken vring, null for none.</summary>
    public SafeFileHandle? Error { get; set; }

    /// <summary>The base in the encoding of this kind of vring: 16 bits if split, 32 if packed.</summary>
    /// <param name="isPacked">Which kind.</param>
    public uint BaseAs(bool isPacked) => isPacked ? Base ?? InitialPackedBase : (Base ?? 0) & 0xffff;

    /// <summary>Ends the started state: the kick is dropped, and a new one has to come.</summary>
    public void DropKick()
    {
        IsStarted = false;
        Kick?.Dispose();
        Kick = null;
    }

    /// <summary>Drops the call.</summary>
    public void DropCall()
    {
        Call?.Dispose();
        Call = null;
    }

    /// <summary>Closes all descriptors. The device has let go of them before.</summary>
    public void CloseDescriptors()
    {
        DropKick();
        DropCall();
        Error?.Dispose();
        Error = null;
    }
}
