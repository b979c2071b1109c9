using Mono.Unix.Native;

namespace VirtioBlkFlow.Disks.Health;

/// <summary><c>struct nvme_admin_cmd</c> of <c>&lt;linux/nvme_ioctl.h&gt;</c>, 72 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmeAdminCommand
{
    public byte Opcode;
    public byte Flags;
    public ushort Reserved;
    public uint NamespaceId;
    public uint Word2;
    public uint Word3;
    public ulong MetadataAddress;
    public ulong DataAddress;
    public uint MetadataBytes;
    public uint DataBytes;
    public uint Word10;
    public uint Word11;
    public uint Word12;
    public uint Word13;
    public uint Word14;
    public uint Word15;
    public uint TimeoutMs;
    public uint Result;
}

/// <summary>Commands to the controller of an NVMe device, through the kernel.</summary>
internal static unsafe class NvmeAdmin
{
    /// <summary><c>NVME_IOCTL_ADMIN_CMD</c>.</summary>
    public const nuint NVME_IOCTL_ADMIN_CMD = 0xc0484e41;

    // NVM Express Base Specification, "Admin Command Set": Get Log Page, and its log page identifier.
    private const byte GetLogPage = 0x02;
    private const uint HealthPage = 0x02;

    // All namespaces: the page is one of the controller.
    private const uint AllNamespaces = 0xffffffff;

    // Arbitrary: a controller answers in milliseconds, one that resets in some seconds.
    private const uint PatienceMs = 5000;

    /// <summary>The command that reads the page with the device's health.</summary>
    public static NvmeAdminCommand HealthCommand(byte* page, int pageBytes) => new()
    {
        Opcode = GetLogPage,
        NamespaceId = AllNamespaces,
        DataAddress = (ulong)page,
        DataBytes = (uint)pageBytes,
        // Dwords to read, less one, above the number of the page.
        Word10 = ((uint)((pageBytes / sizeof(uint)) - 1) << 16) | HealthPage,
        TimeoutMs = PatienceMs,
    };

    /// <summary>Reads the page of the device that an open file is. Linux asks for CAP_SYS_ADMIN.</summary>
    /// <returns>Why it could not; null if it could.</returns>
    public static string? ReadHealthPage(SafeFileHandle file, Span<byte> page)
    {
        bool isHeld = false;
        try
        {
            file.DangerousAddRef(ref isHeld);
            fixed (byte* start = page)
            {
                NvmeAdminCommand command = HealthCommand(start, page.Length);
                int status = LibC.ioctl((int)file.DangerousGetHandle(), NVME_IOCTL_ADMIN_CMD, &command);
                return status == 0 ? null
                    : status > 0 ? $"The device answers with NVMe status {status:x}h."
                    : $"The device cannot be asked: {Stdlib.strerror((Errno)Marshal.GetLastPInvokeError())}.";
            }
        }
        catch (ObjectDisposedException)
        {
            return "The disk is closed.";
        }
        finally
        {
            if (isHeld)
            {
                file.DangerousRelease();
            }
        }
    }
}
