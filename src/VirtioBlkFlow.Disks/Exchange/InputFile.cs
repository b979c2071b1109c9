using Mono.Unix.Native;
using VirtioBlkFlow.Disks.File;

namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>Opens what a guest is to read: a file of any length, a block device, or whatever else has an end.</summary>
internal static class InputFile
{
    /// <summary>Opens it.</summary>
    /// <param name="path">The input.</param>
    /// <param name="copyFolder">Where to copy what cannot be read at any place, such as a pipe. The copy has no name and goes with the handle.</param>
    /// <param name="isLocked">Whether to keep writers off it.</param>
    /// <exception cref="DiskOpenException">It cannot be read.</exception>
    public static (SafeFileHandle File, ulong LengthBytes) Open(string path, string copyFolder, bool isLocked)
    {
        SafeFileHandle? file = null;
        try
        {
            file = OpenToRead(path);
            if (Syscall.fstat((int)file.DangerousGetHandle(), out Stat stat) != 0)
            {
                throw new DiskOpenException($"Cannot look at the input '{path}': {Stdlib.strerror(Stdlib.GetLastError())}. Check the path.");
            }

            FilePermissions type = stat.st_mode & FilePermissions.S_IFMT;
            bool isStored = type == FilePermissions.S_IFBLK || (type == FilePermissions.S_IFREG && stat.st_size > 0);
            if (!isStored)
            {
                // A pipe; or a file of the kernel (/proc), which has contents but says it has none; or it is really empty.
                using SafeFileHandle source = file;
                file = CopyOf(source, copyFolder);
            }
            else if (isLocked)
            {
                ImageLock.Take(file, path, readOnly: true);
            }

            long length = Syscall.lseek((int)file.DangerousGetHandle(), 0, SeekFlags.SEEK_END);
            return length >= 0 ? (file, (ulong)length) : throw new DiskOpenException($"The input '{path}' has no length. Name a file.");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            file?.Dispose();
            throw new DiskOpenException($"Cannot open the input '{path}': {exception.Message} Check the path.", exception);
        }
        catch
        {
            file?.Dispose();
            throw;
        }
    }

    // Not by .NET, which takes a lock of its own (flock(2)) that other .NET programs mind. A pipe waits here for its writer.
    private static SafeFileHandle OpenToRead(string path)
    {
        while (true)
        {
            int descriptor = Syscall.open(path, OpenFlags.O_RDONLY | OpenFlags.O_CLOEXEC);
            if (descriptor >= 0)
            {
                return new SafeFileHandle(descriptor, ownsHandle: true);
            }

            Errno errno = Stdlib.GetLastError();
            if (errno != Errno.EINTR)
            {
                throw new DiskOpenException($"Cannot open the input '{path}': {Stdlib.strerror(errno)}. Check the path.");
            }
        }
    }

    private static SafeFileHandle CopyOf(SafeFileHandle source, string folder)
    {
        string name = Path.Combine(folder, $".{Path.GetRandomFileName()}.input");
        SafeFileHandle copy = System.IO.File.OpenHandle(name, FileMode.CreateNew, FileAccess.ReadWrite);
        try
        {
            System.IO.File.Delete(name);
            using var stream = new FileStream(source, FileAccess.Read, bufferSize: 0);
            byte[] buffer = new byte[1 << 20];
            long length = 0;
            for (int count; (count = stream.Read(buffer)) > 0; length += count)
            {
                RandomAccess.Write(copy, buffer.AsSpan(0, count), length);
            }

            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }
}
