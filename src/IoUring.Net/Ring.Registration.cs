namespace IoUring;

// What a ring keeps registered with the kernel (io_uring_register(2)): files, buffers; and what the kernel says it can do.
public sealed unsafe partial class Ring
{
    /// <summary>Registers a table of files, all empty (IORING_REGISTER_FILES2, sparse; Linux 5.19).</summary>
    /// <exception cref="IoUringException">The kernel refuses.</exception>
    public void RegisterFiles(uint count)
    {
        var registration = new ResourceRegister { Count = count, Flags = Syscalls.IORING_RSRC_REGISTER_SPARSE };
        Register(Syscalls.IORING_REGISTER_FILES2, &registration, (uint)sizeof(ResourceRegister), "IORING_REGISTER_FILES2");
    }

    /// <summary>Puts a file into the table of registered files, or −1 to empty the place.</summary>
    /// <exception cref="IoUringException">The kernel refuses.</exception>
    public void UpdateFile(uint index, int descriptor)
    {
        var update = new FilesUpdate { Offset = index, Descriptors = (ulong)&descriptor };
        Register(Syscalls.IORING_REGISTER_FILES_UPDATE, &update, 1, "IORING_REGISTER_FILES_UPDATE");
    }

    /// <summary>Whether the kernel knows an operation (IORING_REGISTER_PROBE; Linux 5.6).</summary>
    public bool Supports(Opcode opcode)
    {
        // struct io_uring_probe: 16 bytes, then 8 for each operation: u8 op, u8, u16 flags (bit 0: supported), u32.
        const int HeaderBytes = 16;
        const int OperationBytes = 8;
        const int Operations = 256;
        byte* probe = stackalloc byte[HeaderBytes + (OperationBytes * Operations)];
        new Span<byte>(probe, HeaderBytes + (OperationBytes * Operations)).Clear();
        Register(Syscalls.IORING_REGISTER_PROBE, probe, Operations, "IORING_REGISTER_PROBE");
        return (*(ushort*)(probe + HeaderBytes + (OperationBytes * (int)opcode) + 2) & 1) != 0;
    }

    /// <summary>Registers a table of buffers, all empty (IORING_REGISTER_BUFFERS2, sparse; Linux 5.19).</summary>
    /// <param name="count">Places in the table, at most 16384.</param>
    /// <exception cref="IoUringException">The kernel refuses.</exception>
    public void RegisterBuffers(uint count)
    {
        var registration = new ResourceRegister { Count = count, Flags = Syscalls.IORING_RSRC_REGISTER_SPARSE };
        Register(Syscalls.IORING_REGISTER_BUFFERS2, &registration, (uint)sizeof(ResourceRegister), "IORING_REGISTER_BUFFERS2");
    }

    /// <summary>
    /// Puts a buffer into the table of registered buffers; a length of 0 empties the place. Its pages are pinned, and counted against
    /// RLIMIT_MEMLOCK, until the place is emptied and the last operation that uses it has ended.
    /// </summary>
    /// <param name="index">Place in the table.</param>
    /// <param name="address">First byte.</param>
    /// <param name="lengthBytes">Length in bytes, at most 1 GiB.</param>
    /// <exception cref="IoUringException">The kernel refuses.</exception>
    public void UpdateBuffer(uint index, void* address, nuint lengthBytes)
    {
        // struct iovec of <sys/uio.h>; an empty place has no address either.
        nuint* vector = stackalloc nuint[2] { lengthBytes == 0 ? 0 : (nuint)address, lengthBytes };
        var update = new ResourceUpdate { Offset = index, Data = (ulong)vector, Count = 1 };
        Register(Syscalls.IORING_REGISTER_BUFFERS_UPDATE, &update, (uint)sizeof(ResourceUpdate), "IORING_REGISTER_BUFFERS_UPDATE");
    }

    private void Register(uint operation, void* argument, uint count, string name)
    {
        ThrowIfDisposed();
        if (Syscalls.Register(Syscalls.SYS_io_uring_register, _descriptor, operation, argument, count) < 0)
        {
            throw IoUringException.From(name, Marshal.GetLastPInvokeError());
        }
    }
}
