namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>
/// What is used of <c>&lt;rbd/librbd.h&gt;</c>. The library is loaded by the first call. Results are 0 or more, or a negated errno. Those
/// whose name begins with rbd_aio only begin something; all others may block.
/// </summary>
internal static unsafe partial class LibRbd
{
    public const string Name = "librbd.so.1";

    // rbd_lock_mode_t
    public const int RBD_LOCK_MODE_EXCLUSIVE = 0;

    // Flags of rbd_aio_write_zeroes: the space stays allocated.
    public const int RBD_WRITE_ZEROES_FLAG_THICK_PROVISION = 1;

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rbd_open(nint io, string image, nint* handle, string? snapshot);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rbd_open_read_only(nint io, string image, nint* handle, string? snapshot);

    [LibraryImport(Name)]
    public static partial int rbd_close(nint image);

    [LibraryImport(Name)]
    public static partial int rbd_get_size(nint image, ulong* bytes);

    [LibraryImport(Name)]
    public static partial int rbd_get_id(nint image, byte* id, nuint lengthBytes);

    [LibraryImport(Name)]
    public static partial int rbd_flush(nint image);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rbd_namespace_exists(nint io, string name, byte* exists);

    [LibraryImport(Name)]
    public static partial int rbd_config_image_list(nint image, ConfigOption* options, int* count);

    [LibraryImport(Name)]
    public static partial void rbd_config_image_list_cleanup(ConfigOption* options, int count);

    [LibraryImport(Name)]
    public static partial int rbd_lock_acquire(nint image, int mode);

    [LibraryImport(Name)]
    public static partial int rbd_lock_release(nint image);

    [LibraryImport(Name)]
    public static partial int rbd_lock_get_owners(nint image, int* mode, byte** owners, nuint* count);

    [LibraryImport(Name)]
    public static partial void rbd_lock_get_owners_cleanup(byte** owners, nuint count);

    [LibraryImport(Name)]
    public static partial int rbd_is_exclusive_lock_owner(nint image, int* isOwner);

    [LibraryImport(Name)]
    public static partial int rbd_watchers_list(nint image, ImageWatcher* watchers, nuint* count);

    [LibraryImport(Name)]
    public static partial void rbd_watchers_list_cleanup(ImageWatcher* watchers, nuint count);

    [LibraryImport(Name)]
    public static partial int rbd_update_watch(nint image, ulong* watch, delegate* unmanaged[Cdecl]<void*, void> callback, void* argument);

    [LibraryImport(Name)]
    public static partial int rbd_update_unwatch(nint image, ulong watch);

    [LibraryImport(Name)]
    public static partial int rbd_aio_create_completion(void* argument, delegate* unmanaged[Cdecl]<void*, void*, void> callback, void** completion);

    [LibraryImport(Name)]
    public static partial nint rbd_aio_get_return_value(void* completion);

    [LibraryImport(Name)]
    public static partial void rbd_aio_release(void* completion);

    [LibraryImport(Name)]
    public static partial int rbd_aio_readv(nint image, Iovec* pieces, int count, ulong offsetBytes, void* completion);

    [LibraryImport(Name)]
    public static partial int rbd_aio_writev(nint image, Iovec* pieces, int count, ulong offsetBytes, void* completion);

    [LibraryImport(Name)]
    public static partial int rbd_aio_write_zeroes(
        nint image, ulong offsetBytes, nuint lengthBytes, void* completion, int zeroFlags, int operationFlags);

    [LibraryImport(Name)]
    public static partial int rbd_aio_flush(nint image, void* completion);

    /// <exception cref="DiskOpenException">The libraries are missing, or too old; the message says what to install.</exception>
    public static void RequireLibraries()
    {
        if (!NativeLibrary.TryLoad(LibRados.Name, out nint rados) || !NativeLibrary.TryLoad(Name, out nint rbd))
        {
            throw new DiskOpenException($"A disk of kind rbd needs Ceph's client library, {Name}, which is not there. Install it: apt-get install librbd1");
        }

        // The youngest of what is used (Ceph 16).
        if (!NativeLibrary.TryGetExport(rados, nameof(LibRados.rados_set_pool_full_try), out _)
            || !NativeLibrary.TryGetExport(rbd, nameof(rbd_aio_write_zeroes), out _))
        {
            throw new DiskOpenException($"{Name} is too old. Install Ceph's client library of version 16 or later: apt-get install librbd1");
        }
    }

    /// <summary><c>rbd_config_option_t</c>: a setting, and where it comes from.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ConfigOption
    {
        public byte* Name;
        public byte* Value;
        public int Source;
    }

    /// <summary><c>rbd_image_watcher_t</c>: a client that has the image open.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ImageWatcher
    {
        public byte* Address;
        public long Id;
        public ulong Cookie;
    }
}
