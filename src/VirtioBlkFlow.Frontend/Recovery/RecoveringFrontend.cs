using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.Frontend.Recovery;

/// <summary>What a back-end that follows a crashed one is told as the base of a packed ring. Of a split ring it is always <c>used.idx</c>.</summary>
public enum PackedBaseAfterCrash
{
    /// <summary>The place of the next used descriptor, as far as the driver has looked.</summary>
    LastKnown,

    /// <summary>What the first back-end was told: QEMU cannot know better. The truth is in the inflight region.</summary>
    FromBefore,
}

/// <summary>What a front-end that outlives its back-ends wants.</summary>
public sealed record RecoveryOptions
{
    /// <summary>Queues.</summary>
    public int QueueCount { get; init; } = 1;

    /// <summary>Entries of each.</summary>
    public int QueueSize { get; init; } = 128;

    /// <summary>How the driver uses its rings.</summary>
    public DriverRingOptions Ring { get; init; } = new();

    /// <summary>Features to take.</summary>
    public NegotiationOptions Negotiation { get; init; } = new();

    /// <summary>The base of a packed ring after a crash.</summary>
    public PackedBaseAfterCrash PackedBase { get; init; }

    /// <summary>How long a reply may take.</summary>
    public int TimeoutMs { get; init; } = VhostUserFrontend.DefaultTimeoutMs;
}

/// <summary>
/// A front-end whose memory, rings and record of requests in flight outlive the connection: when a back-end dies, the next one is told
/// all of it again, and what was in flight stays so until it completes (vhost-user.rst, "Inflight I/O tracking"). Used by one thread at a
/// time; its drivers rest while it attaches.
/// </summary>
public sealed class RecoveringFrontend : IDisposable
{
    // Fixed at construction.
    private readonly RecoveryOptions _options;

    // Owned by the thread that uses the front-end.
    private readonly List<FrontendQueue> _queues = [];
    private uint[] _firstBases = [];
    private VhostUserFrontend? _connection;
    private Negotiation? _negotiation;
    private InflightArea _inflightArea;
    private SafeFileHandle? _inflight;

    /// <summary>Prepares; nothing is connected yet.</summary>
    /// <param name="memory">Guest memory, which stays the caller's.</param>
    /// <param name="options">What to negotiate and to set up.</param>
    public RecoveringFrontend(SharedMemory memory, RecoveryOptions options)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(options);
        Memory = memory;
        _options = options;
    }

    /// <summary>Guest memory.</summary>
    public SharedMemory Memory { get; }

    /// <summary>The queues, there from the first attachment on.</summary>
    public IReadOnlyList<FrontendQueue> Queues => _queues;

    /// <summary>The connection of now.</summary>
    /// <exception cref="InvalidOperationException">There is none.</exception>
    public VhostUserFrontend Connection => _connection ?? throw new InvalidOperationException("No back-end is attached.");

    /// <summary>What was agreed on with the back-end of now.</summary>
    /// <exception cref="InvalidOperationException">There was none yet.</exception>
    public Negotiation Negotiation => _negotiation ?? throw new InvalidOperationException("No back-end has been attached yet.");

    /// <summary>Back-ends attached so far.</summary>
    public int AttachCount { get; private set; }

    /// <summary>Connects to whoever listens at a path, as soon as somebody does, and attaches.</summary>
    /// <exception cref="TimeoutException">Nobody listened in time.</exception>
    public void Attach(string socketPath, Deadline deadline)
    {
        while (true)
        {
            try
            {
                Attach(VhostUserFrontend.Connect(socketPath, _options.TimeoutMs));
                return;
            }
            catch (IOException exception) when (exception is not BackendClosedException)
            {
                if (deadline.HasPassed)
                {
                    throw new TimeoutException($"Nobody listens at {socketPath}.", exception);
                }

                // Nothing tells when a path begins to be listened at. As often as a client would try that waits for a service.
                Thread.Sleep(1);
            }
        }
    }

    /// <summary>
    /// Attaches a back-end: features, the record of requests in flight, memory, and each queue with the base a crash leaves; then kicks. The
    /// first one makes the record and the rings.
    /// </summary>
    /// <param name="connection">A fresh connection, closed by this object.</param>
    /// <exception cref="BackendRefusedException">It refuses a step, or does not offer what the first one did.</exception>
    public void Attach(VhostUserFrontend connection)
    {
        ArgumentNullException.ThrowIfNull(connection);
        Detach();
        _connection = connection;
        Negotiation agreed = Negotiation.Run(connection, _options.Negotiation);
        if (_negotiation is not null && (agreed.Features != _negotiation.Features || agreed.ProtocolFeatures != _negotiation.ProtocolFeatures))
        {
            throw new BackendRefusedException(
                $"The next back-end agreed to features 0x{agreed.Features:x} and {agreed.ProtocolFeatures}, the one before to 0x{_negotiation.Features:x} and {_negotiation.ProtocolFeatures}.");
        }

        _negotiation = agreed;
        SendInflightRecord(connection, agreed);
        agreed.SendMemory(connection, Memory);
        bool isFirst = _queues.Count == 0;
        if (isFirst)
        {
            PlaceQueues(agreed);
        }

        for (int i = 0; i < _queues.Count; i++)
        {
            uint? @base = null;
            if (!isFirst)
            {
                _queues[i].Ring.AfterCrash();
                @base = BaseAfterCrash(i);
            }

            _queues[i].Start(connection, agreed.CanAcknowledge, enable: agreed.HasProtocolFeatures, @base);
        }

        agreed.SendDriverOk(connection);
        AttachCount++;
        foreach (FrontendQueue queue in _queues)
        {
            // A kick the dead one has taken, and a call it has not made, are lost: both sides look once.
            queue.Kick.Signal();
            queue.Call.Signal();
        }
    }

    /// <summary>Closes the connection, as after a crash: nothing is stopped, nothing is drained.</summary>
    public void Detach()
    {
        _connection?.Dispose();
        _connection = null;
    }

    /// <summary>Closes all but the memory.</summary>
    public void Dispose()
    {
        Detach();
        _inflight?.Dispose();
        _queues.ForEach(queue => queue.Dispose());
    }

    private void PlaceQueues(Negotiation agreed)
    {
        for (int i = 0; i < _options.QueueCount; i++)
        {
            _queues.Add(new FrontendQueue(Memory, i, _options.QueueSize, agreed.RingFeatures, _options.Ring));
        }

        _firstBases = [.. _queues.Select(queue => queue.Ring.Base)];
    }

    private uint BaseAfterCrash(int queue)
    {
        DriverRing ring = _queues[queue].Ring;
        return ring is PackedDriverRing && _options.PackedBase == PackedBaseAfterCrash.FromBefore ? _firstBases[queue] : ring.BaseAfterCrash;
    }

    private void SendInflightRecord(VhostUserFrontend connection, Negotiation agreed)
    {
        if (!agreed.ProtocolFeatures.HasFlag(ProtocolFeatures.INFLIGHT_SHMFD))
        {
            return;
        }

        if (_inflight is null)
        {
            (_inflightArea, _inflight) = connection.GetInflightFd((ushort)_options.QueueCount, (ushort)_options.QueueSize);
            if (_inflight is null || _inflightArea.LengthBytes == 0)
            {
                throw new BackendRefusedException("The back-end refuses GET_INFLIGHT_FD.");
            }
        }

        if (connection.SetInflightFd(_inflightArea, _inflight, agreed.CanAcknowledge) != 0)
        {
            throw new BackendRefusedException("The back-end refuses SET_INFLIGHT_FD.");
        }
    }
}
