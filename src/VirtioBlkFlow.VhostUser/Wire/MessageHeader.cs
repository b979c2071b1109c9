using System.Runtime.InteropServices;

namespace VirtioBlkFlow.VhostUser.Wire;

/// <summary>Flags of a message's header (vhost-user.rst, "Header").</summary>
[Flags]
public enum MessageFlags : uint
{
    /// <summary>No flag; not valid on the wire, because the version is 1.</summary>
    None = 0,

    /// <summary>The only version there is, in the two low bits.</summary>
    Version1 = 0x1,

    /// <summary>The two bits that hold the version.</summary>
    VersionMask = 0x3,

    /// <summary>This message answers a request.</summary>
    Reply = 0x4,

    /// <summary>The sender wants an acknowledgement; counts once REPLY_ACK is negotiated.</summary>
    NeedReply = 0x8,
}

/// <summary>
/// C: the first three fields of <c>VhostUserMsg</c>. 12 bytes in host byte order ahead of every payload
/// (vhost-user.rst, "Header").
/// </summary>
/// <param name="Request">Number of the request; a reply carries the number of what it answers.</param>
/// <param name="Flags">Version, direction, wish for an acknowledgement.</param>
/// <param name="PayloadBytes">Bytes of payload that follow.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct MessageHeader(uint Request, MessageFlags Flags, uint PayloadBytes)
{
    /// <summary>Size on the wire: 12 bytes.</summary>
    public const int SizeBytes = 12;

    /// <summary>
    /// Flags of every reply: version 1 and REPLY, nothing else. QEMU compares for equality, so an echoed
    /// <see cref="MessageFlags.NeedReply"/> makes it drop the connection.
    /// </summary>
    public const MessageFlags ReplyFlags = MessageFlags.Version1 | MessageFlags.Reply;

    /// <summary>Whether the version bits say 1.</summary>
    public bool HasKnownVersion => (Flags & MessageFlags.VersionMask) == MessageFlags.Version1;

    /// <summary>Whether this is an answer.</summary>
    public bool IsReply => (Flags & MessageFlags.Reply) != 0;

    /// <summary>Whether the sender asked for an acknowledgement.</summary>
    public bool NeedsReply => (Flags & MessageFlags.NeedReply) != 0;
}
