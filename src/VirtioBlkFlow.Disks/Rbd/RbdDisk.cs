using System.Runtime.CompilerServices;
using VirtioBlkFlow.Disks.Engine;
using static VirtioBlkFlow.Disks.Rbd.LibRbd;

namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>
/// An image of a Ceph cluster. Shared by all queues; everything but the size and the loss of the lock is fixed once it is open. What has
/// ended is on the disks of the cluster: there is no cache on this side.
/// </summary>
public sealed unsafe class RbdDisk : IDisk
{
    private const uint SectorBytes = 512;

    // What bluestore allocates at least; smaller writes cost the cluster more.
    private const uint PhysicalBytes = 4096;

    // How often the cluster is asked whether the lock is still ours, beside each time somebody changes the image. Arbitrary.
    private static readonly TimeSpan s_lookInterval = TimeSpan.FromSeconds(10);

    // For a cluster that is there, renewing takes milliseconds. Arbitrary.
    private static readonly TimeSpan s_renewalPatience = TimeSpan.FromMilliseconds(500);

    // For a cluster that is there, closing takes milliseconds; for one that is gone, several time-outs. Arbitrary.
    private static readonly TimeSpan s_closePatience = TimeSpan.FromSeconds(5);

    // Fixed at construction.
    private readonly RbdDiskOptions _options;
    private readonly RbdImage _image;
    private readonly GCHandle _self;
    private readonly Timer? _lookTimer;
    private readonly ulong _watch;
    private readonly bool _isWatched;

    // 1 once the lock is lost, read by every queue: from then on somebody else may write, so we do not.
    private int _lockLost;

    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;

    // Shared between whoever looks after the image, one at a time, and its end.
    private readonly Lock _looking = new();
    private bool _isClosed;
    private int _looksWanted;
    private int _isDisposed;

    private RbdDisk(RbdDiskOptions options, RbdImage image, ulong sizeBytes)
    {
        _options = options;
        _image = image;
        _properties = new DiskProperties
        {
            CapacityBytes = sizeBytes,
            PhysicalBlockBytes = PhysicalBytes,
            ReadOnly = options.ReadOnly,
            CanDiscard = !options.ReadOnly,
            CanWriteZeroes = !options.ReadOnly,
        };
        _self = GCHandle.Alloc(this);
        if (options.Snapshot is null)
        {
            ulong watch = 0;
            _isWatched = rbd_update_watch(image.Handle, &watch, &OnImageChanged, (void*)GCHandle.ToIntPtr(_self)) == 0;
            _watch = watch;
            _lookTimer = new Timer(_ => WantLook(), null, s_lookInterval, s_lookInterval);
        }
    }

    /// <inheritdoc/>
    public event Action? SizeChanged;

    /// <inheritdoc/>
    public DiskProperties Properties => _properties;

    internal RbdImage Image => _image;

    /// <summary>Whether the lock is gone, or the cluster has shut us out: nothing is written any more.</summary>
    internal bool LockLost => Volatile.Read(ref _lockLost) != 0;

    private bool HoldsLock => _options is { Lock: true, ReadOnly: false };

    /// <summary>Connects to the cluster, opens the image and locks it.</summary>
    /// <exception cref="DiskOpenException">It cannot be; the message names cause and remedy.</exception>
    public static RbdDisk Open(RbdDiskOptions options)
    {
        options = options with { ReadOnly = options.ReadOnly || options.Snapshot is not null };
        RbdImage image = RbdImage.Open(options);
        try
        {
            ulong sizeBytes = SizeOf(image, options);
            if (options is { Lock: true, ReadOnly: false })
            {
                RbdLock.Take(image, options);
            }
            else if (options is { Lock: true, Snapshot: null })
            {
                RbdLock.RequireNoWriter(image, options);
            }

            return new RbdDisk(options, image, sizeBytes);
        }
        catch
        {
            image.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new RbdDiskQueue(this, engine.Agenda, completions, slotCount);

    /// <inheritdoc/>
    public DiskOutcome Flush() =>
        _properties.ReadOnly || (!LockLost && rbd_flush(_image.Handle) == 0) ? DiskOutcome.Done : DiskOutcome.Failed;

    /// <inheritdoc/>
    public DiskResize Refresh()
    {
        DiskProperties before = _properties;
        if (!_image.TryReadSize(out ulong bytes))
        {
            // A cluster that does not answer has no size; its requests fail by themselves.
            return new DiskResize(before.CapacityBytes, before.CapacityBytes, 0);
        }

        ulong unusedBytes = bytes % SectorBytes;
        _properties = before with { CapacityBytes = bytes - unusedBytes };
        return new DiskResize(before.CapacityBytes, bytes - unusedBytes, unusedBytes);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0)
        {
            return;
        }

        _lookTimer?.Dispose();
        // Apart, because a cluster that is gone is not waited for: nothing is in flight, and the lock runs out by itself.
        var closing = new Thread(Close) { Name = "rbd-close", IsBackground = true };
        closing.Start();
        if (!closing.Join(s_closePatience))
        {
            _options.Report?.Invoke($"'{_options.Path}' could not be closed within {s_closePatience.TotalSeconds} s: the cluster does not answer.");
        }
    }

    /// <summary>Somebody else may write from now on, or the cluster has shut us out. From any thread.</summary>
    internal void LoseLock()
    {
        if (Interlocked.Exchange(ref _lockLost, 1) == 0)
        {
            _options.Report?.Invoke(
                $"The lock of '{_options.Path}' is lost, or the cluster has shut this client out: every write fails until this program is started anew.");
        }
    }

    /// <summary>
    /// Has somebody look soon, on another thread, whether the lock is still ours and the size what it was. However often that is wanted, one
    /// look is under way and at most one waits. From any thread.
    /// </summary>
    internal void WantLook()
    {
        if (Interlocked.Increment(ref _looksWanted) == 1)
        {
            ThreadPool.UnsafeQueueUserWorkItem(disk => disk.Look(), this, preferLocal: false);
        }
    }

    private static ulong SizeOf(RbdImage image, RbdDiskOptions options)
    {
        if (!image.TryReadSize(out ulong bytes))
        {
            throw new DiskOpenException($"The size of '{options.Path}' cannot be read. Check the cluster: ceph -s");
        }

        if (bytes == 0 || bytes % SectorBytes != 0)
        {
            ulong megabytes = (bytes >> 20) + 1;
            throw new DiskOpenException(
                $"The size of '{options.Path}', {bytes} bytes, is not a multiple of {SectorBytes}, or nothing. Give it another: rbd resize {options.Path} --size {megabytes}M");
        }

        return bytes;
    }

    // On a thread of librbd's, which must not be held up: it could not fetch what has changed.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnImageChanged(void* argument) => ((RbdDisk)GCHandle.FromIntPtr((nint)argument).Target!).WantLook();

    private void Look()
    {
        int wanted;
        do
        {
            wanted = Volatile.Read(ref _looksWanted);
            bool hasOtherSize;
            lock (_looking)
            {
                if (_isClosed)
                {
                    return;
                }

                if (HoldsLock && !LockLost && IsLockLost())
                {
                    LoseLock();
                }

                hasOtherSize = _image.TryReadSize(out ulong bytes) && bytes - (bytes % SectorBytes) != _properties.CapacityBytes;
            }

            if (hasOtherSize)
            {
                SizeChanged?.Invoke();
            }
        }
        while (Interlocked.Add(ref _looksWanted, -wanted) != 0);
    }

    // Twice: librbd renews the lock after a connection was lost, and for a moment its name for it is not the cluster's.
    private bool IsLockLost()
    {
        if (!RbdLock.IsLost(_image))
        {
            return false;
        }

        Thread.Sleep(s_renewalPatience);
        return RbdLock.IsLost(_image);
    }

    // Order: nobody looks any more; nobody is called any more; then the image, its lock and its connection go.
    private void Close()
    {
        lock (_looking)
        {
            _isClosed = true;
        }

        if (_isWatched)
        {
            _ = rbd_update_unwatch(_image.Handle, _watch);
        }

        _image.Dispose();
        _self.Free();
    }
}
