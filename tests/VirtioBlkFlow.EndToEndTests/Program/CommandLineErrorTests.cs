using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>A wrong command line ends with exit code 2, before anything is made or opened.</summary>
public class CommandLineErrorTests
{
    [Theory]
    [InlineData("--no-such-option", "--no-such-option")]
    [InlineData("stray", "stray")]
    [InlineData("--num-queues 0", "--num-queues", "1 to ")]
    [InlineData("--num-queues 257", "--num-queues", "1 to ")]
    [InlineData("--num-queues many", "--num-queues", "many")]
    [InlineData("--num-queues", "--num-queues")]
    [InlineData("--parallelism 0", "--parallelism", "1 to ")]
    [InlineData("--parallelism -1", "--parallelism", "1 to ")]
    [InlineData("--parallelism 99999999999", "--parallelism", "99999999999")]
    [InlineData("--seg-max 0", "--seg-max", "1 to 1022")]
    [InlineData("--seg-max 1023", "--seg-max", "1 to 1022")]
    [InlineData("--size-max 512", "--size-max", "4096 to ")]
    [InlineData("--discard-max 0", "--discard-max", "1 to 256")]
    [InlineData("--discard-max 8,257", "--discard-max", "1 to 256")]
    [InlineData("--write-zeroes-max 8,1,1", "--write-zeroes-max", "1 to 256")]
    [InlineData("--secure-erase-max 0,1", "--secure-erase-max", "1 to 256")]
    [InlineData("--zoned 64M", "--zoned", "zone-size=SIZE")]
    [InlineData("--zoned zone-size=64Q", "--zoned", "zone-size=SIZE")]
    [InlineData("--zoned max-open=1,zone-size=1M", "--zoned", "zone-size=SIZE")]
    [InlineData("--zoned zone-size=1M,zones=4", "--zoned", "conventional=N")]
    [InlineData("--feature discard", "--feature", "NAME=on")]
    [InlineData("--feature discard=no", "--feature", "NAME=off")]
    [InlineData("--feature scsi=on", "scsi", "write-zeroes", "event-idx")]
    [InlineData("--cache none", "none", "writethrough", "writeback")]
    [InlineData("--io-engine aio", "aio", "io_uring", "threads")]
    [InlineData("--log-level loud", "loud", "information")]
    [InlineData("--socket-mode rw", "--socket-mode", "0660")]
    [InlineData("--socket-mode 8", "--socket-mode", "0660")]
    [InlineData("--socket-mode 1777", "--socket-mode", "0660")]
    [InlineData("--serial 123456789012345678901", "--serial", "20")]
    [InlineData("--serial käse", "--serial", "ASCII")]
    [InlineData("--fd three", "--fd", "three")]
    [InlineData("--fd -1", "--fd")]
    [InlineData("--poll --no-poll", "--poll", "--no-poll", "exclude")]
    [InlineData("--socket-path s --fd 3", "--socket-path", "--fd", "exclude")]
    [InlineData("--socket-mode 0600 --fd 3", "--socket-mode", "--fd", "exclude")]
    [InlineData("--blk-file a --blk-file b", "--blk-file")]
    [InlineData("--reactors 0", "--reactors", "1 to 1024")]
    [InlineData("--reactors 1025", "--reactors", "1 to 1024")]
    [InlineData("--reactors few", "--reactors", "few")]
    [InlineData("--reactors 2 --disk null:1M,poll=always", "poll", "null:1M", "--reactors")]
    [InlineData("--reactors 2 --disk null:1M,cpus=0", "cpus", "null:1M", "--reactors")]
    [InlineData("--cpus 1023", "--cpus", "processors", "1023")]
    [InlineData("--cpus first", "--cpus", "processors", "first")]
    [InlineData("--merge yes", "--merge", "on or off", "yes")]
    [InlineData("--call-moderation 50", "--call-moderation", "completions", "50")]
    [InlineData("--call-moderation 50/1", "--call-moderation", "completions", "50/1")]
    [InlineData("--call-moderation 0/8", "--call-moderation", "completions", "0/8")]
    [InlineData("--disk", "--disk")]
    [InlineData("--disk a.img", "--disk 'a.img'", "file:a.img")]
    [InlineData("--disk file:a.img,colour=red", "--disk 'file:a.img,colour=red'", "'colour'", "cache")]
    [InlineData("--disk null:1M --disk null:1M", "--socket-dir")]
    [InlineData("--disk null:1M,socket=s --disk null:1M,socket=s", "'s'", "own socket=")]
    [InlineData("--disk file:a --blk-file ./a --socket-dir d", "same image")]
    [InlineData("--disk null:1M,socket=s --socket-path t", "--socket-path", "one of them")]
    [InlineData("--socket-path s --socket-dir d", "--socket-path", "--socket-dir", "exclude")]
    [InlineData("-s 3,virtio-blk", "-s '3,virtio-blk'", "SLOT,virtio-blk,FILE")]
    [InlineData("--config /dev/null", "/dev/null:1", "JSON")]
    public async Task A_wrong_command_line_is_named_with_the_way_to_help(string commandLine, params string[] words)
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, commandLine.Split(' '));

        end.AssertRefusedWith(ProgramEnd.Usage, [.. words, "vblkflow --help"]);
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder.FullName));
    }

    [Theory]
    [InlineData("--socket-path=")]
    [InlineData("--blk-file=")]
    public async Task An_empty_path_is_refused(string argument)
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, argument);

        end.AssertRefusedWith(ProgramEnd.Usage, argument.TrimEnd('='));
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder.FullName));
    }

    [Fact]
    public async Task Help_lists_every_option_and_ends_well()
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--help");

        Assert.Equal(ProgramEnd.Success, end.ExitCode);
        Assert.Empty(end.Errors);
        string text = string.Join('\n', end.Output);
        string[] options =
        [
            "--socket-path", "--socket-dir", "--socket-mode", "--fd", "--disk", "-s", "--config", "--blk-file", "--read-only", "--cache", "--direct", "--no-lock", "--serial", "--num-queues",
            "--parallelism", "--seg-max", "--size-max", "--discard-max", "--write-zeroes-max", "--secure-erase-max", "--feature", "--zoned", "--io-engine", "--poll", "--no-poll", "--lint", "--log-level", "--print-capabilities",
        ];
        Assert.All(options, option => Assert.Contains(option, text, StringComparison.Ordinal));
        // Each kind of disk, each key, slots and the configuration with an example.
        string[] examples = ["Example: --disk file:", "Example: --disk memory:", "Example: --disk null:", "Example: -s 3,virtio-blk,", "Example: sectorsize=", "\"disks\": ["];
        Assert.All(examples, example => Assert.Contains(example, text, StringComparison.Ordinal));
        int keys = end.Output.Count(line => line.StartsWith("  ", StringComparison.Ordinal) && line[2] != ' ' && line.Contains('=', StringComparison.Ordinal) && !line.StartsWith("  -", StringComparison.Ordinal));
        Assert.InRange(end.Output.Count(line => line.Contains("Example: ", StringComparison.Ordinal)), keys, keys + 8);
    }

    [Fact]
    public async Task A_configuration_that_is_not_there_is_no_fault_of_the_command_line()
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.RunAsync(folder, "--config", "missing.json");

        end.AssertRefusedWith(ProgramEnd.Failure, "'missing.json'", "Check the path");
    }
}
