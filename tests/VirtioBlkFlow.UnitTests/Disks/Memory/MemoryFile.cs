using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.UnitTests.Disks.Memory;

/// <summary>Memory with a descriptor (memfd_create(2)), as another program would share it with us.</summary>
internal static partial class MemoryFile
{
    private const uint MFD_CLOEXEC = 1;
    private const uint MFD_ALLOW_SEALING = 2;

    public static SafeFileHandle Create(long sizeBytes)
    {
        int descriptor = memfd_create("virtioblkflow-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (descriptor < 0)
        {
            throw new IOException($"memfd_create: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        var file = new SafeFileHandle(descriptor, ownsHandle: true);
        RandomAccess.SetLength(file, sizeBytes);
        return file;
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int memfd_create(string name, uint flags);
}
