using System.Diagnostics;
using System.Globalization;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.File;

/// <summary>
/// Keeps two writers off one image, by an open-file-description lock (fcntl(2), "Open file description locks") over the whole
/// file: exclusive for a writer, shared for readers. QEMU locks single bytes from 100 on, which conflict with it both ways.
/// </summary>
internal static unsafe class ImageLock
{
    // QEMU, block/file-posix.c: RAW_LOCK_PERM_BASE 100 plus the bit number of BLK_PERM_WRITE. A QEMU that writes the image holds
    // a shared lock on this byte, which our shared lock would not notice.
    private const long QemuWriterByte = 101;

    // A process that was killed holds its lock for a moment longer: a worker of the kernel closes its io_uring, and with it the registered
    // files. Some milliseconds on a busy machine; this bound is generous and arbitrary.
    private static readonly TimeSpan s_patienceWithTheDead = TimeSpan.FromSeconds(5);

    // How often to look whether it is over. Arbitrary.
    private static readonly TimeSpan s_lookAgain = TimeSpan.FromMilliseconds(5);

    /// <summary>
    /// Takes the lock; it goes with the last descriptor of the open file. Waits for a holder that no process is any more.
    /// </summary>
    /// <param name="file">The open file.</param>
    /// <param name="path">Its path as it was given.</param>
    /// <param name="readOnly">Whether readers may share it.</param>
    /// <param name="otherRemedy">What can be done beside stopping who holds it.</param>
    /// <exception cref="DiskOpenException">Another process holds the image.</exception>
    public static void Take(SafeFileHandle file, string path, bool readOnly, string otherRemedy = "use --no-lock if you know that it is safe")
    {
        long start = Stopwatch.GetTimestamp();
        while (!TryTake(file, path, readOnly))
        {
            string[] holders = [.. FindHolders(file)];
            if (holders.Length > 0 || Stopwatch.GetElapsedTime(start) > s_patienceWithTheDead)
            {
                throw InUse(holders, path, readOnly, otherRemedy);
            }

            Thread.Sleep(s_lookAgain);
        }
    }

    private static bool TryTake(SafeFileHandle file, string path, bool readOnly)
    {
        int descriptor = (int)file.DangerousGetHandle();
        var whole = new FileLock { Type = readOnly ? F_RDLCK : F_WRLCK };
        if (fcntl(descriptor, F_OFD_SETLK, &whole) == 0)
        {
            return !readOnly || !QemuWrites(descriptor);
        }

        int errno = Marshal.GetLastPInvokeError();
        return errno is EAGAIN or EACCES
            ? false
            : throw new DiskOpenException(
                $"Cannot lock '{path}': {Marshal.GetPInvokeErrorMessage(errno)}. Its file system may have no locks; --no-lock does without.");
    }

    private static bool QemuWrites(int descriptor)
    {
        var probe = new FileLock { Type = F_WRLCK, Start = QemuWriterByte, Length = 1 };
        if (fcntl(descriptor, F_OFD_GETLK, &probe) != 0 || probe.Type == F_UNLCK)
        {
            return false;
        }

        // A lock over the whole file is another reader of our kind.
        return probe.Start != 0 || probe.Length != 0;
    }

    private static DiskOpenException InUse(string[] holders, string path, bool readOnly, string otherRemedy)
    {
        string who = holders.Length > 0
            ? $"by {string.Join(", ", holders)}"
            : "by a process that is not ours to see ('sudo fuser -v' on it tells)";
        string why = readOnly ? "A reader beside a writer sees torn data" : "Two writers would destroy it";
        return new DiskOpenException($"'{path}' is in use {who}. {why}: stop the other one, or {otherRemedy}.");
    }

    // The kernel does not say who holds such a lock (l_pid is −1), but who has the file open can be seen.
    private static IEnumerable<string> FindHolders(SafeFileHandle file)
    {
        string? target = LinkTarget($"/proc/self/fd/{file.DangerousGetHandle()}");
        if (target is null)
        {
            yield break;
        }

        foreach (string process in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(process), CultureInfo.InvariantCulture, out int pid))
            {
                continue;
            }

            // We have it open ourselves, to ask: that counts from the second time on.
            bool isOurs = pid == Environment.ProcessId;
            if (CountOpen(process, target) > (isOurs ? 1 : 0))
            {
                yield return isOurs ? $"this process (pid {pid})" : $"{NameOf(process)} (pid {pid})";
            }
        }
    }

    private static int CountOpen(string process, string target)
    {
        try
        {
            return Directory.EnumerateFileSystemEntries(Path.Combine(process, "fd")).Count(descriptor => LinkTarget(descriptor) == target);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Gone meanwhile, or another user's.
            return 0;
        }
    }

    private static string? LinkTarget(string link)
    {
        try
        {
            return System.IO.File.ResolveLinkTarget(link, returnFinalTarget: false)?.FullName;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string NameOf(string process)
    {
        try
        {
            return System.IO.File.ReadAllText(Path.Combine(process, "comm")).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "a process";
        }
    }
}
