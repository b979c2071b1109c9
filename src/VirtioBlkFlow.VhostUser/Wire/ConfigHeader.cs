using System.Runtime.InteropServices;

namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>
/// C: the head of <c>VhostUserConfig</c>. 12 bytes, followed by <see cref="DataBytes"/> bytes of data
/// (vhost-user.rst, "Virtio device config space").
/// </summary>
/// <param name="Offset">Offset in bytes within the configuration space.</param>
/// <param name="DataBytes">Length of the data in bytes, at most <see cref="ProtocolLimits.MaxConfigBytes"/>.</param>
/// <param name="Flags">
/// For SET_CONFIG <see cref="Writable"/> or <see cref="LiveMigration"/>; front-ends of rust-vmm count from 1 instead.
/// Meaningless for GET_CONFIG.
/// </param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct ConfigHeader(uint Offset, uint DataBytes, uint Flags)
{
    /// <summary>Size on the wire: 12 bytes.</summary>
    public const int SizeBytes = 12;

    /// <summary>VHOST_SET_CONFIG_TYPE_FRONTEND: the driver writes a writable field.</summary>
    public const uint Writable = 0;

    /// <summary>VHOST_SET_CONFIG_TYPE_MIGRATION: restores the space after a migration.</summary>
    public const uint LiveMigration = 1;
}
