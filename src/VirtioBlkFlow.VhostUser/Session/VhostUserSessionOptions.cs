using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>Choices of a session.</summary>
public sealed record VhostUserSessionOptions
{
    /// <summary>All protocol features a session understands.</summary>
    public const ProtocolFeatures Supported = ProtocolFeatures.MQ | ProtocolFeatures.LOG_SHMFD | ProtocolFeatures.REPLY_ACK
        | ProtocolFeatures.BACKEND_REQ | ProtocolFeatures.CONFIG | ProtocolFeatures.INFLIGHT_SHMFD | ProtocolFeatures.RESET_DEVICE
        | ProtocolFeatures.CONFIGURE_MEM_SLOTS | ProtocolFeatures.STATUS | ProtocolFeatures.DEVICE_STATE
        | ProtocolFeatures.GET_VRING_BASE_INFLIGHT;

    /// <summary>Everything that is supported is offered.</summary>
    public static VhostUserSessionOptions Default { get; } = new();

    /// <summary>Protocol features to offer; a part of <see cref="Supported"/>.</summary>
    /// <exception cref="ArgumentException">More than is supported, or GET_VRING_BASE_INFLIGHT without INFLIGHT_SHMFD.</exception>
    public ProtocolFeatures OfferedProtocolFeatures
    {
        get;
        init => field = (value & ~Supported) != 0
            ? throw new ArgumentException($"cannot offer {value & ~Supported}", nameof(value))
            : LacksInflightArea(value)
                ? throw new ArgumentException("cannot offer GET_VRING_BASE_INFLIGHT without INFLIGHT_SHMFD", nameof(value))
                : value;
    } = Supported;

    /// <summary>Hears of the front-end's mistakes; null for nobody.</summary>
    public IProtocolObserver? Observer { get; init; }

    /// <summary>Whether requests may stay in flight with nothing to record them in (vhost-user.rst, "GET_VRING_BASE").</summary>
    internal static bool LacksInflightArea(ProtocolFeatures features) =>
        (features & (ProtocolFeatures.GET_VRING_BASE_INFLIGHT | ProtocolFeatures.INFLIGHT_SHMFD)) == ProtocolFeatures.GET_VRING_BASE_INFLIGHT;
}

/// <summary>How a session ended.</summary>
public enum SessionOutcome
{
    /// <summary>The front-end closed the connection, lost it, or said that it quits.</summary>
    FrontendLeft,

    /// <summary>We ended it because of what the front-end sent; the log says what.</summary>
    ProtocolViolation,

    /// <summary><see cref="VhostUserSession.Interrupt"/> was called.</summary>
    Interrupted,
}
