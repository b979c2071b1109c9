using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>
/// A device that only writes down what it is told. The session's thread writes; a test reads after a reply has shown that the
/// session is past the request, or after the session has ended.
/// </summary>
internal sealed class RecordingBackend : IVhostUserBackend
{
    public const ulong Packed = 1UL << 34;
    public const ulong Version1 = 1UL << 32;

    public List<string> Calls { get; } = [];

    public Dictionary<int, QueueSetup> Running { get; } = [];

    public QueueSetup LastSetup { get; private set; }

    public GuestMemoryTable Memory { get; private set; } = GuestMemoryTable.Empty;

    public QueueRings[] MovedRings { get; private set; } = [];

    public IFrontendNotifications? Frontend { get; private set; }

    public ulong OfferedFeatures { get; init; } = Version1 | Packed | 0x3f;

    public int QueueCount { get; init; } = 4;

    /// <summary>What StopQueue returns.</summary>
    public ushort NextAvailable { get; set; }

    public Func<ulong, bool> AcceptsFeatures { get; set; } = static _ => true;

    public Exception? StartFailure { get; set; }

    /// <summary>Run within StopQueue, as a device's threads could meanwhile.</summary>
    public Action? WhileStopping { get; set; }

    /// <summary>Run within ReplaceMemory, while the old table must still be mapped.</summary>
    public Action? WhileMoving { get; set; }

    /// <summary>Run within SetDirtyLog, while the old log must still be mapped.</summary>
    public Action? WhileChangingLog { get; set; }

    public DirtyLogMapping? DirtyLog { get; private set; }

    public LoggedUsedRing[] LoggedUsedRings { get; private set; } = [];

    /// <summary>What SaveState gives, and TryLoadState has taken.</summary>
    public byte[] State { get; set; } = [];

    public bool AcceptsState { get; set; } = true;

    /// <summary>What InflightBytesFor returns: by default 16 bytes a descriptor and 32 if packed, as real records have.</summary>
    public Func<int, int, ulong, ulong> AreaBytes { get; set; } =
        static (count, size, features) => (ulong)(count * size) * ((features & Packed) != 0 ? 32UL : 16UL);

    public void Attached(IFrontendNotifications frontend)
    {
        Frontend = frontend;
        Calls.Add("Attached");
    }

    public bool TrySetFeatures(ulong features)
    {
        Calls.Add($"Features {features:x}");
        return AcceptsFeatures(features);
    }

    public void ReadConfig(uint offset, Span<byte> destination)
    {
        for (var i = 0; i < destination.Length; i++)
        {
            destination[i] = offset + i < 60 ? (byte)(offset + i + 1) : (byte)0;
        }
    }

    public ConfigWriteOutcome WriteConfig(uint offset, ReadOnlySpan<byte> data, uint flags)
    {
        Calls.Add($"WriteConfig {offset} {Convert.ToHexString(data)} {flags}");
        return offset == 32 && data.Length == 1 ? ConfigWriteOutcome.Written : ConfigWriteOutcome.NotWritable;
    }

    public void StartQueue(int index, in QueueSetup setup)
    {
        if (StartFailure is not null)
        {
            throw StartFailure;
        }

        Assert.True(Running.TryAdd(index, setup), $"queue {index} is started twice");
        Assert.Equal(DirtyLog, setup.DirtyLog);
        LastSetup = setup;
        Calls.Add($"Start {index}");
    }

    public ushort StopQueue(int index)
    {
        Assert.True(Running.Remove(index), $"queue {index} is stopped and does not run");
        WhileStopping?.Invoke();
        Calls.Add($"Stop {index}");
        return NextAvailable;
    }

    public void ReplaceKick(int index, SafeFileHandle? kickDescriptor) => Replace("Kick", index, kickDescriptor);

    public void ReplaceCall(int index, SafeFileHandle? callDescriptor) => Replace("Call", index, callDescriptor);

    public void ReplaceError(int index, SafeFileHandle? errorDescriptor) => Replace("Error", index, errorDescriptor);

    public void ReplaceMemory(GuestMemoryTable table, ReadOnlySpan<QueueRings> runningQueues)
    {
        Assert.Equal(Running.Count, runningQueues.Length);
        WhileMoving?.Invoke();
        Memory = table;
        MovedRings = runningQueues.ToArray();
        Calls.Add($"Memory {table.Regions.Length} regions, {runningQueues.Length} queues");
    }

    public ulong InflightBytesFor(int queueCount, int queueSize, ulong features) => AreaBytes(queueCount, queueSize, features);

    public void SetDirtyLog(DirtyLogMapping? log, ReadOnlySpan<LoggedUsedRing> loggedUsedRings)
    {
        WhileChangingLog?.Invoke();
        Assert.All(loggedUsedRings.ToArray(), ring => Assert.True(Running.ContainsKey(ring.QueueIndex)));
        DirtyLog = log;
        LoggedUsedRings = loggedUsedRings.ToArray();
        Calls.Add($"Log {(log is null ? "none" : "new")}, {loggedUsedRings.Length} used rings");
    }

    public byte[] SaveState()
    {
        Assert.Empty(Running);
        Calls.Add("Save");
        return State;
    }

    public bool TryLoadState(ReadOnlySpan<byte> state)
    {
        Assert.Empty(Running);
        Calls.Add($"Load {state.Length}");
        if (!AcceptsState)
        {
            return false;
        }

        State = state.ToArray();
        return true;
    }

    public void Reset()
    {
        Assert.Empty(Running);
        Calls.Add("Reset");
    }

    public void Detached()
    {
        Assert.Empty(Running);
        Calls.Add("Detached");
    }

    private void Replace(string what, int index, SafeFileHandle? descriptor)
    {
        Assert.True(Running.ContainsKey(index), $"{what} of queue {index}, which does not run");
        Assert.True(descriptor is null or { IsClosed: false });
        Calls.Add($"{what} {index} {(descriptor is null ? "none" : "new")}");
    }
}
