using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;

namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>Passes everything on to the real device, and tells the plan of the rings; what goes wrong between session and device is here.</summary>
internal sealed class SabotagedDevice(IVhostUserBackend device, SabotagePlan plan) : IVhostUserBackend
{
    // Sessions before the session falls silent. Arbitrary.
    private const int HonestSessions = 5;

    private readonly List<SafeFileHandle> _kept = [];
    private int _sessions;

    public ulong OfferedFeatures => device.OfferedFeatures;

    public int QueueCount => device.QueueCount;

    public void Attached(IFrontendNotifications frontend)
    {
        _sessions++;
        if (plan.Kind == Sabotage.Descriptor)
        {
            _kept.Add(File.OpenHandle("/dev/null"));
        }
        else if (plan.Kind == Sabotage.SilentSession && _sessions > HonestSessions)
        {
            Thread.Sleep(Timeout.Infinite);
        }

        device.Attached(frontend);
    }

    public bool TrySetFeatures(ulong features) => device.TrySetFeatures(features);

    public void ReadConfig(uint offset, Span<byte> destination) => device.ReadConfig(offset, destination);

    public ConfigWriteOutcome WriteConfig(uint offset, ReadOnlySpan<byte> data, uint flags) => device.WriteConfig(offset, data, flags);

    public void StartQueue(int index, in QueueSetup setup)
    {
        plan.Starting(setup.Rings);
        device.StartQueue(index, in setup);
    }

    public ushort StopQueue(int index) => device.StopQueue(index);

    public void ReplaceKick(int index, SafeFileHandle? kickDescriptor) => device.ReplaceKick(index, kickDescriptor);

    public void ReplaceCall(int index, SafeFileHandle? callDescriptor) => device.ReplaceCall(index, callDescriptor);

    public void ReplaceError(int index, SafeFileHandle? errorDescriptor) => device.ReplaceError(index, errorDescriptor);

    public void ReplaceMemory(GuestMemoryTable table, ReadOnlySpan<QueueRings> runningQueues) => device.ReplaceMemory(table, runningQueues);

    public ulong InflightBytesFor(int queueCount, int queueSize, ulong features) => device.InflightBytesFor(queueCount, queueSize, features);

    public void SetDirtyLog(DirtyLogMapping? log, ReadOnlySpan<LoggedUsedRing> loggedUsedRings) => device.SetDirtyLog(log, loggedUsedRings);

    public byte[] SaveState() => device.SaveState();

    public bool TryLoadState(ReadOnlySpan<byte> state) => device.TryLoadState(state);

    public void Reset() => device.Reset();

    public void Detached() => device.Detached();
}
