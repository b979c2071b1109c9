namespace VirtioBlkFlow.VhostUser;

/// <summary>
/// A request of the front-end cannot be met. It is answered with a non-zero acknowledgement, or ends the connection if the
/// front-end did not ask for one (vhost-user.rst, "Communication").
/// </summary>
public sealed class VhostUserRefusedException : Exception
{
    /// <summary>With a reason for the log.</summary>
    /// <param name="reason">What was wrong, with the numbers at hand.</param>
    public VhostUserRefusedException(string reason)
        : base(reason)
    {
    }

    /// <summary>With a reason for the log and what caused it.</summary>
    /// <param name="reason">What was wrong, with the numbers at hand.</param>
    /// <param name="cause">The failure underneath.</param>
    public VhostUserRefusedException(string reason, Exception cause)
        : base(reason, cause)
    {
    }

    /// <summary>Without a reason; prefer the others.</summary>
    public VhostUserRefusedException()
    {
    }

    /// <summary>Whether the front-end is to blame, and for what.</summary>
    public ProtocolFinding Finding { get; init; }
}
