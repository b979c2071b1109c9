using System.Diagnostics;
using System.Globalization;
using IoUring;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.UnitTests.Abi;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>Two writers would destroy an image.</summary>
public sealed class LockTests : IDisposable
{
    private readonly TemporaryImage _image = new();

    public void Dispose() => _image.Dispose();

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public void A_writer_is_alone_with_its_image(bool firstReadOnly, bool secondReadOnly)
    {
        using FileDisk first = _image.Open(firstReadOnly);
        string message = Assert.Throws<DiskOpenException>(() => _image.Open(secondReadOnly)).Message;
        Assert.Contains(_image.Path, message, StringComparison.Ordinal);
        Assert.Contains("--no-lock", message, StringComparison.Ordinal);
        // The other one is ourselves: no use in looking for another program.
        Assert.Contains(Environment.ProcessId.ToString(CultureInfo.InvariantCulture), message, StringComparison.Ordinal);
    }

    [Fact]
    public void Readers_share_an_image()
    {
        using FileDisk first = _image.Open(readOnly: true);
        using FileDisk second = _image.Open(readOnly: true);
        Assert.Equal(first.Properties, second.Properties);
    }

    [Fact]
    public void Who_knows_better_needs_no_lock()
    {
        using FileDisk first = _image.Open();
        using FileDisk second = _image.Open(withLock: false);
        Assert.Equal(first.Properties, second.Properties);
    }

    [Fact]
    public void The_lock_ends_with_its_disk()
    {
        _image.Open().Dispose();
        using FileDisk again = _image.Open();
        Assert.Equal(_image.Path, again.Path);
    }

    [Fact]
    public void A_lock_that_only_the_ring_of_a_process_that_ended_still_holds_is_waited_for()
    {
        // What a killed process leaves for a moment: the open file is registered with a ring, and no descriptor of it is left.
        using Ring ring = Ring.Create(new RingOptions());
        ring.RegisterFiles(1);
        using (SafeFileHandle file = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
        {
            ImageLock.Take(file, _image.Path, readOnly: false);
            ring.UpdateFile(0, (int)file.DangerousGetHandle());
        }

        Task<FileDisk> opening = Task.Run(() => _image.Open());
        Eventually.Holds(() => opening.IsCompleted || IsOpenHere(_image.Path), "the image is open");
        ring.Dispose();
        using FileDisk disk = Eventually.Result(opening, "the image is opened");
        Assert.Equal(_image.Path, disk.Path);
    }

    // F_RDLCK of <asm-generic/fcntl.h>.
    private const int ReadLock = 0;

    // What QEMU locks, by its block/file-posix.c: byte 100 + n for what it does, 200 + n for what it lets nobody do; 1 is writing.
    [Theory]
    [InlineData(ReadLock, 101, false)]
    [InlineData(ReadLock, 101, true)]
    [InlineData(ReadLock, 201, false)]
    [InlineData(ReadLock, 100, false)]
    public void Another_program_that_locks_like_QEMU_is_named(int type, int firstByte, bool readOnly)
    {
        using var other = new LockingProcess(_image.Path, type, firstByte);
        string message = Assert.Throws<DiskOpenException>(() => _image.Open(readOnly)).Message;
        Assert.Contains($"(pid {other.Id})", message, StringComparison.Ordinal);
        Assert.Contains("hold-lock", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_QEMU_that_only_reads_disturbs_no_reader()
    {
        using var other = new LockingProcess(_image.Path, ReadLock, 100);
        using FileDisk reader = _image.Open(readOnly: true);
        Assert.True(reader.Properties.ReadOnly);
    }

    private static bool IsOpenHere(string path) =>
        Directory.EnumerateFiles("/proc/self/fd").Any(descriptor => new FileInfo(descriptor).LinkTarget == path);

    /// <summary>Another process that holds a lock on a byte of the image until it is disposed.</summary>
    private sealed class LockingProcess : IDisposable
    {
        private const string ProgramName = "hold-lock";

        private const string Source = """
            #define _GNU_SOURCE
            #include <fcntl.h>
            #include <stdio.h>
            #include <stdlib.h>
            int main(int argc, char **argv)
            {
                struct flock lock = { .l_type = atoi(argv[2]), .l_whence = SEEK_SET, .l_start = atoi(argv[3]), .l_len = 1 };
                int fd = open(argv[1], O_RDWR);
                if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) != 0)
                    return 1;
                puts("locked");
                fflush(stdout);
                return getchar() == EOF ? 0 : 2;
            }
            """;

        private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("lock-");
        private readonly Process _process;

        public LockingProcess(string path, int type, int firstByte)
        {
            string program = Path.Combine(_directory.FullName, ProgramName);
            CProgram.Compile(Source, program);
            string[] arguments = [path, type.ToString(CultureInfo.InvariantCulture), firstByte.ToString(CultureInfo.InvariantCulture)];
            _process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
            Assert.Equal("locked", Eventually.Returns(_process.StandardOutput.ReadLine, "the other process has its lock"));
        }

        public int Id => _process.Id;

        public void Dispose()
        {
            _process.StandardInput.Close();
            _process.WaitForExit();
            _process.Dispose();
            _directory.Delete(recursive: true);
        }
    }
}
