using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.UnitTests.Abi;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Health;

/// <summary>The command to an NVMe device against the headers of this system.</summary>
public unsafe class NvmeAbiTests
{
    [Fact]
    public void Size_offsets_and_number_are_those_of_the_header()
    {
        NvmeAdminCommand command = default;
        byte* start = (byte*)&command;
        Dictionary<string, long> ours = new()
        {
            [Offset("opcode")] = &command.Opcode - start,
            [Offset("flags")] = &command.Flags - start,
            [Offset("nsid")] = (byte*)&command.NamespaceId - start,
            [Offset("cdw2")] = (byte*)&command.Word2 - start,
            [Offset("metadata")] = (byte*)&command.MetadataAddress - start,
            [Offset("addr")] = (byte*)&command.DataAddress - start,
            [Offset("metadata_len")] = (byte*)&command.MetadataBytes - start,
            [Offset("data_len")] = (byte*)&command.DataBytes - start,
            [Offset("cdw10")] = (byte*)&command.Word10 - start,
            [Offset("cdw15")] = (byte*)&command.Word15 - start,
            [Offset("timeout_ms")] = (byte*)&command.TimeoutMs - start,
            [Offset("result")] = (byte*)&command.Result - start,
            ["sizeof(struct nvme_admin_cmd)"] = sizeof(NvmeAdminCommand),
            ["NVME_IOCTL_ADMIN_CMD"] = (long)NvmeAdmin.NVME_IOCTL_ADMIN_CMD,
        };
        Assert.Equal(ours, CProgram.Evaluate(["sys/ioctl.h", "linux/nvme_ioctl.h"], ours.Keys));
    }

    [Fact]
    public void The_command_asks_for_the_whole_page_of_the_controller()
    {
        byte* page = (byte*)0x1000;
        NvmeAdminCommand command = NvmeAdmin.HealthCommand(page, NvmeHealth.PageBytes);
        // Get Log Page; all namespaces; page 02h, 128 dwords less one.
        Assert.Equal((0x02, 0xffffffffu, 0x007f0002u), (command.Opcode, command.NamespaceId, command.Word10));
        Assert.Equal((0x1000ul, 512u), (command.DataAddress, command.DataBytes));
    }

    private static string Offset(string field) => $"offsetof(struct nvme_admin_cmd, {field})";
}
