using System.Text;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>The first minute of a newcomer: no option, one line to paste, and it works.</summary>
public class NoOptionTests
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Without_options_it_makes_a_sparse_disk_serves_it_and_says_how_to_attach()
    {
        using TestFolder folder = new();
        await using ChildProcess daemon = Vblkflow.Start(folder);

        await daemon.Output.WaitForAsync(line => line.StartsWith("Ctrl-C", StringComparison.Ordinal), s_deadline);

        DiskImage image = new(folder["disk.img"]);
        Assert.Equal(1L << 30, new FileInfo(image.FilePath).Length);
        Assert.Equal(0, await image.AllocatedBytesAsync());
        Assert.True(File.Exists(folder["vblkflow.sock"]));
        Assert.Contains(daemon.Output.Lines, line => line.StartsWith("qemu-system-x86_64 ", StringComparison.Ordinal));
        Assert.Empty(daemon.Errors.Lines);
        await Vblkflow.EndBySignalAsync(daemon, folder["vblkflow.sock"]);
    }

    [Fact]
    public async Task A_second_run_keeps_the_disk_of_the_first()
    {
        using TestFolder folder = new();
        byte[] data = Encoding.ASCII.GetBytes("from the first run");
        for (int run = 1; run <= 2; run++)
        {
            await using ChildProcess daemon = Vblkflow.Start(folder);
            await daemon.Output.WaitForAsync(line => line.StartsWith("Ctrl-C", StringComparison.Ordinal), s_deadline);
            await Vblkflow.EndBySignalAsync(daemon, folder["vblkflow.sock"]);
            if (run == 1)
            {
                using FileStream file = File.OpenWrite(folder["disk.img"]);
                file.Write(data);
            }
        }

        Assert.Equal(1L << 30, new FileInfo(folder["disk.img"]).Length);
        Assert.Equal(data, new DiskImage(folder["disk.img"]).Read(0, data.Length));
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("with spaces, commas, it's \"quoted\" & a $dollar")]
    public async Task The_line_it_prints_attaches_a_QEMU_that_boots_from_the_disk(string folderName)
    {
        const string Message = "Greetings from sector 0.";
        using TestFolder folder = new();
        Directory.CreateDirectory(folder[folderName]);
        // As of an earlier run; QEMU's firmware reads it through the daemon and executes it.
        File.WriteAllBytes(folder[Path.Combine(folderName, "disk.img")], [.. BootSectorThatPrints(Message), .. new byte[1 << 20]]);
        await using ChildProcess daemon = ChildProcess.Start(RepoPaths.Daemon, [], folder: folder[folderName]);
        await daemon.Output.WaitForAsync(line => line.StartsWith("Ctrl-C", StringComparison.Ordinal), s_deadline);
        string[] printed = [.. daemon.Output.Lines];
        int first = Array.FindIndex(printed, line => line.StartsWith("qemu-system-x86_64 ", StringComparison.Ordinal));
        string command = string.Join('\n', printed[first..].TakeWhile(line => line.Length > 0));

        // In another folder, as another shell may be; exec so that the signal below reaches QEMU.
        await using ChildProcess qemu = ChildProcess.Start("sh", ["-c", "exec " + command], folder: folder.FullName);

        await qemu.Output.WaitForAsync(line => line.Contains(Message, StringComparison.Ordinal), s_deadline);
        qemu.Signal(ChildProcess.SIGTERM);
        Assert.True(await qemu.WaitForExitAsync(s_deadline));
        Assert.Equal(0, qemu.ExitCode);
        Assert.Empty(daemon.Errors.Lines);
        await Vblkflow.EndBySignalAsync(daemon, folder[Path.Combine(folderName, "vblkflow.sock")]);
    }

    // Real mode, loaded at 0x7c00: prints a string with the firmware's teletype, which QEMU's -nographic sends to the console, and halts.
    private static byte[] BootSectorThatPrints(string message)
    {
        byte[] sector = new byte[512];
        byte[] code =
        [
            0x31, 0xc0,       // xor  ax, ax
            0x8e, 0xd8,       // mov  ds, ax
            0xbe, 0x15, 0x7c, // mov  si, 0x7c15
            0xac,             // next: lodsb
            0x84, 0xc0,       // test al, al
            0x74, 0x06,       // jz   halt
            0xb4, 0x0e,       // mov  ah, 0x0e
            0xcd, 0x10,       // int  0x10
            0xeb, 0xf5,       // jmp  next
            0xf4,             // halt: hlt
            0xeb, 0xfd,       // jmp  halt
        ];
        code.CopyTo(sector, 0);
        Encoding.ASCII.GetBytes(message + "\r\n\0").CopyTo(sector, code.Length);
        sector[510] = 0x55;
        sector[511] = 0xaa;
        return sector;
    }
}
