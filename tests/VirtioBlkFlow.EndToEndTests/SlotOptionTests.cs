using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>What the options of -s make of the disk in the guest.</summary>
public class SlotOptionTests
{
    private const string ShowSectors = "lsblk -n -d -o LOG-SEC,PHY-SEC,RO /dev/vda | tr -s ' '";
    private const string ShowCache = "cat /sys/block/vda/queue/write_cache";

    [Theory]
    [InlineData("sectorsize=512", "512 512 0")]
    [InlineData("sectorsize=512/4096", "512 4096 0")]
    [InlineData("sectorsize=4096", "4096 4096 0")]
    public async Task The_guest_sees_the_sectors_it_was_given_and_uses_them(string option, string seen)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(64)) { SlotOptions = option });
        GuestScenario scenario = new GuestScenario()
            .Report("sectors", ShowSectors)
            .Step("use", Scenarios.FioVerify("--filename=/dev/vda"))
            .Step("mkfs", "mkfs.ext4 -q -F /dev/vda")
            .Step("check", "e2fsck -f -n /dev/vda");

        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario);

        Assert.Equal(seen, report["sectors"].Trim());
        await daemon.StopAsync();
    }

    [Theory]
    [InlineData("writeback", "write back")]
    [InlineData("writethru", "write through")]
    public async Task The_guest_sees_the_cache_it_was_given(string option, string seen)
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(64)) { SlotOptions = option });

        GuestReport report = await QemuGuest.RunAsync(folder, daemon, new GuestScenario().Report("cache", ShowCache));

        Assert.Equal(seen, report["cache"]);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task A_read_only_slot_refuses_to_be_written()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(16, seed: 5);
        string before = image.Sha256();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image) { SlotOptions = "ro" });
        GuestScenario scenario = new GuestScenario()
            .Report("sectors", ShowSectors)
            .Refused("write", "dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")
            .Refused("discard", "blkdiscard -f /dev/vda");

        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario);

        Assert.EndsWith(" 1", report["sectors"].TrimEnd(), StringComparison.Ordinal);
        await daemon.StopAsync();
        Assert.Equal(before, image.Sha256());
    }

    [Fact]
    public async Task Of_an_image_with_a_range_nothing_else_is_touched()
    {
        const int Start = 3 << 20;
        const int Length = 16 << 20;
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(24, seed: 6);
        byte[] before = image.Read(0, 24 << 20);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, new DaemonOptions(image) { SlotOptions = $"writeback,range={Start / 512}/{Length / 512}" });
        GuestScenario scenario = new GuestScenario()
            .Report("sectors", "cat /sys/block/vda/size")
            .Report("start", "dd if=/dev/vda bs=512 count=1 | sha256sum | cut -d' ' -f1")
            .Refused("write_behind_the_end", $"dd if=/dev/zero of=/dev/vda bs=512 seek={Length / 512} count=1 oflag=direct")
            .Step("use", Scenarios.FioVerify("--filename=/dev/vda", mebibytes: 16))
            .Step("last_sector", $"dd if=/dev/urandom of=/dev/vda bs=512 seek={(Length / 512) - 1} count=1 oflag=direct")
            .DiscardAndZero();

        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario);

        Assert.Equal($"{Length / 512}", report["sectors"]);
        Assert.Contains(Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(before.AsSpan(Start, 512))), report["start"], StringComparison.Ordinal);
        await daemon.StopAsync();
        byte[] after = image.Read(0, 24 << 20);
        Assert.Equal(before[..Start], after[..Start]);
        Assert.Equal(before[(Start + Length)..], after[(Start + Length)..]);
        Assert.NotEqual(before[Start..(Start + Length)], after[Start..(Start + Length)]);
    }
}
