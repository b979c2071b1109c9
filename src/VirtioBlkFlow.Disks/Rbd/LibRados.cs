namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>
/// What is used of <c>&lt;rados/librados.h&gt;</c>: the connection to a cluster. The library is loaded by the first call. Results are 0 or a
/// negated errno. All of these may block.
/// </summary>
internal static unsafe partial class LibRados
{
    public const string Name = "librados.so.2";

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rados_create2(nint* cluster, string clusterName, string userName, ulong flags);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rados_conf_read_file(nint cluster, string? path);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rados_conf_set(nint cluster, string option, string value);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rados_conf_get(nint cluster, string option, byte* buffer, nuint lengthBytes);

    [LibraryImport(Name)]
    public static partial int rados_connect(nint cluster);

    [LibraryImport(Name)]
    public static partial void rados_shutdown(nint cluster);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rados_ioctx_create(nint cluster, string pool, nint* io);

    [LibraryImport(Name)]
    public static partial void rados_ioctx_destroy(nint io);

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial void rados_ioctx_set_namespace(nint io, string name);

    // A write to a full pool fails with ENOSPC or EDQUOT; without this it would wait until there is room.
    [LibraryImport(Name)]
    public static partial void rados_set_pool_full_try(nint io);

    // To all clients that watch an object; returns when each has acknowledged it, or with ETIMEDOUT and a reply all the same.
    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int rados_notify2(nint io, string watched, byte* message, int messageBytes, ulong timeoutMs, byte** reply, nuint* replyBytes);

    [LibraryImport(Name)]
    public static partial int rados_decode_notify_response(
        byte* reply, nuint replyBytes, NotifyAck** acks, nuint* ackCount, void** timeouts, nuint* timeoutCount);

    [LibraryImport(Name)]
    public static partial void rados_free_notify_response(NotifyAck* acks, nuint ackCount, void* timeouts);

    [LibraryImport(Name)]
    public static partial void rados_buffer_free(byte* buffer);

    /// <summary><c>struct notify_ack_t</c> of <c>&lt;rados/rados_types.h&gt;</c>: a client that has acknowledged.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct NotifyAck
    {
        public ulong Client;
        public ulong Cookie;
        public byte* Payload;
        public ulong PayloadBytes;
    }
}
