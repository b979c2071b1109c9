using Mono.Unix.Native;

namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>
/// A file that is there complete or not at all: written under another name in the same folder, made durable, and then renamed to its own.
/// Until then a file of that name stays as it was.
/// </summary>
internal sealed class OutputFile : IDisposable
{
    // Until it is complete, it has to be opened again.
    private const FilePermissions OwnMode = FilePermissions.S_IRUSR | FilePermissions.S_IWUSR;

    private readonly string _path;
    private readonly string _folder;
    private bool _isInPlace;

    private OutputFile(string path, string folder, string temporaryPath)
    {
        _path = path;
        _folder = folder;
        TemporaryPath = temporaryPath;
    }

    /// <summary>Where it is written to; removed at the end unless it has become the file.</summary>
    public string TemporaryPath { get; }

    /// <summary>The folder that a file will be in, links followed.</summary>
    /// <exception cref="DiskOpenException">There is no such folder.</exception>
    public static string FolderOf(string path)
    {
        try
        {
            string folder = Path.GetDirectoryName(TargetOf(path)) ?? "/";
            return Directory.Exists(folder) ? folder : throw new DirectoryNotFoundException("There is no such folder.");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw CannotMake(path, exception);
        }
    }

    /// <summary>Begins a file.</summary>
    /// <param name="path">Its name. A link is followed; what is neither a file nor nothing is refused.</param>
    /// <param name="sizeBytes">Size to begin with; takes no space before it is written.</param>
    /// <exception cref="DiskOpenException">It cannot be made there.</exception>
    public static OutputFile Create(string path, ulong sizeBytes)
    {
        try
        {
            string target = TargetOf(path);
            string folder = Path.GetDirectoryName(target) ?? "/";
            bool isThere = Syscall.stat(target, out Stat old) == 0;
            if (isThere && (old.st_mode & FilePermissions.S_IFMT) != FilePermissions.S_IFREG)
            {
                throw new DiskOpenException($"The output '{path}' is there and is no regular file, so it cannot be replaced. Name a file.");
            }

            var file = new OutputFile(target, folder, Path.Combine(folder, $".{Path.GetFileName(target)}.{Path.GetRandomFileName()}.part"));
            using SafeFileHandle handle = System.IO.File.OpenHandle(file.TemporaryPath, FileMode.CreateNew, FileAccess.Write);
            try
            {
                // From the beginning: who may not read the file that is replaced may not read what is to replace it.
                if (isThere && Syscall.fchmod((int)handle.DangerousGetHandle(), (old.st_mode & FilePermissions.ACCESSPERMS) | OwnMode) != 0)
                {
                    throw new IOException($"{Stdlib.strerror(Stdlib.GetLastError())}.");
                }

                RandomAccess.SetLength(handle, (long)sizeBytes);
                return file;
            }
            catch
            {
                file.Dispose();
                throw;
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw CannotMake(path, exception);
        }
    }

    /// <summary>Gives it its length and its name; durable when this returns.</summary>
    /// <exception cref="IOException">That cannot be done; a file that was there is as it was.</exception>
    /// <exception cref="UnauthorizedAccessException">The same.</exception>
    public void PutInPlace(ulong lengthBytes)
    {
        using (SafeFileHandle file = System.IO.File.OpenHandle(TemporaryPath, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.SetLength(file, (long)lengthBytes);
            // All of it, and as it is now.
            if (Syscall.stat(_path, out Stat old) == 0
                && Syscall.fchmod((int)file.DangerousGetHandle(), old.st_mode & FilePermissions.ALLPERMS) != 0)
            {
                throw new IOException($"Cannot give the output the mode of '{_path}': {Stdlib.strerror(Stdlib.GetLastError())}.");
            }

            RandomAccess.FlushToDisk(file);
        }

        System.IO.File.Move(TemporaryPath, _path, overwrite: true);
        _isInPlace = true;
        SyncFolder();
    }

    /// <summary>Removes what has not become the file.</summary>
    public void Dispose()
    {
        if (!_isInPlace)
        {
            _ = Syscall.unlink(TemporaryPath);
        }
    }

    private static DiskOpenException CannotMake(string path, Exception exception) =>
        new($"Cannot make the output '{path}': {exception.Message} Check its folder, or choose a smaller size.", exception);

    private static string TargetOf(string path)
    {
        string full = Path.GetFullPath(path);
        var file = new FileInfo(full);
        // Only what is there can be resolved, and most often nothing is.
        return file.LinkTarget is null ? full : file.ResolveLinkTarget(returnFinalTarget: true)!.FullName;
    }

    // A rename is durable when its folder is (fsync(2)). A file system that cannot sync folders says EINVAL, and keeps no such promise.
    private void SyncFolder()
    {
        int descriptor = Syscall.open(_folder, OpenFlags.O_RDONLY | OpenFlags.O_DIRECTORY | OpenFlags.O_CLOEXEC);
        Errno errno = descriptor < 0 ? Stdlib.GetLastError() : default;
        if (descriptor >= 0)
        {
            using var folder = new SafeFileHandle(descriptor, ownsHandle: true);
            errno = Syscall.fsync(descriptor) == 0 ? default : Stdlib.GetLastError();
        }

        if (errno is not (default(Errno) or Errno.EINVAL))
        {
            throw new IOException($"The output is in place, but its folder '{_folder}' could not be made durable: {Stdlib.strerror(errno)}.");
        }
    }
}
