#if EMBEDDED_NATIVE_LIBRARY
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.Daemon;

/// <summary>
/// Loads Mono.Posix's native library out of the published file. A single file cannot load a native library from within itself; the usual
/// way is to unpack it below $HOME at the first start, which a service without a home cannot. So it goes through memory: memfd_create(2),
/// and dlopen(3) on the descriptor.
/// </summary>
internal static class EmbeddedNativeLibrary
{
    // <linux/memfd.h>
    private const uint MFD_CLOEXEC = 1;

    // Before anything else of this program runs, and so before the first call into the library.
#pragma warning disable CA2255 // A module initializer is for libraries to avoid; this is the program itself.
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Install() => NativeLibrary.SetDllImportResolver(
        typeof(Syscall).Assembly,
        static (name, _, _) => name.Contains("MonoPosixHelper", StringComparison.Ordinal) ? Loaded.Handle : 0);

    // Loaded when it is asked for, and once. Not by Lazy<nint>: it would be compiled at each start, as all that is generic over a value.
    private static class Loaded
    {
        public static readonly nint Handle = Load();
    }

    private static nint Load()
    {
        using Stream library = Assembly.GetExecutingAssembly().GetManifestResourceStream("libMonoPosixHelper.so")!;
        nint name = Marshal.StringToCoTaskMemUTF8("libMonoPosixHelper.so");
        using var memory = new SafeFileHandle(memfd_create(name, MFD_CLOEXEC), ownsHandle: true);
        Marshal.FreeCoTaskMem(name);
        if (memory.IsInvalid)
        {
            throw new IOException("memfd_create(2) failed: the native library of Mono.Posix cannot be loaded.");
        }

        string path = $"/proc/self/fd/{(int)memory.DangerousGetHandle()}";
        using (var copy = new FileStream(path, FileMode.Open, FileAccess.Write))
        {
            library.CopyTo(copy);
        }

        return NativeLibrary.Load(path);
    }

    // LibraryImport would generate unsafe code, and this project has none.
#pragma warning disable SYSLIB1054
    [DllImport("libc")]
    private static extern int memfd_create(nint name, uint flags);
#pragma warning restore SYSLIB1054
}
#endif
