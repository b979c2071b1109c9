using VirtioBlkFlow.Virtio.Inflight;
using Assert = Xunit.Assert;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>
/// A split ring, its driver and its record, which outlive the device. The driver is the judge: it knows what it offered and takes each
/// completion once.
/// </summary>
internal sealed class SplitWorld : IDisposable
{
    private const int NoRequest = -1;

    private readonly int _queueSize;
    private readonly Random _random;
    private readonly GuardedMemory _region;
    private readonly ushort[] _available;
    private readonly ushort[] _used;
    private readonly int[] _requestOfHead;
    private readonly ushort _start;
    private ushort _availableIndex;
    private ushort _usedIndex;
    private ushort _usedSeen;
    private bool _opened;

    public SplitWorld(int queueSize, ushort start, Random random)
    {
        _queueSize = queueSize;
        _random = random;
        _region = new GuardedMemory(InflightLayout.BytesPerQueue(packed: false, queueSize));
        _available = new ushort[queueSize];
        _used = new ushort[queueSize];
        _requestOfHead = new int[queueSize];
        Array.Fill(_requestOfHead, NoRequest);
        _start = _availableIndex = _usedIndex = _usedSeen = start;
    }

    public int Offered { get; private set; }

    public int Completed { get; private set; }

    /// <summary>One process: opens the record, serves, and ends when the clock strikes or all the work is done.</summary>
    public void Live(CrashClock clock, int steps)
    {
        try
        {
            Serve(clock, steps);
        }
        catch (SimulatedCrash)
        {
            // That is the point: the next life goes on from here.
        }

        Reap();
        _region.AssertGuardsUntouched();
    }

    /// <summary>A last process that finishes everything.</summary>
    public void Finish()
    {
        (SplitInflightRecord record, ushort next, List<ushort> inFlight) = Open(CrashClock.Never);
        while (next != _availableIndex)
        {
            Assert.True(record.Take(_available[next % _queueSize]));
            inFlight.Add(_available[next++ % _queueSize]);
        }

        ushort index = _usedIndex;
        inFlight.ForEach(head => Complete(record, head, ref index, CrashClock.Never));
        Publish(record, index, CrashClock.Never);
        Reap();
        Assert.Equal(Offered, Completed);
    }

    public void Dispose() => _region.Dispose();

    private void Serve(CrashClock clock, int steps)
    {
        (SplitInflightRecord record, ushort next, List<ushort> inFlight) = Open(clock);
        ushort index = _usedIndex;
        for (int i = 0; i < steps; i++)
        {
            switch (_random.Next(4))
            {
                case 0:
                    Offer(_random.Next(1, 5));
                    break;
                case 1 when next != _availableIndex:
                    ushort head = _available[next++ % _queueSize];
                    Assert.True(record.Take(head, clock.Observer));
                    inFlight.Add(head);
                    break;
                case 2 when inFlight.Count > 0:
                    int which = _random.Next(inFlight.Count);
                    Complete(record, inFlight[which], ref index, clock);
                    inFlight.RemoveAt(which);
                    break;
                case 3 when _random.Next(3) == 0:
                    Publish(record, index, clock);
                    Reap();
                    break;
            }
        }
    }

    private void Complete(SplitInflightRecord record, ushort head, ref ushort index, CrashClock clock)
    {
        _used[index++ % _queueSize] = head;
        clock.Tick();
        record.AddToBatch(head);
    }

    private void Publish(SplitInflightRecord record, ushort index, CrashClock clock)
    {
        record.BeforePublish(clock.Observer);
        _usedIndex = index;
        clock.Tick();
        record.AfterPublish(index, clock.Observer);
    }

    private (SplitInflightRecord Record, ushort Next, List<ushort> InFlight) Open(CrashClock clock)
    {
        InflightDefect defect = SplitInflightRecord.TryOpen(
            _region.Address, (ulong)_region.LengthBytes, _queueSize, _usedIndex, clock.Observer, out SplitInflightRecord? record);
        Assert.Equal(InflightDefect.None, defect);
        Assert.NotNull(record);
        Assert.True(!_opened || record.NextAvailable is not null, "The record was taken for a new one.");
        _opened = true;
        ushort next = record.NextAvailable ?? _start;
        List<ushort> recovered = [.. record.Recovered];
        int[] requests = [.. recovered.Select(head => _requestOfHead[head])];
        Assert.Equal(requests.Order(), requests);
        // What was recovered and what is still to be fetched is what the driver waits for: nothing lost, nothing twice.
        var waiting = new List<ushort>(recovered);
        for (ushort index = next; index != _availableIndex; index++)
        {
            waiting.Add(_available[index % _queueSize]);
            Assert.True(waiting.Count <= _queueSize);
        }

        Assert.Equal(Enumerable.Range(0, _queueSize).Where(head => _requestOfHead[head] != NoRequest), waiting.Order().Select(head => (int)head));
        return (record, next, recovered);
    }

    private void Offer(int count)
    {
        int[] free = [.. Enumerable.Range(0, _queueSize).Where(head => _requestOfHead[head] == NoRequest)];
        _random.Shuffle(free);
        foreach (int head in free.Take(count))
        {
            _requestOfHead[head] = Offered++;
            _available[_availableIndex++ % _queueSize] = (ushort)head;
        }
    }

    private void Reap()
    {
        while (_usedSeen != _usedIndex)
        {
            ushort head = _used[_usedSeen++ % _queueSize];
            Assert.True(_requestOfHead[head] != NoRequest, $"Head {head} came back twice.");
            _requestOfHead[head] = NoRequest;
            Completed++;
        }
    }
}
