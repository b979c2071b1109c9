using System.Buffers.Binary;
using System.Formats.Tar;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>
/// A disk the firmware starts from: GRUB in the first sectors, kernel and initramfs in the first partition (a tar archive, which GRUB
/// reads), and a second partition, /dev/vda2, for the guest.
/// </summary>
internal static class BootDisk
{
    /// <summary>A sector between GRUB and the first partition, which the guest counts its boots in.</summary>
    public const int ScratchSector = FirstPartitionSector - 8;

    private const int BytesPerSector = 512;
    private const int FirstPartitionSector = 2048;
    private const int SecondPartitionMebibytes = 128;

    /// <summary>446 bytes of code stand before the four entries of the partition table.</summary>
    private const int PartitionTableOffset = 446;
    private const int PartitionEntryBytes = 16;

    public static DiskImage Create(TestFolder folder, GuestScenario scenario)
    {
        DiskImage image = new(folder["disk.img"]);
        using FileStream disk = new(image.FilePath, FileMode.CreateNew);
        byte[] core = File.ReadAllBytes(RepoPaths.GrubCore);
        Assert.True(core.Length < (ScratchSector - 1) * BytesPerSector, "GRUB does not fit before the first partition");
        disk.Position = BytesPerSector;
        disk.Write(core);

        disk.Position = FirstPartitionSector * BytesPerSector;
        File.WriteAllBytes(folder["scenario.cpio"], scenario.ToInitramfs());
        using (TarWriter tar = new(disk, TarEntryFormat.Ustar, leaveOpen: true))
        {
            tar.WriteEntry(RepoPaths.GuestKernel, "vmlinuz");
            tar.WriteEntry(RepoPaths.BaseInitramfs, "base.cpio");
            tar.WriteEntry(folder["scenario.cpio"], "scenario.cpio");
        }

        int secondPartitionSector = (int)(((disk.Position >> 20) + 1) << 20) / BytesPerSector;
        int secondPartitionSectors = (SecondPartitionMebibytes << 20) / BytesPerSector;
        disk.SetLength((long)(secondPartitionSector + secondPartitionSectors) * BytesPerSector);

        byte[] firstSector = File.ReadAllBytes(RepoPaths.GrubBootSector);
        // GRUB keeps code for floppy disks where the partition table belongs.
        firstSector.AsSpan(PartitionTableOffset, 4 * PartitionEntryBytes).Clear();
        WritePartition(firstSector, 0, FirstPartitionSector, secondPartitionSector - FirstPartitionSector);
        WritePartition(firstSector, 1, secondPartitionSector, secondPartitionSectors);
        disk.Position = 0;
        disk.Write(firstSector);
        return image;
    }

    private static void WritePartition(byte[] firstSector, int index, int startSector, int sectorCount)
    {
        const byte LinuxFileSystem = 0x83;
        Span<byte> entry = firstSector.AsSpan(PartitionTableOffset + (index * PartitionEntryBytes), PartitionEntryBytes);
        entry[4] = LinuxFileSystem;
        BinaryPrimitives.WriteInt32LittleEndian(entry[8..], startSector);
        BinaryPrimitives.WriteInt32LittleEndian(entry[12..], sectorCount);
    }
}
