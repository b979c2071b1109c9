using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Load.Rings;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// A load on one back-end: connects, sets up memory and queues, runs a thread for each queue, adds up. Used by one thread; a run is used once.
/// </summary>
public sealed class LoadRun : IDisposable
{
    // Memory of the generator itself; what is more would be a mistake in the options rather than a load. Arbitrary.
    private const ulong MaxMemoryBytes = 16UL << 30;

    private static readonly TimeSpan s_progressInterval = TimeSpan.FromMilliseconds(250);

    private readonly LoadOptions _options;
    private readonly VhostUserFrontend? _frontend;
    private readonly SharedMemory _memory;
    private readonly FrontendQueue[] _queues;
    private readonly LoopbackDevice[] _partners;
    private readonly LoadQueue[] _loads;

    private LoadRun(LoadOptions options, LoadTarget target, VhostUserFrontend? frontend, int socket, Negotiation? agreed, byte[]? loopbackDisk)
    {
        _options = options;
        _frontend = frontend;
        Target = target;
        ulong perQueue = LoadSlots.MemoryBytes(options.QueueDepth, options.BlockSizes.LargestBytes, target.ChainLength, target.QueueSize);
        ulong total = perQueue * (ulong)options.QueueCount;
        if (total > MaxMemoryBytes)
        {
            throw new LoadException($"The requests in flight would take {total >> 20} MiB of memory: lower the depth, the block size or the queues.");
        }

        _memory = SharedMemory.OfSize((total + 0x1f_ffff) & ~0x1f_ffffUL);
        _queues = new FrontendQueue[options.QueueCount];
        _loads = new LoadQueue[options.QueueCount];
        _partners = new LoopbackDevice[frontend is null ? options.QueueCount : 0];
        agreed?.SendMemory(frontend!, _memory);
        for (int i = 0; i < _queues.Length; i++)
        {
            _queues[i] = new FrontendQueue(_memory, i, target.QueueSize, target.Features);
            if (frontend is null)
            {
                _partners[i] = new LoopbackDevice(_memory, _queues[i], target.Features, loopbackDisk);
            }

            _loads[i] = MakeLoad(i, socket);
        }

        agreed?.StartQueues(frontend!, _queues);
    }

    /// <summary>What the load runs against.</summary>
    public LoadTarget Target { get; }

    /// <summary>The process whose CPU time and memory to report; 0 for none. By default the one that listens on the socket.</summary>
    public int ServerProcessId { get; set; }

    /// <summary>Connects to a back-end and sets everything up.</summary>
    /// <exception cref="LoadException">There is no back-end, it is none, or the options do not fit it.</exception>
    public static LoadRun Connect(string socketPath, LoadOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        VhostUserFrontend? frontend = null;
        try
        {
            SafeFileHandle socket = UnixSocket.Connect(socketPath);
            int server = ProcessUsage.PeerOf(socket);
            frontend = new VhostUserFrontend(socket);
            Negotiation agreed = Negotiation.Run(frontend, LoadTarget.Wanted(options));
            return new LoadRun(options, LoadTarget.Of(options, agreed), frontend, UnixSocket.Number(socket), agreed, null) { ServerProcessId = server };
        }
        catch (Exception exception) when (exception is IOException or TimeoutException or BackendProtocolException or BackendRefusedException or LoadException)
        {
            frontend?.Dispose();
            throw exception as LoadException ?? new LoadException(exception.Message, exception);
        }
    }

    /// <summary>Sets everything up with a device that answers at once, on the generator's own threads: measures the generator.</summary>
    /// <param name="options">The load.</param>
    /// <param name="diskSectors">Size of its disk.</param>
    /// <exception cref="LoadException">The options do not fit.</exception>
    public static LoadRun Loopback(LoadOptions options, ulong diskSectors) => Loopback(options, diskSectors, null);

    /// <summary>The same with data, which is moved.</summary>
    internal static LoadRun Loopback(LoadOptions options, byte[] disk, uint segmentBytes = uint.MaxValue) =>
        Loopback(options, (ulong)disk.Length / BlkRequest.SectorBytes, disk, segmentBytes);

    /// <summary>Runs to the end.</summary>
    /// <param name="onProgress">Told how far it is, a few times a second; null for nobody.</param>
    /// <param name="stop">Ends it early, with what was counted so far.</param>
    /// <exception cref="LoadException">A request failed, or the back-end did.</exception>
    public LoadResult Run(Action<LoadProgress>? onProgress, CancellationToken stop)
    {
        DateTimeOffset startedAt = DateTimeOffset.UtcNow;
        long start = Stopwatch.GetTimestamp();
        long countFrom = start + (long)_options.WarmUp.TotalNanoseconds;
        long? durationNs = (long?)_options.Duration?.TotalNanoseconds;
        long end = countFrom + durationNs ?? long.MaxValue;
        using var counted = new CountdownEvent(_loads.Length);
        var faults = new Exception?[_loads.Length];
        var threads = new Thread[_loads.Length];
        for (int i = 0; i < threads.Length; i++)
        {
            int queue = i;
            threads[i] = new Thread(() => RunQueue(queue, new LoadSchedule(countFrom, durationNs, ShareOf(queue)), counted, faults)) { Name = $"load-{i}" };
        }

        Array.ForEach(threads, thread => thread.Start());
        using (stop.Register(() => Array.ForEach(_loads, load => load.Stop())))
        {
            WaitUntil(countFrom, counted, start, end, onProgress);
            bool knowsCpu = ProcessUsage.TryReadCpu(ServerProcessId, out long cpuBefore) && ServerProcessId != 0;
            WaitUntil(long.MaxValue, counted, start, end, onProgress);
            knowsCpu &= ProcessUsage.TryReadCpu(ServerProcessId, out long cpuAfter);
            ServerUsage? server = knowsCpu && ProcessUsage.ReadMemory(ServerProcessId) is { } memory
                ? new ServerUsage(ServerProcessId, ProcessUsage.ReadName(ServerProcessId) ?? "", cpuAfter - cpuBefore, memory)
                : null;
            Array.ForEach(threads, thread => thread.Join());
            if (Array.Find(faults, fault => fault is not null) is { } first)
            {
                throw first as LoadException ?? new LoadException(first.Message, first);
            }

            return new LoadResult
            {
                Options = _options,
                Target = Target,
                StartedAt = startedAt,
                Queues = [.. _loads.Select(load => load.Tally)],
                Total = Sum(),
                Server = server,
                WasStopped = stop.IsCancellationRequested,
            };
        }
    }

    /// <summary>Closes the connection, then frees the memory: the back-end stops the queues on its own.</summary>
    public void Dispose()
    {
        _frontend?.Dispose();
        Array.ForEach(_partners, partner => partner.Dispose());
        Array.ForEach(_queues, queue => queue.Dispose());
        _memory.Dispose();
    }

    private static LoadRun Loopback(LoadOptions options, ulong diskSectors, byte[]? disk, uint segmentBytes = uint.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        VirtioFeatures features = LoadTarget.Wanted(options).Features;
        LoadTarget target = LoadTarget.Of(options, features, diskSectors, BlkRequest.SectorBytes, segmentBytes, uint.MaxValue, options.QueueCount);
        return new LoadRun(options, target, null, -1, null, disk);
    }

    private LoadQueue MakeLoad(int index, int socket)
    {
        FrontendQueue queue = _queues[index];
        uint pieceBytes = Math.Min(Target.SegmentBytes, _options.BlockSizes.LargestBytes);
        var slots = new LoadSlots(_memory, _options.QueueDepth, _options.BlockSizes.LargestBytes, pieceBytes, Target.IsIndirect, _options.Seed + (ulong)index);
        (ulong first, ulong count) = RangeOf(index);
        var parts = new LoadQueueParts(
            _options,
            queue,
            slots,
            new RequestSource(_options, first, count, LoadRandom.Mix(_options.Seed) + (ulong)index),
            _options.Verify ? new VerifiedContents(_options.Seed, first, count, expectEarlierRun: !_options.Writes) : null,
            new QueueWatch(index, queue.Call, queue.Error, socket),
            _options.RatePerSecond / _options.QueueCount,
            _partners.Length > 0 ? _partners[index] : null);
        var layout = new LoadRingLayout(
            Target.QueueSize, _options.QueueDepth, slots.ChainLength, Target.Features, slots.TableAddress, slots.TableHost);
        return Target.IsPacked
            ? new LoadQueueOf<PackedLoadRing>(parts, new PackedLoadRing(queue.PackedRing.Raw, layout))
            : new LoadQueueOf<SplitLoadRing>(parts, new SplitLoadRing(queue.SplitRing.Raw, layout));
    }

    // Queues share the range where nothing speaks against it. A sequence belongs to one queue, and so does the knowledge of what was written.
    private (ulong First, ulong Count) RangeOf(int index)
    {
        if (!_options.Sequential && !_options.Verify)
        {
            return (Target.FirstSector, Target.SectorCount);
        }

        ulong unit = Math.Max(_options.BlockSizes.LargestBytes, Target.LogicalBlockBytes) / BlkRequest.SectorBytes;
        ulong share = Target.SectorCount / (ulong)_options.QueueCount / unit * unit;
        return (Target.FirstSector + (share * (ulong)index), share);
    }

    private long ShareOf(int index) => _options.RequestCount is not { } count
        ? long.MaxValue
        : (count / _options.QueueCount) + (index < count % _options.QueueCount ? 1 : 0);

    private void RunQueue(int index, LoadSchedule schedule, CountdownEvent counted, Exception?[] faults)
    {
        bool signalled = false;
        try
        {
            _loads[index].Run(schedule);
            counted.Signal();
            signalled = true;
            _loads[index].ReadBack();
        }
        catch (Exception exception)
        {
            faults[index] = exception;
            // The others would go on to their end for nothing.
            Array.ForEach(_loads, load => load.Stop());
        }
        finally
        {
            if (!signalled)
            {
                counted.Signal();
            }
        }
    }

    private void WaitUntil(long time, CountdownEvent counted, long start, long end, Action<LoadProgress>? onProgress)
    {
        while (true)
        {
            long now = Stopwatch.GetTimestamp();
            if (now >= time)
            {
                return;
            }

            onProgress?.Invoke(ProgressAt(now, start, end));
            var left = TimeSpan.FromMicroseconds((time - now) / 1000.0);
            if (counted.Wait(left < s_progressInterval ? left : s_progressInterval))
            {
                return;
            }
        }
    }

    private LoadProgress ProgressAt(long now, long start, long end)
    {
        QueueTally sum = Sum();
        long countFrom = start + (long)_options.WarmUp.TotalNanoseconds;
        double byTime = end == long.MaxValue ? 0 : (double)(now - start) / (end - start);
        double byCount = _options.RequestCount is { } count ? (double)sum.RequestCount / count : 0;
        var latency = new LatencyHistogram();
        latency.Add(sum.Read.Latency);
        latency.Add(sum.Write.Latency);
        return new LoadProgress(
            now < countFrom,
            Math.Clamp(Math.Max(byTime, byCount), 0, 1),
            sum.RequestCount,
            sum.Read.Bytes + sum.Write.Bytes,
            TimeSpan.FromMicroseconds(Math.Max(0, now - countFrom) / 1000.0),
            latency);
    }

    private QueueTally Sum()
    {
        var sum = new QueueTally();
        foreach (LoadQueue load in _loads)
        {
            sum.Add(load.Tally);
        }

        return sum;
    }
}
