using System.Runtime.CompilerServices;

namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>Where the things under test and the prepared test assets are.</summary>
internal static class RepoPaths
{
    public static string Root { get; } = FindRoot();

    /// <summary>The Release build of the daemon, or what VBLKFLOW_BIN names.</summary>
    public static string Daemon => Existing(
        Environment.GetEnvironmentVariable("VBLKFLOW_BIN")
            ?? Path.Combine(Root, "src/VirtioBlkFlow.Daemon/bin/Release/net10.0/vblkflow"),
        "dotnet build VirtioBlkFlow.sln -c Release");

    public static string GuestKernel => Asset("guest/vmlinuz", "tests/guest/build-initramfs.sh");

    /// <summary>The shell, the file system tools and the modules: enough for a guest that does not run fio.</summary>
    public static string BaseInitramfs => Asset("guest/base.cpio", "tests/guest/build-initramfs.sh");

    /// <summary>fio with its libraries, to be unpacked over the base.</summary>
    public static string FioInitramfs => Asset("guest/fio.cpio", "tests/guest/build-initramfs.sh");

    /// <summary>GRUB's first sector.</summary>
    public static string GrubBootSector => Asset("grub/boot.img", "tests/guest/build-grub.sh");

    /// <summary>The rest of GRUB, which follows its first sector.</summary>
    public static string GrubCore => Asset("grub/core.img", "tests/guest/build-grub.sh");

    /// <summary>The root of libblkio and nbdkit's plug-in for it, as unpacked from Debian 13.</summary>
    public static string Blkio => Path.GetDirectoryName(Asset("blkio/key", "tests/guest/fetch-blkio.sh"))!;

    private static string Asset(string name, string madeBy) => Existing(
        Path.Combine(Environment.GetEnvironmentVariable("VBLKFLOW_TEST_CACHE") ?? Path.Combine(Root, "tests/.cache"), name), madeBy);

    private static string Existing(string path, string madeBy) =>
        File.Exists(path) ? path : throw new FileNotFoundException($"{path} is missing; tests/run.sh prepares it, or run: {madeBy}");

    /// <summary>Upwards from where the tests were built to, or, if that is outside the tree (--artifacts-path), from this source file.</summary>
    private static string FindRoot([CallerFilePath] string sourceFile = "") =>
        Ancestors(AppContext.BaseDirectory).Concat(Ancestors(Path.GetDirectoryName(sourceFile)!))
            .FirstOrDefault(folder => File.Exists(Path.Combine(folder, "VirtioBlkFlow.sln")))
            ?? throw new DirectoryNotFoundException($"No folder above {AppContext.BaseDirectory} or {sourceFile} holds VirtioBlkFlow.sln.");

    private static IEnumerable<string> Ancestors(string path)
    {
        for (DirectoryInfo? folder = new(path); folder is not null; folder = folder.Parent)
        {
            yield return folder.FullName;
        }
    }
}
