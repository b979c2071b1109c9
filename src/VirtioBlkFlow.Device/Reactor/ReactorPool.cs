using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Device.Latency;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>A queue's hold on its reactor; ends it, if it is the queue's own, when disposed.</summary>
internal sealed class ReactorLease(QueueReactor reactor, Action release) : IDisposable
{
    public QueueReactor Reactor { get; } = reactor;

    public void Dispose() => release();
}

/// <summary>
/// A fixed number of reactors for the queues of one device or of many. A queue goes to the one with the fewest, and stays there until its
/// front-end has gone. From any thread.
/// </summary>
/// <remarks>A reactor is started with its first queue and lives as long as the pool, as its engine may keep the files of disks open.</remarks>
public sealed class ReactorPool : IDisposable
{
    /// <summary>Most reactors. Arbitrary; each is a thread.</summary>
    public const int MaxCount = 1024;

    // Operations in flight at once, on all queues of a reactor: more only wait a little. Arbitrary, eight full queues of common size.
    private const int OperationCount = 2048;

    // Fixed at construction.
    private readonly ReactorOptions[] _options;
    private readonly ILogger _logger;

    // Shared, under its own lock.
    private readonly QueueReactor?[] _reactors;
    private readonly int[] _queueCounts;

    /// <param name="options">One for each reactor.</param>
    /// <param name="logger">Where to log.</param>
    public ReactorPool(IReadOnlyList<ReactorOptions> options, ILogger logger)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Count, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.Count, MaxCount);
        _options = [.. options];
        _logger = logger;
        _reactors = new QueueReactor?[options.Count];
        _queueCounts = new int[options.Count];
    }

    /// <summary>Finds a reactor for a queue.</summary>
    internal ReactorLease Lease()
    {
        lock (_reactors)
        {
            int least = Array.IndexOf(_queueCounts, _queueCounts.Min());
            QueueReactor reactor = _reactors[least] ??= new QueueReactor($"reactor-{least}", _options[least], OperationCount, new ThreadCounters(), _logger);
            _queueCounts[least]++;
            return new ReactorLease(reactor, () => Release(least));
        }
    }

    /// <summary>Ends the threads. All queues must be stopped.</summary>
    public void Dispose()
    {
        lock (_reactors)
        {
            for (int i = 0; i < _reactors.Length; i++)
            {
                _reactors[i]?.Dispose();
                _reactors[i] = null;
            }
        }
    }

    private void Release(int reactor)
    {
        lock (_reactors)
        {
            _queueCounts[reactor]--;
        }
    }
}
