namespace VirtioBlkFlow.VhostUser.Connection;

/// <summary>What <see cref="VhostUserConnection.Receive"/> came back with.</summary>
public enum ReceiveOutcome
{
    /// <summary>A whole message with a known version.</summary>
    Message,

    /// <summary>
    /// No further message: the peer closed (between two messages or within one), reset the connection, or
    /// <see cref="VhostUserConnection.Interrupt"/> was called.
    /// </summary>
    Closed,

    /// <summary>The peer broke the framing; <see cref="ReceivedMessage.Violation"/> says how. The connection is of no use any more.</summary>
    ProtocolViolation,
}

/// <summary>What became of a message to send.</summary>
public enum SendOutcome
{
    /// <summary>All of it is in the socket.</summary>
    Sent,

    /// <summary>The peer does not listen any more, or the connection was interrupted.</summary>
    Closed,

    /// <summary>Only without waiting: the socket's buffer is full, nothing was sent.</summary>
    WouldBlock,
}
