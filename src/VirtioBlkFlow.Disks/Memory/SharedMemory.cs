using Mono.Unix.Native;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;
using static VirtioBlkFlow.Disks.LibC;
using Iovec = VirtioBlkFlow.Virtio.Iovec;

namespace VirtioBlkFlow.Disks.Memory;

/// <summary>
/// A POSIX shared memory object that others can map. It is used by system calls, not through a mapping of our own: when the host is out of
/// memory, or somebody cuts the object short, a call says so, where touching a mapped page would end the process (SIGBUS).
/// </summary>
internal sealed unsafe class SharedMemory : MemoryStore
{
    // Where shm_open(3) keeps its objects on Linux (shm_overview(7)).
    private const string Folder = "/dev/shm";

    // NAME_MAX of <linux/limits.h>.
    private const int MaxNameBytes = 255;

    private readonly SafeFileHandle _file;
    private readonly string _path;
    private readonly bool _isUnlinkedAtEnd;

    private SharedMemory(SafeFileHandle file, string path, bool isUnlinkedAtEnd)
    {
        _file = file;
        _path = path;
        _isUnlinkedAtEnd = isUnlinkedAtEnd;
    }

    /// <exception cref="DiskOpenException">The object cannot be had as asked.</exception>
    public static SharedMemory Open(ulong sizeBytes, string name, bool keep)
    {
        string plain = name.StartsWith('/') ? name[1..] : name;
        if (plain is "" or "." or ".." || plain.AsSpan().IndexOfAny('/', '\0') >= 0 || System.Text.Encoding.UTF8.GetByteCount(plain) > MaxNameBytes)
        {
            throw new DiskOpenException($"'{name}' cannot name shared memory. Give it a name without a slash, for example shm=guest0.");
        }

        string path = $"{Folder}/{plain}";
        const OpenFlags Flags = OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC | OpenFlags.O_NOFOLLOW;
        bool isNew = true;
        int descriptor = Syscall.open(path, Flags | OpenFlags.O_CREAT | OpenFlags.O_EXCL, FilePermissions.S_IRUSR | FilePermissions.S_IWUSR);
        Errno errno = descriptor < 0 ? Stdlib.GetLastError() : default;
        if (descriptor < 0 && errno == Errno.EEXIST)
        {
            isNew = false;
            descriptor = Syscall.open(path, Flags);
            errno = descriptor < 0 ? Stdlib.GetLastError() : default;
        }

        if (descriptor < 0)
        {
            throw new DiskOpenException($"Cannot open shared memory '{path}': {Stdlib.strerror(errno)}. Choose another name, or check its owner and mode.");
        }

        var memory = new SharedMemory(new SafeFileHandle(descriptor, ownsHandle: true), path, isNew && !keep);
        try
        {
            memory.Claim(sizeBytes, isNew);
            return memory;
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>Takes memory that somebody else has made and shares with us by its descriptor.</summary>
    /// <exception cref="DiskOpenException">It is none, of another size, or not to be written.</exception>
    public static SharedMemory FromDescriptor(ulong sizeBytes, int descriptor)
    {
        // Our own: that of the caller may be closed before the disk is.
        int own = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
        if (own < 0)
        {
            throw new DiskOpenException($"Cannot use descriptor {descriptor}: {Marshal.GetLastPInvokeErrorMessage()}. Hand over one that is open.");
        }

        var memory = new SharedMemory(new SafeFileHandle(own, ownsHandle: true), $"descriptor {descriptor}", isUnlinkedAtEnd: false);
        try
        {
            memory.RequireUsable(sizeBytes);
            return memory;
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    public override DiskOutcome Read(ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes) =>
        Transfer(isRead: true, offsetBytes, pieces, count, lengthBytes);

    public override DiskOutcome Write(ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes) =>
        Transfer(isRead: false, offsetBytes, pieces, count, lengthBytes);

    public override DiskOutcome Clear(ulong offsetBytes, ulong lengthBytes, bool deallocate)
    {
        DiskOutcome outcome = Allocate(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offsetBytes, lengthBytes);
        // What tmpfs has no mode for takes two steps.
        return outcome != DiskOutcome.Done || deallocate ? outcome : Allocate(FALLOC_FL_KEEP_SIZE, offsetBytes, lengthBytes);
    }

    public override void Dispose()
    {
        if (_file.IsClosed)
        {
            return;
        }

        // Under our name there may be another object by now, which is not ours to remove.
        if (_isUnlinkedAtEnd
            && Syscall.fstat((int)_file.DangerousGetHandle(), out Stat own) == 0
            && Syscall.lstat(_path, out Stat there) == 0
            && (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino))
        {
            _ = Syscall.unlink(_path);
        }

        _file.Dispose();
    }

    private void RequireUsable(ulong sizeBytes)
    {
        int descriptor = (int)_file.DangerousGetHandle();
        if (Syscall.fstat(descriptor, out Stat stat) != 0 || (stat.st_mode & FilePermissions.S_IFMT) != FilePermissions.S_IFREG)
        {
            throw new DiskOpenException($"{_path} is no shared memory. Hand over one of memfd_create(2) or shm_open(3).");
        }

        if ((ulong)stat.st_size != sizeBytes)
        {
            throw new DiskOpenException($"The memory of {_path} has {stat.st_size} bytes, not {sizeBytes}. Give its size, or make it that large.");
        }

        // Files that have no seals answer with an error, and have none.
        int seals = fcntl(descriptor, F_GET_SEALS, 0);
        bool isSealed = seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;
        int mode = Syscall.fcntl(descriptor, FcntlCommand.F_GETFL) & (int)(OpenFlags.O_WRONLY | OpenFlags.O_RDWR);
        if (isSealed || mode != (int)OpenFlags.O_RDWR)
        {
            throw new DiskOpenException($"The memory of {_path} cannot be written. Hand over one that is open for reading and writing, and not sealed.");
        }
    }

    // The folder is open to everybody: what lies there under our name may be somebody else's.
    private void Claim(ulong sizeBytes, bool isNew)
    {
        int descriptor = (int)_file.DangerousGetHandle();
        if (Syscall.fstat(descriptor, out Stat stat) != 0)
        {
            throw new DiskOpenException($"Cannot look at shared memory '{_path}': {Stdlib.strerror(Stdlib.GetLastError())}. Choose another name.");
        }

        if ((stat.st_mode & FilePermissions.S_IFMT) != FilePermissions.S_IFREG || stat.st_uid != Syscall.geteuid())
        {
            throw new DiskOpenException($"'{_path}' is no shared memory of this user. Choose another name.");
        }

        ImageLock.Take(_file, _path, readOnly: false, "choose another name");
        if (isNew)
        {
            if (Syscall.ftruncate(descriptor, (long)sizeBytes) != 0)
            {
                throw new DiskOpenException($"Cannot give '{_path}' {sizeBytes} bytes: {Stdlib.strerror(Stdlib.GetLastError())}. Give it a smaller size.");
            }
        }
        else if ((ulong)stat.st_size != sizeBytes)
        {
            throw new DiskOpenException($"Shared memory '{_path}' is there and has {stat.st_size} bytes, not {sizeBytes}. Give its size, or remove it: rm '{_path}'");
        }
    }

    private DiskOutcome Transfer(bool isRead, ulong offsetBytes, Iovec* pieces, int count, uint lengthBytes)
    {
        int descriptor = (int)_file.DangerousGetHandle();
        while (lengthBytes > 0)
        {
            int some = Math.Min(count, IIoEngine.MaxPieces);
            nint moved = isRead
                ? preadv(descriptor, pieces, some, (long)offsetBytes)
                : pwritev2(descriptor, pieces, some, (long)offsetBytes, 0);
            if (moved < 0)
            {
                int errno = Marshal.GetLastPInvokeError();
                if (errno == EINTR)
                {
                    continue;
                }

                return errno == ENOSPC ? DiskOutcome.NoSpace : DiskOutcome.Failed;
            }

            // 0 is the end of the object: somebody cut it short.
            if (moved == 0)
            {
                return DiskOutcome.Failed;
            }

            offsetBytes += (ulong)moved;
            lengthBytes -= (uint)moved;
            Iovec.Advance(ref pieces, ref count, (nuint)moved);
        }

        return DiskOutcome.Done;
    }

    private DiskOutcome Allocate(int mode, ulong offsetBytes, ulong lengthBytes)
    {
        while (fallocate((int)_file.DangerousGetHandle(), mode, (long)offsetBytes, (long)lengthBytes) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != EINTR)
            {
                return errno == ENOSPC ? DiskOutcome.NoSpace : DiskOutcome.Failed;
            }
        }

        return DiskOutcome.Done;
    }
}
