using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.UnitTests.Disks.Devices;

/// <summary>
/// A small file system in memory. It is mounted nowhere, only a descriptor of this process leads to it, and it goes with that: by the calls
/// behind mount(8) (Linux 5.2), which take the rights of root.
/// </summary>
internal sealed partial class SmallFileSystem : IDisposable
{
    // <asm-generic/unistd.h> and <linux/mount.h>.
    private const long SYS_fsopen = 430;
    private const long SYS_fsconfig = 431;
    private const long SYS_fsmount = 432;
    private const long FSOPEN_CLOEXEC = 1;
    private const long FSCONFIG_SET_STRING = 1;
    private const long FSCONFIG_CMD_CREATE = 6;
    private const long FSMOUNT_CLOEXEC = 1;

    private readonly SafeFileHandle _mount;

    public SmallFileSystem(int sizeBytes)
    {
        using SafeFileHandle context = new((nint)Check(Fsopen(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)), ownsHandle: true);
        nint descriptor = context.DangerousGetHandle();
        Check(Fsconfig(SYS_fsconfig, descriptor, FSCONFIG_SET_STRING, "size", $"{sizeBytes}", 0));
        Check(Fsconfig(SYS_fsconfig, descriptor, FSCONFIG_CMD_CREATE, null, null, 0));
        _mount = new SafeFileHandle((nint)Check(Fsmount(SYS_fsmount, descriptor, FSMOUNT_CLOEXEC, 0)), ownsHandle: true);
    }

    /// <summary>Its root, for this process and others.</summary>
    public string Root => $"/proc/{Environment.ProcessId}/fd/{_mount.DangerousGetHandle()}";

    public void Dispose() => _mount.Dispose();

    private static long Check(long result) => result >= 0
        ? result
        : throw new InvalidOperationException($"This test needs the rights of root to make a file system: {Marshal.GetLastPInvokeErrorMessage()}");

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial long Fsopen(long number, string name, long flags);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial long Fsconfig(long number, nint descriptor, long command, string? key, string? value, long extra);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long Fsmount(long number, nint descriptor, long flags, long attributes);
}
