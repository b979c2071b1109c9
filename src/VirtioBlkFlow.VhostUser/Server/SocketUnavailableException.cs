namespace VirtioBlkFlow.VhostUser.Server;

/// <summary>Why a socket path cannot be listened on.</summary>
public enum SocketUnavailableReason
{
    /// <summary>The system said no; the message has its error.</summary>
    System,

    /// <summary>The path does not fit into a socket address.</summary>
    PathTooLong,

    /// <summary>Another process listens there.</summary>
    InUse,

    /// <summary>Something that is no socket is there.</summary>
    NotASocket,
}

/// <summary>A socket cannot be listened on. The message names the cause and the remedy, for the person who started the program.</summary>
public sealed class SocketUnavailableException : IOException
{
    /// <summary>With all there is to say.</summary>
    /// <param name="reason">The cause, for a program.</param>
    /// <param name="message">The cause and the remedy, for a person.</param>
    public SocketUnavailableException(SocketUnavailableReason reason, string message)
        : base(message) => Reason = reason;

    /// <summary>Without a reason; prefer the other.</summary>
    public SocketUnavailableException()
    {
    }

    /// <summary>Without a reason; prefer the other.</summary>
    /// <param name="message">The cause and the remedy.</param>
    public SocketUnavailableException(string message)
        : base(message)
    {
    }

    /// <summary>Without a reason; prefer the other.</summary>
    /// <param name="message">The cause and the remedy.</param>
    /// <param name="innerException">The failure underneath.</param>
    public SocketUnavailableException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>The cause.</summary>
    public SocketUnavailableReason Reason { get; }
}
