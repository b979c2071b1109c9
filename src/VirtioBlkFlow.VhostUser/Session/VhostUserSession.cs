using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// The back-end's state machine over one connection: reads requests, keeps what was negotiated, tells the device, answers.
/// </summary>
/// <remarks>
/// <para>Owned by the thread that calls <see cref="Run"/>; <see cref="Interrupt"/> may come from any.</para>
/// <para>
/// What cannot be met is answered thus. With NEED_REPLY and REPLY_ACK negotiated: a non-zero acknowledgement, nothing has changed.
/// Otherwise the connection is closed, as vhost-user.rst allows under "Communication": a front-end that is not told would go on with
/// a device that is not what it thinks. Three have a milder answer of their own: GET_CONFIG is answered with an empty payload;
/// SET_FEATURES is answered by refusing FEATURES_OK, if STATUS is negotiated; SET_CONFIG is ignored, because a driver's write to a
/// read-only field is not the front-end's fault. GET_INFLIGHT_FD and the two requests of DEVICE_STATE have an error in their answers.
/// What breaks the framing (sizes, version, direction) always ends the connection.
/// </para>
/// <para>Teardown: stop the queues, tell the device, unmap guest memory, log and inflight area, close the descriptors, in this order.</para>
/// </remarks>
public sealed partial class VhostUserSession
{
    /// <summary>Payload of a non-zero acknowledgement; the value has no meaning (vhost-user.rst, "VHOST_USER_PROTOCOL_F_REPLY_ACK").</summary>
    private const ulong Refused = 1;

    // Fixed at construction.
    private readonly VhostUserConnection _connection;
    private readonly IVhostUserBackend _backend;
    private readonly ProtocolFeatures _offered;
    private readonly ILogger _logger;
    private readonly IProtocolObserver? _observer;
    private readonly FrontendNotifications _notifications;
    private readonly VringSet _vrings;
    private readonly MappedMemory _memory = new();
    private readonly InflightArea _inflightArea;
    private readonly DirtyLog _dirtyLog;

    // Owned by the session's thread.
    private readonly RequestOrder _order = new();
    private Thread? _owner;
    private ProtocolFeatures _negotiated;
    private bool _featuresRefused;
    private DeviceStateTransfer? _stateTransfer;

    // Shared: set once by Interrupt, read by the session's thread.
    private volatile bool _interrupted;

    /// <summary>Prepares a session; nothing is read yet.</summary>
    /// <param name="connection">Connection to the front-end. Stays the caller's to dispose of, after <see cref="Run"/>.</param>
    /// <param name="backend">The device.</param>
    /// <param name="options">What to offer.</param>
    /// <param name="logger">Where to log.</param>
    public VhostUserSession(VhostUserConnection connection, IVhostUserBackend backend, VhostUserSessionOptions options, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(backend);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(backend.QueueCount, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(backend.QueueCount, ProtocolLimits.MaxVrings);
        _connection = connection;
        _backend = backend;
        _offered = options.OfferedProtocolFeatures;
        _logger = logger;
        _observer = options.Observer;
        _notifications = new FrontendNotifications(logger);
        _vrings = new VringSet(backend, _notifications, logger);
        _inflightArea = new InflightArea(backend, _vrings);
        _dirtyLog = new DirtyLog(_vrings);
    }

    /// <summary>Serves the front-end until it leaves, violates the protocol, or the session is interrupted. Call once.</summary>
    public SessionOutcome Run()
    {
        Debug.Assert(_owner is null, "a session runs once");
        _owner = Thread.CurrentThread;
        Log.FrontendConnected(_logger);
        _backend.Attached(_notifications);
        try
        {
            var outcome = ServeRequests();
            Log.FrontendLeft(_logger);
            return outcome;
        }
        finally
        {
            // An exception on the way is a bug of the device's, and skips the rest: to unmap memory it may still use would be worse.
            _vrings.StopAll();
            _notifications.Detach();
            _backend.Detached();
            _stateTransfer?.Dispose();
            _memory.UnmapAll();
            _dirtyLog.Unmap();
            _inflightArea.Drop();
            _vrings.CloseDescriptors();
        }
    }

    /// <summary>Makes <see cref="Run"/> stop all queues and return. From any thread.</summary>
    public void Interrupt()
    {
        _interrupted = true;
        _connection.Interrupt();
    }

    private SessionOutcome ServeRequests()
    {
        using var message = new ReceivedMessage();
        while (true)
        {
            switch (_connection.Receive(message))
            {
                case ReceiveOutcome.Closed:
                    if (_connection.ReceiveError is { } error && !_interrupted)
                    {
                        Log.ConnectionBroke(_logger, error);
                    }

                    return _interrupted ? SessionOutcome.Interrupted : SessionOutcome.FrontendLeft;
                case ReceiveOutcome.ProtocolViolation:
                    Log.ProtocolViolated(_logger, message.Violation!);
                    return SessionOutcome.ProtocolViolation;
                default:
                    if (Serve(message) is { } outcome)
                    {
                        return outcome;
                    }

                    break;
            }
        }
    }

    /// <summary>Serves one request; returns how the session ends, or null if it goes on.</summary>
    private SessionOutcome? Serve(ReceivedMessage message)
    {
        Debug.Assert(_owner == Thread.CurrentThread, "a session belongs to the thread that runs it");
        var header = message.Header;
        var request = (FrontendRequest)header.Request;
        Log.RequestReceived(_logger, request, header.PayloadBytes, message.DescriptorCount);
        if (request == FrontendRequest.NONE)
        {
            return SessionOutcome.FrontendLeft;
        }

        if (header.IsReply)
        {
            return Violated(request, ProtocolFinding.MarkedAsReply, $"{request} is marked as a reply");
        }

        if (RequestRules.Find(request, _offered) is not { } rule)
        {
            message.CloseDescriptors();
            const string Unknown = "it is unknown here, or was not offered";

            // Without LOG_SHMFD these two exist as well, in a form that is not served.
            Observe(
                request is FrontendRequest.SET_LOG_BASE or FrontendRequest.SET_LOG_FD ? ProtocolFinding.None : ProtocolFinding.RequestNotOffered,
                request,
                Unknown);
            return Refuse(header, Unknown, canAcknowledge: true);
        }

        if (header.PayloadBytes < rule.MinPayloadBytes || header.PayloadBytes > rule.MaxPayloadBytes || !HasCountedSize(request, message))
        {
            // SET_LOG_BASE has another payload where LOG_SHMFD was not negotiated.
            return Violated(
                request,
                request == FrontendRequest.SET_LOG_BASE ? ProtocolFinding.None : ProtocolFinding.PayloadSize,
                $"{request} has a payload of {header.PayloadBytes} bytes");
        }

        if (request == FrontendRequest.SET_PROTOCOL_FEATURES && LacksInBandPrerequisites(Read<ProtocolFeatures>(message)))
        {
            return Violated(request, ProtocolFinding.InBandPrerequisites, "in-band notifications need REPLY_ACK and BACKEND_REQ");
        }

        Observe(_order.Observe(request), request, "it comes before what it needs");

        try
        {
            if (message.DescriptorCount > rule.MaxDescriptors)
            {
                throw new VhostUserRefusedException($"{message.DescriptorCount} descriptors came with it")
                {
                    Finding = ProtocolFinding.DescriptorCount,
                };
            }

            Handle(request, message);
        }
        catch (VhostUserRefusedException refusal)
        {
            message.CloseDescriptors();
            Observe(refusal.Finding, request, refusal.Message);
            return Refuse(header, refusal.Message, canAcknowledge: !rule.HasOwnReply);
        }

        // Afterwards, for whether the flag counts on the request that negotiates it is nowhere said.
        if (header.NeedsReply && !_negotiated.HasFlag(ProtocolFeatures.REPLY_ACK))
        {
            Observe(ProtocolFinding.NeedReplyNotNegotiated, request, "it wants an acknowledgement");
        }

        message.CloseDescriptors();
        if (rule.IsAlwaysAcknowledged || (!rule.HasOwnReply && WantsAcknowledgement(header)))
        {
            Reply(request, 0);
        }

        return null;
    }

    /// <summary>
    /// Payloads that contain a count must hold what the count says, and what comes in two sizes must have one of them. A memory table may
    /// be longer: User Mode Linux always sends two regions, the second one zero and not counted.
    /// </summary>
    private static bool HasCountedSize(FrontendRequest request, ReceivedMessage message) => request switch
    {
        FrontendRequest.SET_MEM_TABLE =>
            message.Payload.Length >= MemoryTableHeader.SizeBytes
                + ((long)MemoryMarshal.Read<MemoryTableHeader>(message.Payload).RegionCount * MemoryRegion.SizeBytes),
        FrontendRequest.GET_CONFIG or FrontendRequest.SET_CONFIG =>
            message.Payload.Length == (long)ConfigHeader.SizeBytes + MemoryMarshal.Read<ConfigHeader>(message.Payload).DataBytes,
        FrontendRequest.GET_INFLIGHT_FD or FrontendRequest.SET_INFLIGHT_FD =>
            message.Payload.Length is InflightDescription.SizeBytes or InflightDescription.PaddedBytes,
        FrontendRequest.SET_LOG_FD => message.Payload.Length is 0 or sizeof(ulong),
        _ => true,
    };

    /// <summary>The one set of features for which the document asks to close the connection (vhost-user.rst, "In-band notifications").</summary>
    private static bool LacksInBandPrerequisites(ProtocolFeatures features)
    {
        const ProtocolFeatures Prerequisites = ProtocolFeatures.REPLY_ACK | ProtocolFeatures.BACKEND_REQ;
        return features.HasFlag(ProtocolFeatures.INBAND_NOTIFICATIONS) && (features & Prerequisites) != Prerequisites;
    }

    private void Reply(FrontendRequest request, ulong payload) => Reply(request, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in payload)));

    private void Reply(FrontendRequest request, ReadOnlySpan<byte> payload, ReadOnlySpan<SafeFileHandle> descriptors = default)
    {
        // That the front-end has gone away meanwhile shows at the next receive.
        _ = _connection.SendReply((uint)request, payload, descriptors);
    }

    private bool WantsAcknowledgement(MessageHeader header) =>
        header.NeedsReply && _negotiated.HasFlag(ProtocolFeatures.REPLY_ACK);

    private SessionOutcome? Refuse(MessageHeader header, string reason, bool canAcknowledge)
    {
        var request = (FrontendRequest)header.Request;
        if (canAcknowledge && WantsAcknowledgement(header))
        {
            Log.RequestRefused(_logger, request, reason);
            Reply(request, Refused);
            return null;
        }

        var hasMilderAnswer = request switch
        {
            FrontendRequest.SET_FEATURES => _featuresRefused && _negotiated.HasFlag(ProtocolFeatures.STATUS),
            FrontendRequest.SET_CONFIG => true,
            _ => false,
        };
        if (hasMilderAnswer)
        {
            Log.RequestRefused(_logger, request, reason);
            return null;
        }

        Log.RequestRefusedSilently(_logger, request, reason);
        return SessionOutcome.ProtocolViolation;
    }

    private SessionOutcome Violated(FrontendRequest request, ProtocolFinding finding, string reason)
    {
        Observe(finding, request, reason);
        Log.ProtocolViolated(_logger, reason);
        return SessionOutcome.ProtocolViolation;
    }

    private void Observe(ProtocolFinding finding, FrontendRequest request, string seen)
    {
        if (finding != ProtocolFinding.None)
        {
            _observer?.OnFinding(finding, request, seen);
        }
    }
}
