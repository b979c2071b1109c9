using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;

namespace VirtioBlkFlow.Frontend.Memory;

/// <summary>How to make one region of guest memory.</summary>
/// <param name="GuestAddress">First guest-physical address.</param>
/// <param name="LengthBytes">Length in bytes.</param>
public readonly record struct SharedRegionOptions(ulong GuestAddress, ulong LengthBytes)
{
    /// <summary>The address the back-end is told as the front-end's own; by default the true one. Ring addresses are relative to it.</summary>
    public ulong? UserAddress { get; init; }

    /// <summary>Where in its file the region starts, in bytes: a multiple of the page size.</summary>
    public ulong MmapOffset { get; init; }

    /// <summary>Whether the file can neither shrink nor grow (F_SEAL_SHRINK, F_SEAL_GROW), as cautious front-ends do.</summary>
    public bool Sealed { get; init; }
}

/// <summary>
/// One region of guest memory: a memfd and its mapping in this process. The bump allocator inside belongs to the thread that sets
/// up; the memory itself is shared with the back-end by design.
/// </summary>
public sealed unsafe class SharedRegion : IDisposable
{
    private ulong _allocatedBytes;
    private nint _mapping;

    /// <summary>Makes a memfd, maps it.</summary>
    /// <exception cref="IOException">The kernel refuses: no memory, no descriptors.</exception>
    public SharedRegion(SharedRegionOptions options)
    {
        GuestAddress = options.GuestAddress;
        LengthBytes = options.LengthBytes;
        MmapOffset = options.MmapOffset;
        int descriptor = NativeMethods.MemfdCreate("guest-memory", NativeMethods.MFD_CLOEXEC | NativeMethods.MFD_ALLOW_SEALING);
        if (descriptor < 0)
        {
            throw NativeMethods.LastError("memfd_create");
        }

        Handle = new SafeFileHandle(descriptor, ownsHandle: true);
        try
        {
            if (Syscall.ftruncate(descriptor, checked((long)(options.MmapOffset + options.LengthBytes))) != 0)
            {
                throw NativeMethods.LastError("ftruncate of a memfd");
            }

            if (options.Sealed && NativeMethods.Fcntl(Handle, NativeMethods.F_ADD_SEALS, NativeMethods.F_SEAL_SHRINK | NativeMethods.F_SEAL_GROW) != 0)
            {
                throw NativeMethods.LastError("F_ADD_SEALS");
            }

            _mapping = Syscall.mmap(
                0, options.LengthBytes, MmapProts.PROT_READ | MmapProts.PROT_WRITE, MmapFlags.MAP_SHARED, descriptor, (long)options.MmapOffset);
            if (_mapping == Syscall.MAP_FAILED)
            {
                _mapping = 0;
                throw NativeMethods.LastError("mmap of guest memory");
            }
        }
        catch
        {
            Handle.Dispose();
            throw;
        }

        UserAddress = options.UserAddress ?? (ulong)_mapping;
    }

    /// <summary>The memfd. Owned by this region.</summary>
    public SafeFileHandle Handle { get; }

    /// <summary>First guest-physical address.</summary>
    public ulong GuestAddress { get; }

    /// <summary>Length in bytes.</summary>
    public ulong LengthBytes { get; }

    /// <summary>What the back-end is told as the address in the front-end.</summary>
    public ulong UserAddress { get; }

    /// <summary>Where in the file the region starts, in bytes.</summary>
    public ulong MmapOffset { get; }

    /// <summary>First byte in this process.</summary>
    public byte* Host => (byte*)_mapping;

    /// <summary>Bytes not allocated yet, before alignment.</summary>
    public ulong FreeBytes => LengthBytes - _allocatedBytes;

    /// <summary>Whether a guest range lies in this region.</summary>
    public bool Contains(ulong guestAddress, ulong lengthBytes)
    {
        ulong offset = unchecked(guestAddress - GuestAddress);
        return offset < LengthBytes && lengthBytes <= LengthBytes - offset;
    }

    /// <summary>
    /// Takes guest memory off the front of what is free; there is no giving back.
    /// </summary>
    /// <param name="lengthBytes">How much.</param>
    /// <param name="alignmentBytes">A power of two.</param>
    /// <returns>The guest-physical address.</returns>
    /// <exception cref="InvalidOperationException">The region is full.</exception>
    public ulong Allocate(ulong lengthBytes, ulong alignmentBytes)
    {
        ulong start = (GuestAddress + _allocatedBytes + alignmentBytes - 1) & ~(alignmentBytes - 1);
        if (!Contains(start, lengthBytes))
        {
            throw new InvalidOperationException($"Guest memory region at 0x{GuestAddress:x} has no {lengthBytes} bytes left ({FreeBytes} of {LengthBytes} are free).");
        }

        _allocatedBytes = start + lengthBytes - GuestAddress;
        return start;
    }

    /// <summary>Unmaps and closes. Nobody may touch the memory any more; a back-end keeps its own mapping.</summary>
    public void Dispose()
    {
        if (_mapping != 0)
        {
            _ = Syscall.munmap(_mapping, LengthBytes);
            _mapping = 0;
        }

        Handle.Dispose();
    }
}
