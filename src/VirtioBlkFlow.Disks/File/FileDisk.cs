using Mono.Unix.Native;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.Disks.File;

/// <summary>A raw image file as a disk. Shared by all queues; everything but the failure latches, the size and the wear is fixed once it is open.</summary>
public sealed class FileDisk : IDisk
{
    // Set once, read by every queue: after a failed fdatasync the kernel forgets the error and the pages, so that a later success
    // says nothing about the writes before (fsync(2), "NOTES" and "ERRORS"). From then on durability is refused.
    private volatile bool _durabilityLost;

    // Set once, read by every queue: saves asking a file system again for what it does not have.
    private volatile bool _zeroRangeUnsupported;

    // Cleared once, read by every queue: the same for the ring's command to discard.
    private volatile bool _canDiscardByCommand;

    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;

    private readonly HealthMonitor? _health;

    private FileDisk(
        SafeFileHandle file, FileDiskOptions options, DiskProperties properties, DirectAlignment? directAlignment, BlockLimits? blockLimits, HealthMonitor? health)
    {
        File = file;
        Path = options.Path;
        _properties = properties;
        DirectAlignment = directAlignment;
        WritesInline = options.InlineWrites && directAlignment == null;
        IsBlockDevice = blockLimits != null;
        // The command takes no lock of the page cache: a read beside it can bring back what is being discarded, and keep it.
        _canDiscardByCommand = IsBlockDevice && directAlignment != null;
        ZeroesAreWritten = blockLimits is { HasZeroes: false };
        _health = health;
    }

    /// <inheritdoc/>
    public DiskProperties Properties => _properties;

    /// <inheritdoc/>
    public DiskLifetime? Lifetime => _health?.Latest.Lifetime;

    /// <inheritdoc/>
    public HealthMonitor? Health => _health;

    /// <summary>The image's path as it was given.</summary>
    public string Path { get; }

    internal SafeFileHandle File { get; }

    /// <summary>What O_DIRECT asks for; null with the page cache.</summary>
    internal DirectAlignment? DirectAlignment { get; }

    /// <summary>Whether a write that should have been made durable may be lost; see <see cref="LoseDurability"/>.</summary>
    internal bool DurabilityLost => _durabilityLost;

    /// <summary>Whether queues write into the page cache themselves, where that is of use.</summary>
    internal bool WritesInline { get; }

    /// <summary>Whether it is a block device and not a regular file.</summary>
    internal bool IsBlockDevice { get; }

    /// <summary>Whether the device has no command for zeros, and the kernel writes them.</summary>
    internal bool ZeroesAreWritten { get; }

    /// <summary>Whether to try the ring's command to discard.</summary>
    internal bool CanDiscardByCommand
    {
        get => _canDiscardByCommand;
        set => _canDiscardByCommand = value;
    }

    internal bool ZeroRangeUnsupported
    {
        get => _zeroRangeUnsupported;
        set => _zeroRangeUnsupported = value;
    }

    /// <summary>Opens an image.</summary>
    /// <exception cref="DiskOpenException">It cannot be opened or cannot be a disk; the message names cause and remedy.</exception>
    public static FileDisk Open(FileDiskOptions options) => Open(options, new BlockDeviceHost());

    /// <summary>Opens an image on a host.</summary>
    internal static FileDisk Open(FileDiskOptions options, BlockDeviceHost host)
    {
        OpenFlags flags = (options.ReadOnly ? OpenFlags.O_RDONLY : OpenFlags.O_RDWR) | OpenFlags.O_CLOEXEC;
        if (options.Direct)
        {
            flags |= OpenFlags.O_DIRECT;
        }

        // To open a FIFO for reading is to wait for its writer.
        if (Syscall.stat(options.Path, out Stat stat) == 0 && (stat.st_mode & FilePermissions.S_IFMT) == FilePermissions.S_IFIFO)
        {
            throw NotADisk(options);
        }

        int descriptor;
        Errno errno = default;
        do
        {
            descriptor = Syscall.open(options.Path, flags);
            if (descriptor < 0)
            {
                // Once only: translating the number is a native call too, and loses it.
                errno = Stdlib.GetLastError();
            }
        }
        while (descriptor < 0 && errno == Errno.EINTR);

        if (descriptor < 0)
        {
            throw CannotOpen(options, errno);
        }

        var file = new SafeFileHandle(descriptor, ownsHandle: true);
        try
        {
            return OpenAs(file, options, host);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new FileDiskQueue(this, engine, completions, slotCount);

    /// <inheritdoc/>
    public DiskOutcome Flush()
    {
        if (Properties.ReadOnly)
        {
            return DiskOutcome.Done;
        }

        if (!_durabilityLost && LibC.fdatasync((int)File.DangerousGetHandle()) != 0)
        {
            LoseDurability();
        }

        return _durabilityLost ? DiskOutcome.Failed : DiskOutcome.Done;
    }

    /// <inheritdoc/>
    public DiskResize Refresh()
    {
        DiskProperties before = _properties;
        long size = Syscall.lseek((int)File.DangerousGetHandle(), 0, SeekFlags.SEEK_END);
        if (size < 0 || (size == 0 && IsBlockDevice))
        {
            // A device that is gone has no size; its requests fail by themselves.
            return new DiskResize(before.CapacityBytes, before.CapacityBytes, 0);
        }

        ulong unusedBytes = (ulong)size % before.LogicalBlockBytes;
        var resize = new DiskResize(before.CapacityBytes, (ulong)size - unusedBytes, unusedBytes);
        _properties = before with { CapacityBytes = resize.NewBytes };
        return resize;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _health?.Dispose();
        File.Dispose();
    }

    /// <summary>Whether it is a device that ends before this now, as one that was taken away does. For rare moments; does not block.</summary>
    internal bool HasLost(ulong endBytes)
    {
        long size = IsBlockDevice ? Syscall.lseek((int)File.DangerousGetHandle(), 0, SeekFlags.SEEK_END) : -1;
        return size == 0 || (size > 0 && (ulong)size < endBytes);
    }

    /// <summary>The kernel could not make something durable: from now on, nothing is reported as durable.</summary>
    internal void LoseDurability() => _durabilityLost = true;

    private static FileDisk OpenAs(SafeFileHandle file, FileDiskOptions options, BlockDeviceHost host)
    {
        if (Syscall.fstat((int)file.DangerousGetHandle(), out Stat stat) != 0)
        {
            throw CannotOpen(options, Stdlib.GetLastError());
        }

        FilePermissions type = stat.st_mode & FilePermissions.S_IFMT;
        if (type is not (FilePermissions.S_IFREG or FilePermissions.S_IFBLK))
        {
            throw NotADisk(options);
        }

        if (options.Lock)
        {
            ImageLock.Take(file, options.Path, options.ReadOnly);
        }

        DirectAlignment? alignment = options.Direct ? Disks.File.DirectAlignment.Of(file, options.Path) : null;
        DeviceNumber? device = host.NumberOf(stat);
        BlockLimits? limits = device is { } block ? BlockLimits.Of(file, host.SysfsRoot, block) : null;
        uint logicalBlockBytes = Math.Max(alignment?.OffsetBytes ?? 512, limits?.LogicalBlockBytes ?? 512);
        ulong sizeBytes = SizeOf(file, options);
        if (sizeBytes == 0)
        {
            throw new DiskOpenException($"'{options.Path}' is empty. Give it a size first, for example: truncate -s 1G '{options.Path}'");
        }

        if (sizeBytes % logicalBlockBytes != 0)
        {
            ulong rounded = (sizeBytes / logicalBlockBytes * logicalBlockBytes) + logicalBlockBytes;
            throw new DiskOpenException(
                $"The size of '{options.Path}', {sizeBytes} bytes, is not a multiple of its block size of {logicalBlockBytes}. Pad it: truncate -s {rounded} '{options.Path}'");
        }

        IHealthSource? source = options.Health && device is { } number ? DeviceHealth.Find(host.SysfsRoot, number, host.NvmePageOf(file)) : null;
        HealthMonitor? health = source is null ? null : new HealthMonitor(source, host.HealthInterval);
        return new FileDisk(
            file,
            options,
            new DiskProperties
            {
                CapacityBytes = sizeBytes,
                LogicalBlockBytes = logicalBlockBytes,
                // File systems work in units of 4096 bytes; smaller writes cost a read. A device knows better.
                PhysicalBlockBytes = Math.Max(logicalBlockBytes, limits?.PhysicalBlockBytes ?? 4096),
                ReadOnly = options.ReadOnly,
                CanDiscard = !options.ReadOnly && limits is not { HasDiscard: false },
                DiscardGranularityBytes = limits is { } known && known.DiscardGranularityBytes % logicalBlockBytes == 0 ? known.DiscardGranularityBytes : 0,
                CanWriteZeroes = !options.ReadOnly,
                CanSecureErase = !options.ReadOnly && device != null && host.CanSecureErase(file),
                HasLifetime = health?.Latest.Lifetime != null,
            },
            alignment,
            limits,
            health);
    }

    private static ulong SizeOf(SafeFileHandle file, FileDiskOptions options)
    {
        // Works for files and block devices alike.
        long size = Syscall.lseek((int)file.DangerousGetHandle(), 0, SeekFlags.SEEK_END);
        return size >= 0 ? (ulong)size : throw CannotOpen(options, Stdlib.GetLastError());
    }

    private static DiskOpenException NotADisk(FileDiskOptions options) =>
        new($"'{options.Path}' is neither a regular file nor a block device. Name a raw disk image.");

    private static DiskOpenException CannotOpen(FileDiskOptions options, Errno errno)
    {
        string remedy = errno switch
        {
            Errno.ENOENT => $"Create it first, for example: truncate -s 1G '{options.Path}'",
            Errno.EACCES or Errno.EPERM => "Check its owner and mode, or open it with --read-only.",
            Errno.EROFS => "Its file system is mounted read-only: use --read-only.",
            Errno.EINVAL when options.Direct => "Its file system has no direct I/O: leave out --direct.",
            Errno.EISDIR => "Name a raw disk image.",
            Errno.EBUSY => "Something else holds it exclusively: unmount it or stop that program.",
            _ => "Check the path.",
        };
        return new DiskOpenException($"Cannot open '{options.Path}': {Stdlib.strerror(errno)}. {remedy}");
    }
}
