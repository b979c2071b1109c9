using System.Collections.Concurrent;
using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>How to make a device; the defaults do for most.</summary>
internal sealed record ServedOptions
{
    public long ImageBytes { get; init; } = 4 << 20;

    public bool ReadOnly { get; init; }

    /// <summary>An image that another device has made and keeps; null for one of its own.</summary>
    public DiskImage? SharedImage { get; init; }

    /// <summary>Zones of the disk; null for none.</summary>
    public ZoneGeometry? Zones { get; init; }

    /// <summary>Whether the disk says that it can erase for good.</summary>
    public bool SecureErase { get; init; }

    /// <summary>What the disk says of its wear.</summary>
    public DiskLifetime? Lifetime { get; init; }

    /// <summary>Smallest transfer the disk says it takes.</summary>
    public uint LogicalBlockBytes { get; init; } = 512;

    public BlkDeviceOptions Device { get; init; } = new() { QueueCount = 2 };
}

/// <summary>
/// The device in this process, behind a real unix socket, over a real file: all that the program has but its command line. What would have
/// to be awaited in vain is settled by <see cref="LetTurnsPass"/>.
/// </summary>
internal sealed class ServedDevice : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly BlkDevice _device;
    private readonly VhostUserServer _server;
    private readonly ConcurrentDictionary<int, TaskScheduler> _schedulers = new();

    public ServedDevice(ServedOptions? options = null)
    {
        options ??= new ServedOptions();
        Image = options.SharedImage ?? new DiskImage(_folder["disk.img"]);
        if (options.SharedImage is null)
        {
            using FileStream file = new(Image.FilePath, FileMode.CreateNew);
            file.SetLength(options.ImageBytes);
        }

        Disk = new ObservedDisk(OpenDisk(options), options.LogicalBlockBytes) { ClaimsSecureErase = options.SecureErase, Lifetime = options.Lifetime };
        BlkDeviceOptions device = options.Device;
        _device = new BlkDevice(
            Disk,
            device with
            {
                Assembly = stages =>
                {
                    _schedulers[stages.QueueIndex] = stages.Scheduler;
                    return device.Assembly(stages);
                },
            },
            NullLogger.Instance);
        SocketPath = _folder["device.sock"];
        _server = VhostUserServer.OnListener(VhostUser.Server.ListeningSocket.Listen(SocketPath), _device, VhostUserSessionOptions.Default, NullLogger.Instance);
        _server.Start();
    }

    public string SocketPath { get; }

    public DiskImage Image { get; }

    public ObservedDisk Disk { get; }

    /// <summary>Looks at the size of the image again, as the program does when it is told to.</summary>
    public DiskResize Refresh() => _device.Refresh();

    /// <summary>A connection that has said nothing yet.</summary>
    public VhostUserFrontend Connect() => VhostUserFrontend.Connect(SocketPath);

    /// <summary>A front-end that behaves, with drivers at its queues.</summary>
    public FrontendSession Open(FrontendOptions? options = null) => FrontendSession.Open(SocketPath, options);

    /// <summary>
    /// Returns when a queue's thread has made some whole turns: what it would do with what it has, it has done. A queue that never ran has
    /// no thread, and so nothing that could do anything.
    /// </summary>
    public void LetTurnsPass(int queue = 0)
    {
        for (int i = 0; i < 10; i++)
        {
            OnReactor(queue, static () => { });
        }
    }

    /// <summary>Lets the disk have what it was kept from, now and from now on.</summary>
    public void Release(int queue = 0)
    {
        Disk.Hold(static _ => false);
        OnReactor(queue, Disk.ReleaseOwn);
    }

    public void Dispose()
    {
        Disk.Hold(static _ => false);
        if (Disk.HeldCount > 0)
        {
            // A test that failed half-way: the queue's thread lives, because it waits for these.
            foreach (int queue in _schedulers.Keys)
            {
                OnReactor(queue, Disk.ReleaseOwn);
            }
        }

        _server.Dispose();
        _device.Dispose();
        Disk.Dispose();
        _folder.Dispose();
    }

    private IDisk OpenDisk(ServedOptions options)
    {
        FileDisk file = FileDisk.Open(new FileDiskOptions(Image.FilePath, options.ReadOnly, Lock: options.SharedImage is null));
        return options.Zones is { } zones ? ZonedDisk.Open(file, zones) : file;
    }

    private void OnReactor(int queue, Action body)
    {
        if (_schedulers.TryGetValue(queue, out TaskScheduler? scheduler))
        {
            Task task = Task.Factory.StartNew(body, CancellationToken.None, TaskCreationOptions.None, scheduler);
            Await.Until(() => task.IsCompleted, $"queue {queue} makes a turn");
        }
    }
}
