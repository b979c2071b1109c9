using System.Text;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Migration;

namespace VirtioBlkFlow.Device;

/// <summary>
/// A virtio-blk device behind vhost-user: joins a session, a disk and one reactor for each started queue. An actor: whatever thread a call
/// comes from, it is carried out one at a time on the device's own scheduler.
/// </summary>
public sealed class BlkDevice : IVhostUserBackend, IDisposable
{
    // Fixed at construction.
    private readonly BlkDeviceOptions _options;
    private readonly ILogger _logger;
    private readonly IDisk _disk;
    private readonly ServedLimits _limits;
    private readonly WriteCache _writeCache;
    private readonly CommandMailbox _mailbox = new(new ConcurrentExclusiveSchedulerPair().ExclusiveScheduler);
    private readonly PipelineContext _context;

    // Owned by the actor.
    private readonly ReactorQueue?[] _queues;

    // Written by the actor, read by who reports.
    private readonly bool[] _running;

    private bool _disposed;

    // Replaced as a whole by the actor when the disk changes its size.
    private volatile BlkOffer _offer;

    // Set by the actor, read by reactors that report.
    private volatile IFrontendNotifications? _frontend;

    /// <summary>Creates a device. It starts no thread before a front-end starts a queue.</summary>
    /// <param name="disk">Where the sectors are; stays the caller's.</param>
    /// <param name="options">Choices.</param>
    /// <param name="logger">Where to log.</param>
    /// <exception cref="OfferException">The options ask for features or limits that this disk cannot have.</exception>
    public BlkDevice(IDisk disk, BlkDeviceOptions options, ILogger logger)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.QueueCount, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.QueueCount, BlkDeviceOptions.MaxQueueCount);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Parallelism, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.Parallelism, BlkDeviceOptions.MaxParallelism);
        _disk = disk;
        _options = options;
        _logger = logger;
        _offer = new BlkOffer(disk.Properties, options);
        _limits = new ServedLimits(_offer.Limits);
        _writeCache = new WriteCache(options.Cache);
        Lint = new SpecLint(options.Lint ? logger : null);
        _context = new PipelineContext(
            disk,
            _limits,
            Encoding.ASCII.GetBytes(options.Serial),
            _writeCache,
            options.Parallelism,
            options.JoinAdjacent,
            options.CallModeration,
            options.RegisterMemory,
            options.Assembly,
            new DeviceLint(Lint, _limits, _offer.Shape, options.Lint),
            new DeviceMeter(options.StageLatency, options.QueueCount));
        _queues = new ReactorQueue?[options.QueueCount];
        _running = new bool[options.QueueCount];
        _disk.SizeChanged += OnSizeChanged;
    }

    /// <inheritdoc/>
    public ulong OfferedFeatures => _offer.Features;

    /// <inheritdoc/>
    public int QueueCount => _offer.QueueCount;

    /// <summary>Counts what drivers and front-ends do against the specifications. A session tells it, if told to, what it sees.</summary>
    public SpecLint Lint { get; }

    /// <summary>Whether a front-end is connected. From any thread.</summary>
    public bool HasFrontend => _frontend != null;

    /// <summary>Whether a queue is being served. From any thread.</summary>
    public bool IsRunning(int queue) => Volatile.Read(ref _running[queue]);

    /// <summary>What the queues that were ever started have measured since the device was made. From any thread, at any time.</summary>
    public IReadOnlyList<QueueMeasurement> Measure() => _context.Meter.Read();

    /// <inheritdoc/>
    public void Attached(IFrontendNotifications frontend) => _mailbox.Run(() =>
    {
        _frontend = frontend;
        Lint.BeginSession();
    });

    /// <inheritdoc/>
    public bool TrySetFeatures(ulong features) => _mailbox.Ask(() =>
    {
        if ((features & ~_offer.Features) != 0 || (features & _offer.RequiredFeatures) != _offer.RequiredFeatures)
        {
            return false;
        }

        _writeCache.Negotiate((BlkFeatures)features);
        Log.Negotiated(_logger, features, _writeCache.IsWritethrough ? "durable when they complete" : "durable after a flush");
        return true;
    });

    /// <inheritdoc/>
    public void ReadConfig(uint offset, Span<byte> destination) =>
        _offer.ReadConfig(_mailbox.Ask(() => _writeCache.WritebackField), offset, destination);

    /// <inheritdoc/>
    public ConfigWriteOutcome WriteConfig(uint offset, ReadOnlySpan<byte> data, uint flags)
    {
        // The only field a driver may write (VIRTIO 1.4, "Block Device", "Device configuration layout").
        if (offset != BlkConfig.WritebackOffset || data.Length != 1)
        {
            return ConfigWriteOutcome.NotWritable;
        }

        if (data[0] > 1)
        {
            return ConfigWriteOutcome.InvalidValue;
        }

        bool writeback = data[0] == 1;
        _mailbox.Run(() =>
        {
            // What completed in writeback mode is nobody's to flush in writethrough mode, so it is made durable here.
            if (_writeCache.SetWritebackField(writeback) && _disk.Flush() != DiskOutcome.Done)
            {
                Log.FlushAtSwitchFailed(_logger);
            }
        });
        return ConfigWriteOutcome.Written;
    }

    /// <inheritdoc/>
    public void StartQueue(int index, in QueueSetup setup)
    {
        QueueSetup copy = setup;
        _mailbox.Run(() =>
        {
            ReactorQueue queue = _queues[index] ??= new ReactorQueue(index, LeaseReactor(index, copy.Rings.Size), _context, ReportBroken, _logger);
            queue.Start(copy, MemoryOf(copy.Memory));
            _running[index] = true;
            Log.QueueStarted(_logger, index, copy.Rings.Size, copy.NextAvailable);
        });
    }

    /// <inheritdoc/>
    public ushort StopQueue(int index) => _mailbox.Ask(() =>
    {
        ushort next = _queues[index]!.Stop();
        _running[index] = false;
        Log.QueueStopped(_logger, index, next);
        return next;
    });

    /// <inheritdoc/>
    public void ReplaceKick(int index, SafeFileHandle? kickDescriptor) => _mailbox.Run(() => _queues[index]!.ReplaceKick(kickDescriptor));

    /// <inheritdoc/>
    public void ReplaceCall(int index, SafeFileHandle? callDescriptor) => _mailbox.Run(() => _queues[index]!.ReplaceCall(callDescriptor));

    /// <inheritdoc/>
    public void ReplaceError(int index, SafeFileHandle? errorDescriptor) => _mailbox.Run(() => _queues[index]!.ReplaceError(errorDescriptor));

    /// <inheritdoc/>
    public void ReplaceMemory(GuestMemoryTable table, ReadOnlySpan<QueueRings> runningQueues)
    {
        QueueRings[] running = runningQueues.ToArray();
        _mailbox.Run(() =>
        {
            GuestMemory memory = MemoryOf(table);
            foreach (QueueRings rings in running)
            {
                _queues[rings.QueueIndex]!.ReplaceMemory(memory, ReactorQueue.AddressesOf(in rings));
            }
        });
    }

    /// <inheritdoc/>
    public ulong InflightBytesFor(int queueCount, int queueSize, ulong features) => InflightAreas.BytesFor(queueCount, queueSize, features);

    /// <inheritdoc/>
    public void SetDirtyLog(DirtyLogMapping? log, ReadOnlySpan<LoggedUsedRing> loggedUsedRings)
    {
        Dictionary<int, ulong> addresses = [];
        foreach (LoggedUsedRing ring in loggedUsedRings)
        {
            addresses.Add(ring.QueueIndex, ring.GuestAddress);
        }

        _mailbox.Run(() =>
        {
            DirtyLog? shared = ReactorQueue.DirtyLogOf(log);
            for (int i = 0; i < _queues.Length; i++)
            {
                if (_running[i])
                {
                    _queues[i]!.SetDirtyLog(shared, addresses.TryGetValue(i, out ulong address) ? address : null);
                }
            }
        });
    }

    /// <inheritdoc/>
    public byte[] SaveState() => _mailbox.Ask(() => SavedState.Write(_writeCache.WritebackField));

    /// <inheritdoc/>
    public bool TryLoadState(ReadOnlySpan<byte> state)
    {
        if (!SavedState.TryRead(state, out byte writeback))
        {
            return false;
        }

        _mailbox.Run(() => _writeCache.SetWritebackField(writeback == 1));
        return true;
    }

    /// <inheritdoc/>
    public void Reset() => _mailbox.Run(_writeCache.Reset);

    /// <inheritdoc/>
    public void Detached() => _mailbox.Run(() =>
    {
        _frontend = null;
        _writeCache.BeginAnew();
        DisposeQueues();
        Lint.EndSession();
    });

    /// <summary>
    /// Looks whether the disk has another size now. If so, requests are checked against it from the next batch on, the configuration space
    /// shows it, and the front-end is told.
    /// </summary>
    public DiskResize Refresh() => _mailbox.Ask(() =>
    {
        DiskResize resize = _disk.Refresh();
        if (resize.NewBytes != resize.OldBytes)
        {
            _offer = new BlkOffer(_disk.Properties, _options);
            _limits.Current = _offer.Limits;
            _frontend?.NotifyConfigChanged();
        }

        return resize;
    });

    /// <summary>Ends the threads. All queues must be stopped.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _disk.SizeChanged -= OnSizeChanged;
            _mailbox.Run(DisposeQueues);
            _mailbox.Close();
        }
    }

    private static GuestMemory MemoryOf(GuestMemoryTable table) => new(
        table.Regions.Select(region => new Virtio.GuestMemoryRegion(region.GuestAddress, region.LengthBytes, region.HostAddress)));

    private void OnSizeChanged()
    {
        try
        {
            DiskResize resize = Refresh();
            if (resize.NewBytes != resize.OldBytes)
            {
                Log.Resized(_logger, resize.OldBytes, resize.NewBytes);
            }
        }
        catch (ObjectDisposedException)
        {
            // We are ending.
        }
    }

    private ReactorLease LeaseReactor(int index, int queueSize)
    {
        if (_options.Reactors is { } pool)
        {
            return pool.Lease();
        }

        int? processor = _options.Processors.Count == 0 ? null : _options.Processors[index % _options.Processors.Count];
        var reactor = new QueueReactor($"queue-{index}", new ReactorOptions(_options.Engine, _options.Polling, processor), queueSize, _context.Meter.Of(index).Thread, _logger);
        return new ReactorLease(reactor, reactor.Dispose);
    }

    private void DisposeQueues()
    {
        for (int i = 0; i < _queues.Length; i++)
        {
            _queues[i]?.Dispose();
            _queues[i] = null;
        }
    }

    private void ReportBroken(int index, string reason)
    {
        Log.QueueBroken(_logger, index, reason);
        _frontend?.ReportQueueBroken(index);
    }
}
