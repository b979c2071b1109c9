using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Inflight;
using DirtyLog = VirtioBlkFlow.Virtio.Migration.DirtyLog;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// A dirty log and a record of requests in flight, in one file with a pattern around both, and files with states of devices: what
/// connections share besides guest memory. Owned by one thread.
/// </summary>
internal sealed class SharedAreas : IDisposable
{
    private const int FileBytes = 0x1_0000;
    private const int LogOffset = 0x1238;
    private const int RecordOffset = 0x4040;

    // Bits for the area, and some more.
    private const int LogBytes = 29;
    private const int RecordBytes = 0x4000;

    private readonly SharedRegion _file = new(new SharedRegionOptions(0, FileBytes));
    private readonly SharedRegion _decoy = new(new SharedRegionOptions(0, 8192));
    private readonly List<SharedRegion> _states = [];
    private readonly byte[] _expected = new byte[FileBytes];

    public SharedAreas(FuzzRandom random) => random.Fill(_expected);

    /// <summary>Sent where memory does not belong. As a call descriptor it is written, as the front-end asked for, so it must not be an area.</summary>
    public SafeFileHandle Decoy => _decoy.Handle;

    private unsafe Span<byte> File => new(_file.Host, FileBytes);

    private Span<byte> LogBits => File.Slice(LogOffset, LogBytes);

    /// <summary>A connection begins: nothing is marked, and nothing is in flight.</summary>
    public void BeginCase()
    {
        _expected.CopyTo(File);
        LogBits.Clear();
        File.Slice(RecordOffset, RecordBytes).Clear();
        _states.ForEach(state => state.Dispose());
        _states.Clear();
    }

    /// <summary>Whether a page is marked.</summary>
    public bool IsMarked(ulong guestAddress)
    {
        ulong page = guestAddress / DirtyLog.PageBytes;
        return (LogBits[(int)(page / 8)] & (1 << (int)(page % 8))) != 0;
    }

    /// <summary>Pages that are marked.</summary>
    public int MarkedCount => LogBits.ToArray().Sum(bits => byte.PopCount(bits));

    /// <summary>Around the log and the record nothing may have changed.</summary>
    public void RequireUntouchedAround()
    {
        int logEnd = LogOffset + LogBytes;
        int recordEnd = RecordOffset + RecordBytes;
        if (!File[..LogOffset].SequenceEqual(_expected.AsSpan(0, LogOffset))
            || !File[logEnd..RecordOffset].SequenceEqual(_expected.AsSpan(logEnd, RecordOffset - logEnd))
            || !File[recordEnd..].SequenceEqual(_expected.AsSpan(recordEnd)))
        {
            throw new FindingException(FindingKind.MemoryTouched, "The file with the dirty log and the record is written beside both.");
        }
    }

    /// <summary>SET_LOG_BASE.</summary>
    public WireMessage Log() => WireMessage.Of(FrontendRequest.SET_LOG_BASE, new LogArea(LogBytes, LogOffset), _file.Handle);

    /// <summary>SET_INFLIGHT_FD for one queue.</summary>
    public WireMessage Record(int queueSize) => WireMessage.Of(
        FrontendRequest.SET_INFLIGHT_FD, new InflightArea((ulong)InflightLayout.BytesPerQueue(packed: false, queueSize), RecordOffset, 1, (ushort)queueSize), _file.Handle);

    /// <summary>Something to say about these things; sizes and places are right, or anything.</summary>
    public WireMessage Anything(FuzzRandom random) => random.Below(10) switch
    {
        0 => Log(),
        1 => Log().Acknowledged(),
        2 => WireMessage.Of(FrontendRequest.SET_LOG_BASE, new LogArea(random.NearAnEdge(), random.NearAnEdge() & ~7ul), Decoy),
        3 => new WireMessage(FrontendRequest.SET_LOG_FD, new byte[8 * random.Below(2)], Decoy),
        4 => Record(1 << random.Below(9)).Acknowledged(),
        5 => WireMessage.Of(
            FrontendRequest.SET_INFLIGHT_FD, new InflightArea(random.NearAnEdge(), random.NearAnEdge() & ~63ul, (ushort)random.Below(5), (ushort)random.NearAnEdge()), Decoy).Acknowledged(),
        6 => new WireMessage(FrontendRequest.GET_INFLIGHT_FD, Wanted(random)),
        7 or 8 => State(random),
        _ => new WireMessage(FrontendRequest.CHECK_DEVICE_STATE, []),
    };

    public void Dispose()
    {
        _states.ForEach(state => state.Dispose());
        _decoy.Dispose();
        _file.Dispose();
    }

    // Of either size that front-ends send.
    private static byte[] Wanted(FuzzRandom random)
    {
        byte[] payload = new byte[24];
        MemoryMarshal.Write(payload, new InflightArea(0, 0, (ushort)random.Pick(0, 1, 3, 4, 65535), (ushort)random.Pick(0, 1, 100, 256, 32768, 65535)));
        return payload[..random.Pick(20, 24)];
    }

    // A file ends, so that a load ends.
    private unsafe WireMessage State(FuzzRandom random)
    {
        SharedRegion file = new(new SharedRegionOptions(0, (ulong)random.Pick(1, 8, 8, 8, 9, 5000)));
        _states.Add(file);
        Span<byte> state = new(file.Host, (int)file.LengthBytes);
        ReadOnlySpan<byte> right = [.. "VBLK"u8, 1, 0, (byte)random.Below(2), 0];
        right[..Math.Min(state.Length, right.Length)].CopyTo(state);
        if (random.OneIn(2))
        {
            state[random.Below(state.Length)] ^= (byte)(1 << random.Below(8));
        }

        return WireMessage.Of(FrontendRequest.SET_DEVICE_STATE_FD, new DeviceStateTransfer((uint)random.Below(3), random.OneIn(8) ? 1u : 0u), file.Handle);
    }
}
