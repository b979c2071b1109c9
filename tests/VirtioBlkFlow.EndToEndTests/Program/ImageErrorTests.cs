using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>An image that cannot be a disk ends with exit code 1 and the remedy; no socket is made for it.</summary>
public class ImageErrorTests
{
    [Fact]
    public async Task A_missing_image_is_named_with_the_command_that_makes_one()
    {
        using TestFolder folder = new();

        ProgramEnd end = await ServeAsync(folder, folder["missing.img"]);

        end.AssertRefusedWith(ProgramEnd.Failure, folder["missing.img"], "No such file", "truncate -s 1G");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_directory_is_no_image(bool readOnly)
    {
        using TestFolder folder = new();
        Directory.CreateDirectory(folder["folder"]);

        ProgramEnd end = await ServeAsync(folder, folder["folder"], readOnly ? ["--read-only"] : []);

        end.AssertRefusedWith(ProgramEnd.Failure, folder["folder"], "raw disk image");
    }

    [Fact]
    public async Task A_character_device_is_no_image()
    {
        using TestFolder folder = new();

        ProgramEnd end = await ServeAsync(folder, "/dev/null");

        end.AssertRefusedWith(ProgramEnd.Failure, "/dev/null", "neither a regular file nor a block device", "raw disk image");
    }

    [Fact]
    public async Task An_empty_image_is_refused_with_the_command_that_sizes_it()
    {
        using TestFolder folder = new();
        folder.CreateImage(0, "empty.img");

        ProgramEnd end = await ServeAsync(folder, folder["empty.img"]);

        end.AssertRefusedWith(ProgramEnd.Failure, folder["empty.img"], "empty", "truncate -s 1G");
    }

    [Fact]
    public async Task A_size_that_is_no_multiple_of_512_is_refused_with_the_command_that_pads_it()
    {
        using TestFolder folder = new();
        File.WriteAllBytes(folder["odd.img"], new byte[1025]);

        ProgramEnd end = await ServeAsync(folder, folder["odd.img"]);

        end.AssertRefusedWith(ProgramEnd.Failure, folder["odd.img"], "1025 bytes", "512", "truncate -s 1536");
        Assert.Equal(1025, new FileInfo(folder["odd.img"]).Length);
    }

    [Theory]
    [InlineData("@disk.img")]
    [InlineData("-disk.img")]
    [InlineData("--poll")]
    [InlineData("a disk; its \"name\" has $signs.img")]
    public async Task An_image_may_have_any_name(string name)
    {
        using TestFolder folder = new();
        folder.CreateImage(16, name);
        // With an equals sign, so that a name like an option's is none.
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, $"--blk-file={name}");

        Assert.Contains(
            Directory.EnumerateFiles($"/proc/{daemon.ProcessId}/fd"), descriptor => new FileInfo(descriptor).LinkTarget == folder[name]);
        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Fact]
    public async Task An_image_whose_name_starts_like_a_response_file_is_an_image()
    {
        using TestFolder folder = new();
        folder.CreateImage(16, "@disk.img");
        // Two words: the library would read options out of disk.img.
        folder.CreateImage(1);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", "@disk.img");

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
    }

    [Fact]
    public async Task No_option_in_a_folder_that_cannot_be_written_names_the_way_out()
    {
        using TestFolder folder = new();
        string launch = "cd /proc/self && exec \"$0\"";

        ProgramEnd end = await Vblkflow.EndOfAsync(ChildProcess.Start("sh", ["-c", launch, RepoPaths.Daemon], folder: folder.FullName));

        end.AssertRefusedWith(ProgramEnd.Failure, "disk.img", "--blk-file");
    }

    private static async Task<ProgramEnd> ServeAsync(TestFolder folder, string image, params string[] more)
    {
        ProgramEnd end = await Vblkflow.RunAsync(folder, ["--socket-path", folder[Vblkflow.SocketName], "--blk-file", image, .. more]);
        Assert.False(File.Exists(folder[Vblkflow.SocketName]), "A socket was made for a disk that cannot be served.");
        return end;
    }
}
