using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Wrapping;

/// <summary>A queue of a disk whose time stands still unless the test lets some pass.</summary>
internal sealed unsafe class WrappingBench : IDiskCompletions, IDisposable
{
    public const int Slots = 64;
    private const int MemoryBytes = 1 << 20;

    private readonly byte* _memory = (byte*)NativeMemory.AllocZeroed(MemoryBytes);
    private readonly Iovec* _pieces = (Iovec*)NativeMemory.AllocZeroed(Slots * 2, (nuint)sizeof(Iovec));
    private readonly DiskRange* _ranges = (DiskRange*)NativeMemory.AllocZeroed(Slots * 2, (nuint)sizeof(DiskRange));
    private readonly bool[] _busy = new bool[Slots];

    public WrappingBench(IDisk disk, FakeEngine? engine = null)
    {
        Engine = engine ?? new FakeEngine();
        Queue = disk.OpenQueue(Engine, this, Slots);
    }

    public FakeEngine Engine { get; }

    public IDiskQueue Queue { get; }

    /// <summary>What has ended, in this order.</summary>
    public List<(int Slot, DiskOutcome Outcome)> Ended { get; } = [];

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        Assert.True(_busy[slot], $"Slot {slot} ends without having begun.");
        _busy[slot] = false;
        Ended.Add((slot, outcome));
    }

    public void Pass(double milliseconds) => Engine.Pass(TimeSpan.FromMilliseconds(milliseconds));

    /// <summary>A request in two pieces, or for two ranges with nothing between them.</summary>
    public void Submit(int slot, DiskOperation operation, ulong offsetBytes = 0, uint lengthBytes = 1024, bool durable = false)
    {
        Assert.False(_busy[slot], $"Slot {slot} is free.");
        _busy[slot] = true;
        var request = new DiskRequest { Operation = operation, Durable = durable, OffsetBytes = offsetBytes };
        uint first = lengthBytes / 2 / 512 * 512;
        if (operation is DiskOperation.Read or DiskOperation.Write or DiskOperation.Append)
        {
            request.Pieces = _pieces + (slot * 2);
            request.PieceCount = 2;
            request.LengthBytes = lengthBytes;
            request.Pieces[0] = new Iovec(_memory, first);
            request.Pieces[1] = new Iovec(_memory + first, lengthBytes - first);
        }
        else if (operation is DiskOperation.Discard or DiskOperation.WriteZeroes or DiskOperation.SecureErase)
        {
            request.Ranges = _ranges + (slot * 2);
            request.RangeCount = 2;
            request.Ranges[0] = new DiskRange(offsetBytes, first, MayDeallocate: true);
            request.Ranges[1] = new DiskRange(offsetBytes + first, lengthBytes - first, MayDeallocate: false);
        }

        Queue.Submit(slot, in request);
    }

    /// <summary>What has ended since the last time.</summary>
    public (int Slot, DiskOutcome Outcome)[] Take()
    {
        (int, DiskOutcome)[] ended = [.. Ended];
        Ended.Clear();
        return ended;
    }

    public void Dispose()
    {
        Queue.Dispose();
        NativeMemory.Free(_memory);
        NativeMemory.Free(_pieces);
        NativeMemory.Free(_ranges);
    }
}
