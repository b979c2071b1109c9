using System.Runtime.InteropServices;
using VirtioBlkFlow.Virtio.Inflight;
using Assert = Xunit.Assert;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>
/// A packed ring, its driver and its record, which outlive the device. The driver is the judge: it knows what it offered and takes each
/// completion once.
/// </summary>
internal sealed unsafe class PackedWorld : IDisposable
{
    private const ushort Next = 1;
    private const ushort Available = 1 << 7;
    private const ushort UsedBit = 1 << 15;

    // VIRTIO 1.4, "The Packed Virtqueue Descriptor Table": addr, len, id, flags.
    [StructLayout(LayoutKind.Sequential)]
    private struct RingDescriptor
    {
        public ulong Address;
        public uint LengthBytes;
        public ushort Id;
        public ushort Flags;
    }

    private sealed record Request(int Number, ushort Id, PackedPosition Position, SavedDescriptor[] Descriptors);

    private readonly int _queueSize;
    private readonly Random _random;
    private readonly GuardedMemory _region;
    private readonly GuardedMemory _ringMemory;
    private readonly List<Request> _outstanding = [];
    private readonly PackedPosition _start;
    private PackedPosition _driverAvailable;
    private PackedPosition _driverUsed;
    private int _freeSlots;
    private bool _opened;

    // Of one life.
    private PackedInflightRecord _record = null!;
    private PackedPosition _next;
    private Dictionary<ushort, Request> _inFlight = [];
    private List<Request> _batch = [];

    public PackedWorld(int queueSize, PackedPosition start, Random random)
    {
        _queueSize = queueSize;
        _random = random;
        _region = new GuardedMemory(InflightLayout.BytesPerQueue(packed: true, queueSize));
        _ringMemory = new GuardedMemory(queueSize * sizeof(RingDescriptor));
        _start = _driverAvailable = _driverUsed = start;
        _freeSlots = queueSize;
        for (int i = 0; i < queueSize; i++)
        {
            // As the lap before left it: used, so that a queue that starts in the second lap finds nothing available.
            var position = new PackedPosition((ushort)i, i < start.Offset ? start.Wrap : !start.Wrap);
            Ring[i].Flags = UsedFlags(position);
        }
    }

    public int Offered { get; private set; }

    public int Completed { get; private set; }

    private RingDescriptor* Ring => (RingDescriptor*)_ringMemory.Address;

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
        _ringMemory.AssertGuardsUntouched();
    }

    /// <summary>A last process that finishes everything.</summary>
    public void Finish()
    {
        Open(CrashClock.Never);
        while (TryTakeNext(CrashClock.Never))
        {
        }

        foreach (ushort slot in _inFlight.Keys.ToArray())
        {
            Complete(slot);
        }

        Publish(CrashClock.Never);
        Reap();
        Assert.Equal(Offered, Completed);
        Assert.Empty(_outstanding);
    }

    public void Dispose()
    {
        _region.Dispose();
        _ringMemory.Dispose();
    }

    private void Serve(CrashClock clock, int steps)
    {
        Open(clock);
        for (int i = 0; i < steps; i++)
        {
            switch (_random.Next(4))
            {
                case 0:
                    Offer();
                    break;
                case 1:
                    TryTakeNext(clock);
                    break;
                case 2 when _inFlight.Count > 0:
                    Complete(_inFlight.Keys.ElementAt(_random.Next(_inFlight.Count)));
                    break;
                case 3 when _random.Next(3) == 0:
                    Publish(clock);
                    Reap();
                    break;
            }
        }
    }

    private void Open(CrashClock clock)
    {
        // The front-end knows no position after a crash; what it says then must not matter.
        PackedPosition said = _opened ? new PackedPosition((ushort)_random.Next(_queueSize), _random.Next(2) == 0) : _start;
        InflightDefect defect = PackedInflightRecord.TryOpen(
            _region.Address, (ulong)_region.LengthBytes, _queueSize, _ringMemory.Address, said, clock.Observer, out PackedInflightRecord? record);
        Assert.Equal(InflightDefect.None, defect);
        _record = record!;
        Assert.True(!_opened || _record.NextAvailable is not null, "The record was taken for a new one.");
        _opened = true;
        _next = _record.NextAvailable ?? _start;
        _batch = [];
        _inFlight = [];
        int last = -1;
        foreach (RecoveredChain chain in _record.Recovered)
        {
            Request request = Assert.Single(_outstanding, request => request.Id == chain.BufferId);
            Assert.True(request.Number > last, "not in the order they were taken");
            Assert.Equal(request.Descriptors, chain.Descriptors);
            last = request.Number;
            Assert.True(_inFlight.TryAdd(chain.Slot, request));
        }

        // What was recovered and what is still to be fetched is what the driver waits for: nothing lost, nothing twice.
        Request[] notTaken = [.. _outstanding.Except(_inFlight.Values)];
        Assert.Equal(notTaken is [var first, ..] ? first.Position : _driverAvailable, _next);
        Assert.All(notTaken, request => Assert.True(request.Number > last));
        Assert.Equal(_driverUsed, _record.Used);
    }

    private bool TryTakeNext(CrashClock clock)
    {
        ushort flags = Ring[_next.Offset].Flags;
        if ((flags & Available) != 0 != _next.Wrap || (flags & UsedBit) != 0 == _next.Wrap)
        {
            return false;
        }

        if (_random.Next(8) == 0)
        {
            // A chain that cannot be taken now leaves no trace.
            Assert.True(_record.TrySave(Copy(_next)));
            _record.Abandon();
        }

        PackedPosition start = _next;
        PackedPosition position = _next;
        do
        {
            flags = Ring[position.Offset].Flags;
            Assert.True(_record.TrySave(Copy(position)));
            position = position.Advance(1, _queueSize);
        }
        while ((flags & Next) != 0);

        ushort[] free = [.. Enumerable.Range(0, _queueSize).Select(slot => (ushort)slot).Where(slot => !_inFlight.ContainsKey(slot))];
        ushort taken = free[_random.Next(free.Length)];
        Request request = _outstanding.Except(_inFlight.Values).Except(_batch).First();
        Assert.Equal(start, request.Position);
        _record.Take(taken, clock.Observer);
        _inFlight.Add(taken, request);
        _next = position;
        return true;
    }

    private void Complete(ushort slot)
    {
        _record.AddToBatch(slot);
        Assert.True(_inFlight.Remove(slot, out Request? request));
        _batch.Add(request);
    }

    private void Publish(CrashClock clock)
    {
        PackedPosition position = _record.Used;
        var writes = new List<(PackedPosition Position, ushort Id)>();
        foreach (Request request in _batch)
        {
            writes.Add((position, request.Id));
            position = position.Advance(request.Descriptors.Length, _queueSize);
        }

        // The later ones first, before or after the record is ready for them.
        bool early = _random.Next(2) == 0;
        if (!early)
        {
            _record.BeforePublish(clock.Observer);
        }

        for (int i = writes.Count - 1; i >= 0; i--)
        {
            if (early && i == 0)
            {
                _record.BeforePublish(clock.Observer);
            }

            RingDescriptor* descriptor = Ring + writes[i].Position.Offset;
            descriptor->Id = writes[i].Id;
            descriptor->LengthBytes = 0;
            clock.Tick();
            descriptor->Flags = UsedFlags(writes[i].Position);
            clock.Tick();
        }

        _record.AfterPublish(clock.Observer);
        Assert.Equal(position, _record.Used);
        _batch.Clear();
    }

    private void Offer()
    {
        int length = Math.Min(_random.Next(1, 4), _freeSlots);
        if (length == 0)
        {
            return;
        }

        ushort[] free = [.. Enumerable.Range(0, _queueSize).Select(id => (ushort)id).Where(id => _outstanding.All(request => request.Id != id))];
        ushort chosen = free[_random.Next(free.Length)];
        PackedPosition start = _driverAvailable;
        var descriptors = new SavedDescriptor[length];
        for (int i = 0; i < length; i++)
        {
            bool last = i == length - 1;
            RingDescriptor* descriptor = Ring + _driverAvailable.Offset;
            descriptor->Address = ((ulong)(uint)Offered << 32) | (uint)i;
            descriptor->LengthBytes = (uint)_random.Next();
            // Only the last one's id means something.
            descriptor->Id = last ? chosen : (ushort)_random.Next(65536);
            descriptor->Flags = (ushort)((_driverAvailable.Wrap ? Available : UsedBit) | (last ? 0 : Next));
            descriptors[i] = Copy(_driverAvailable);
            _driverAvailable = _driverAvailable.Advance(1, _queueSize);
        }

        _freeSlots -= length;
        _outstanding.Add(new Request(Offered++, chosen, start, descriptors));
    }

    private void Reap()
    {
        while (_freeSlots < _queueSize && (Ring[_driverUsed.Offset].Flags & (Available | UsedBit)) == UsedFlags(_driverUsed))
        {
            ushort id = Ring[_driverUsed.Offset].Id;
            Request? request = _outstanding.Find(request => request.Id == id);
            Assert.True(request is not null, $"Buffer {id} came back twice.");
            _outstanding.Remove(request);
            _driverUsed = _driverUsed.Advance(request.Descriptors.Length, _queueSize);
            _freeSlots += request.Descriptors.Length;
            Completed++;
        }
    }

    private SavedDescriptor Copy(PackedPosition position)
    {
        RingDescriptor descriptor = Ring[position.Offset];
        return new SavedDescriptor { Address = descriptor.Address, LengthBytes = descriptor.LengthBytes, Id = descriptor.Id, Flags = descriptor.Flags };
    }

    private static ushort UsedFlags(PackedPosition position) => position.Wrap ? (ushort)(Available | UsedBit) : (ushort)0;
}
