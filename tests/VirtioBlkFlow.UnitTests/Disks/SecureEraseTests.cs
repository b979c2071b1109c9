using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.UnitTests.Abi;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>How a file disk erases for good: BLKSECDISCARD, one range after the other.</summary>
public sealed class SecureEraseTests
{
    private const int BLKSECDISCARD = 0x127d;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Ranges_are_erased_one_after_the_other_and_synced_where_asked_for(bool durable)
    {
        using var disk = new ScriptedDisk(canErase: true);
        disk.Ranges(0, DiskOperation.SecureErase, durable, new DiskRange(4096, 8192, false), new DiskRange(0, 0, false), new DiskRange(65536, 512, false));
        AssertErase(4096, 8192, disk.End(0));
        AssertErase(65536, 512, disk.End(0));
        if (durable)
        {
            Assert.False(disk.HasEnded(0));
            Assert.Equal(FakeCall.Fdatasync, disk.End(0).Call);
        }

        Assert.False(disk.Engine.HasWaiting);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(ScriptedDisk.EIO)]
    [InlineData(ScriptedDisk.EOPNOTSUPP)]
    [InlineData(22)]
    public void What_was_not_erased_fails_and_nothing_else_is_tried(int errno)
    {
        using var disk = new ScriptedDisk(canErase: true);
        disk.Ranges(0, DiskOperation.SecureErase, durable: true, new DiskRange(0, 512, false), new DiskRange(4096, 512, false));
        disk.End(-errno);
        Assert.False(disk.Engine.HasWaiting);
        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
        // A failed erase says nothing about writes: those are as durable as before.
        disk.Flush(0);
        disk.End(0);
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));
    }

    [Theory]
    [InlineData(ScriptedDisk.EINTR)]
    [InlineData(ScriptedDisk.EAGAIN)]
    public void An_interruption_is_tried_again_but_not_for_ever(int errno)
    {
        using var disk = new ScriptedDisk(canErase: true);
        disk.Ranges(0, DiskOperation.SecureErase, durable: false, new DiskRange(4096, 512, false));
        disk.End(-errno);
        AssertErase(4096, 512, disk.End(0));
        Assert.Equal(DiskOutcome.Done, disk.OutcomeOf(0));

        disk.Ranges(0, DiskOperation.SecureErase, durable: false, new DiskRange(4096, 512, false));
        int tries = 0;
        while (disk.Engine.HasWaiting)
        {
            disk.End(-errno);
            Assert.InRange(++tries, 1, 100);
        }

        Assert.Equal(DiskOutcome.Failed, disk.OutcomeOf(0));
    }

    [Fact]
    public void An_image_cannot_and_is_not_asked_to()
    {
        using var disk = new ScriptedDisk();
        Assert.False(disk.Disk.Properties.CanSecureErase);
        disk.Ranges(0, DiskOperation.SecureErase, durable: false, new DiskRange(0, 512, false));
        Assert.Equal(DiskOutcome.Unsupported, disk.OutcomeOf(0));
        Assert.Empty(disk.Engine.Operations);
    }

    [Theory]
    [InlineData(false, true, true)]
    [InlineData(false, false, false)]
    [InlineData(true, true, false)]
    public void A_block_device_can_if_it_says_so_and_may_be_written(bool readOnly, bool says, bool can)
    {
        using var image = new TemporaryImage();
        var host = new BlockDeviceHost { NumberOf = _ => new DeviceNumber(0, 0), CanSecureErase = _ => says };
        using FileDisk disk = FileDisk.Open(new FileDiskOptions(image.Path, readOnly), host);
        Assert.Equal(can, disk.Properties.CanSecureErase);
    }

    [Fact]
    public void What_is_no_block_device_does_not_say_so()
    {
        using var image = new TemporaryImage();
        image.Write(0, [1]);
        using SafeFileHandle file = File.OpenHandle(image.Path, FileMode.Open, FileAccess.ReadWrite);
        Assert.False(new BlockDeviceHost().CanSecureErase(file));
        Assert.Equal(1, image.Read(0, 1)[0]);
    }

    [Fact]
    public void The_request_has_the_number_of_the_header() =>
        Assert.Equal(BLKSECDISCARD, CProgram.Evaluate(["sys/ioctl.h", "linux/fs.h"], ["BLKSECDISCARD"])["BLKSECDISCARD"]);

    private static void AssertErase(ulong offsetBytes, ulong lengthBytes, FakeOperation operation) =>
        Assert.Equal((FakeCall.Ioctl, BLKSECDISCARD, offsetBytes, lengthBytes), (operation.Call, operation.Mode, operation.OffsetBytes, operation.LengthBytes));
}
