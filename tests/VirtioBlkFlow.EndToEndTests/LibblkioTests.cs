using VirtioBlkFlow.EndToEndTests.Clients;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>libblkio as the front-end: its own tools, and NBD clients through nbdkit.</summary>
public class LibblkioTests
{
    [Fact]
    public async Task Fio_verifies_what_it_wrote_over_NBD()
    {
        using TestFolder folder = new();
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(64)));
        await using (NbdkitClient nbdkit = await NbdkitClient.StartAsync(folder, daemon))
        {
            await nbdkit.RunAsync(
                "fio", "--name=verify", "--ioengine=nbd", $"--uri={nbdkit.Uri}", "--size=32m", "--rw=randrw", "--bsrange=4k-128k", "--iodepth=16",
                "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--minimal");
        }

        await daemon.StopAsync();
    }

    [Fact]
    public async Task Qemu_img_converts_onto_the_disk_and_compares_it()
    {
        using TestFolder folder = new();
        DiskImage source = folder.CreateRandomImage(24, seed: 1, "source.img");
        DiskImage image = folder.CreateImage(24);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(image));
        await using (NbdkitClient nbdkit = await NbdkitClient.StartAsync(folder, daemon))
        {
            await nbdkit.RunAsync("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source.FilePath, nbdkit.Uri);
            string verdict = await nbdkit.RunAsync("qemu-img", "compare", "-f", "raw", "-F", "raw", source.FilePath, nbdkit.Uri);
            Assert.Contains("Images are identical", verdict, StringComparison.Ordinal);
        }

        await daemon.StopAsync();
        Assert.Equal(source.Sha256(), image.Sha256());
    }

    [Fact]
    public async Task Blkio_copy_writes_the_disk_and_reads_it_back()
    {
        using TestFolder folder = new();
        DiskImage source = folder.CreateRandomImage(24, seed: 2, "source.img");
        DiskImage copy = folder.CreateImage(24, "copy.img");
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new DaemonOptions(folder.CreateImage(24)));
        string socket = $"path={daemon.SocketPath}";

        await BlkioTool.RunAsync("blkio-copy", $"--input-file={source.FilePath}", "--output-blkio=virtio-blk-vhost-user", socket);
        await BlkioTool.RunAsync("blkio-copy", "--input-blkio=virtio-blk-vhost-user", socket, $"--output-file={copy.FilePath}");

        await daemon.StopAsync();
        Assert.Equal(source.Sha256(), copy.Sha256());
    }
}
