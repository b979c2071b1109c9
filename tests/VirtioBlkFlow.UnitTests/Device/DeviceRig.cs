using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Pipeline;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A device in this process with drivers at its queues: no socket, no other process.</summary>
internal sealed class DeviceRig : IFrontendNotifications, IDisposable
{
    public const ulong MemoryBytes = 8 << 20;

    private readonly IDisk _disk;
    private readonly List<DriverQueue> _queues = [];
    private readonly System.Collections.Concurrent.ConcurrentQueue<int> _broken = new();
    private readonly System.Collections.Concurrent.ConcurrentDictionary<int, TaskScheduler> _schedulers = new();
    private bool _detached;
    private int _configChanges;

    public DeviceRig(
        IDisk disk, BlkDeviceOptions? options = null, VirtioFeatures features = VirtioFeatures.VIRTIO_RING_F_EVENT_IDX, int queueSize = 128, int queueCount = 1)
    {
        _disk = disk;
        options ??= new BlkDeviceOptions();
        PipelineAssembly assembly = options.Assembly;
        Device = new BlkDevice(
            disk,
            options with
            {
                QueueCount = queueCount,
                Assembly = stages =>
                {
                    _schedulers[stages.QueueIndex] = stages.Scheduler;
                    return assembly(stages);
                },
            },
            NullLogger.Instance);
        Device.Attached(this);
        for (int i = 0; i < queueCount; i++)
        {
            _queues.Add(new DriverQueue(Device, Memory, i, queueSize, features));
        }
    }

    public BlkDevice Device { get; }

    public SharedMemory Memory { get; } = SharedMemory.OfSize(MemoryBytes);

    public IReadOnlyList<DriverQueue> Queues => _queues;

    public DriverQueue Queue => _queues[0];

    /// <summary>Queues that were reported as broken, in that order.</summary>
    public int[] Broken => [.. _broken];

    /// <summary>How often the front-end was told that the configuration space has changed.</summary>
    public int ConfigChanges => Volatile.Read(ref _configChanges);

    void IFrontendNotifications.NotifyConfigChanged() => Interlocked.Increment(ref _configChanges);

    void IFrontendNotifications.ReportQueueBroken(int index) => _broken.Enqueue(index);

    /// <summary>Runs something between two turns of a started queue, on its thread.</summary>
    public T OnReactor<T>(Func<T> body, int queue = 0)
    {
        Task<T> task = Task.Factory.StartNew(body, CancellationToken.None, TaskCreationOptions.None, _schedulers[queue]);
        Eventually.Ends(task, "the reactor runs a task");
        return task.Result;
    }

    public void OnReactor(Action body, int queue = 0) => OnReactor(
        () =>
        {
            body();
            return 0;
        },
        queue);

    /// <summary>Returns when the reactor has made some whole turns: what it would do with what it has, it has done.</summary>
    public void LetTurnsPass(int queue = 0)
    {
        for (int i = 0; i < 10; i++)
        {
            OnReactor(static () => { }, queue);
        }
    }

    /// <summary>Runs tasks on the thread of a started queue.</summary>
    public TaskScheduler SchedulerOf(int queue) => _schedulers[queue];

    public void Detach()
    {
        _detached = true;
        Device.Detached();
    }

    public void Dispose()
    {
        // With a deadline, so that a queue that does not end fails its test instead of holding up all of them.
        Eventually.Returns(
            () =>
            {
                if (!_detached)
                {
                    Device.Detached();
                }

                Device.Dispose();
            },
            "the device goes away");
        _queues.ForEach(static queue => queue.Dispose());
        Memory.Dispose();
        _disk.Dispose();
    }
}
