using System.Runtime.InteropServices;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>A file disk whose operations end as the test says: one queue, one slot for each request.</summary>
internal sealed unsafe class ScriptedDisk : IDiskCompletions, IDisposable
{
    public const int EINTR = 4;
    public const int EIO = 5;
    public const int EAGAIN = 11;
    public const int ENOSPC = 28;
    public const int EOPNOTSUPP = 95;
    public const int MemoryBytes = 1 << 20;

    private readonly TemporaryImage _image;
    private readonly IDiskQueue _queue;
    private readonly byte* _memory = (byte*)NativeMemory.AlignedAlloc(MemoryBytes, 4096);
    private readonly Iovec* _pieces = (Iovec*)NativeMemory.Alloc(2048, (nuint)sizeof(Iovec));
    private readonly DiskRange* _ranges = (DiskRange*)NativeMemory.Alloc(32, (nuint)sizeof(DiskRange));
    private readonly Dictionary<int, DiskOutcome> _outcomes = [];

    public ScriptedDisk(bool direct = false, bool readOnly = false, bool canErase = false)
    {
        _image = new TemporaryImage();
        var host = new BlockDeviceHost { NumberOf = _ => canErase ? new DeviceNumber(0, 0) : null, CanSecureErase = _ => true };
        Disk = FileDisk.Open(new FileDiskOptions(_image.Path, readOnly, direct), host);
        _queue = Disk.OpenQueue(Engine, this, 16);
        NativeMemory.Clear(_memory, MemoryBytes);
    }

    public FakeEngine Engine { get; } = new();

    public FileDisk Disk { get; }

    public Span<byte> Memory => new(_memory, MemoryBytes);

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        Assert.False(_outcomes.ContainsKey(slot), $"Slot {slot} ended twice.");
        _outcomes[slot] = outcome;
    }

    public bool HasEnded(int slot) => _outcomes.ContainsKey(slot);

    public DiskOutcome OutcomeOf(int slot)
    {
        Assert.True(_outcomes.Remove(slot, out DiskOutcome outcome), $"Slot {slot} has not ended.");
        return outcome;
    }

    /// <summary>A transfer from or to the memory, in pieces of equal size.</summary>
    public void Transfer(int slot, DiskOperation operation, ulong offsetBytes, int pieceCount, int pieceBytes, bool durable = false, int shift = 0)
    {
        for (int i = 0; i < pieceCount; i++)
        {
            _pieces[i] = new Iovec(_memory + shift + (i * pieceBytes), (nuint)pieceBytes);
        }

        _queue.Submit(slot, new DiskRequest
        {
            Operation = operation,
            Durable = durable,
            OffsetBytes = offsetBytes,
            LengthBytes = (uint)(pieceCount * pieceBytes),
            Pieces = _pieces,
            PieceCount = pieceCount,
        });
    }

    public void Ranges(int slot, DiskOperation operation, bool durable, params ReadOnlySpan<DiskRange> ranges)
    {
        ranges.CopyTo(new Span<DiskRange>(_ranges, 32));
        _queue.Submit(slot, new DiskRequest { Operation = operation, Durable = durable, Ranges = _ranges, RangeCount = ranges.Length });
    }

    public void Flush(int slot) => _queue.Submit(slot, new DiskRequest { Operation = DiskOperation.Flush });

    public void Submit(int slot, DiskRequest request) => _queue.Submit(slot, in request);

    /// <summary>Ends the oldest operation.</summary>
    public FakeOperation End(int result)
    {
        FakeOperation operation = Engine.Next();
        _queue.OnIoCompleted((int)operation.Token, result);
        return operation;
    }

    /// <summary>Ends the oldest operation as if all of it had been done.</summary>
    public FakeOperation EndWhole()
    {
        FakeOperation operation = Engine.Next();
        _queue.OnIoCompleted((int)operation.Token, operation.Call is FakeCall.Read or FakeCall.Write ? (int)operation.LengthBytes : 0);
        return operation;
    }

    public void Dispose()
    {
        _queue.Dispose();
        Disk.Dispose();
        _image.Dispose();
        NativeMemory.AlignedFree(_memory);
        NativeMemory.Free(_pieces);
        NativeMemory.Free(_ranges);
    }
}
