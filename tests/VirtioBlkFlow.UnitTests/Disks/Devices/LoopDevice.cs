using System.Diagnostics;
using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.UnitTests.Disks.Devices;

/// <summary>
/// A loop device over a file of its own, which reads as zeros. It is detached as soon as it is open: from then on it lasts as long as somebody
/// has it open, so that a test that is killed leaves none behind.
/// </summary>
internal sealed class LoopDevice : IDisposable
{
    private const string Control = "/dev/loop-control";

    private readonly SafeFileHandle _device;

    /// <param name="sizeBytes">Its size.</param>
    /// <param name="sectorBytes">Its sectors.</param>
    /// <param name="folder">Where the file is; null for where temporary files are.</param>
    /// <param name="direct">Whether it goes past the page cache of that file.</param>
    public LoopDevice(long sizeBytes, int sectorBytes, string? folder = null, bool direct = false)
    {
        if (!File.Exists(Control) || Environment.UserName != "root")
        {
            throw new InvalidOperationException($"This test needs loop devices: {Control} (modprobe loop) and the rights of root to use it.");
        }

        FilePath = System.IO.Path.Combine(folder ?? System.IO.Path.GetTempPath(), $"virtioblkflow-test-{Guid.NewGuid():n}.img");
        using (FileStream file = File.Create(FilePath))
        {
            file.SetLength(sizeBytes);
        }

        Path = Losetup(["--find", "--show", $"--sector-size={sectorBytes}", $"--direct-io={(direct ? "on" : "off")}", FilePath]).Trim();
        _device = File.OpenHandle(Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        Losetup(["--detach", Path]);
    }

    /// <summary>The device.</summary>
    public string Path { get; }

    /// <summary>What is behind it.</summary>
    public string FilePath { get; }

    /// <summary>A number of the device in sysfs.</summary>
    public ulong Limit(string name) =>
        ulong.Parse(File.ReadAllText($"/sys/block/{System.IO.Path.GetFileName(Path)}/queue/{name}"), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Gives the file another size, and the device with it. Without any bytes it is like one that was pulled out.</summary>
    public void Resize(long sizeBytes)
    {
        using (FileStream file = new(FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete))
        {
            file.SetLength(sizeBytes);
        }

        Losetup(["--set-capacity", Path]);
    }

    public void Dispose()
    {
        _device.Dispose();
        File.Delete(FilePath);
    }

    private static string Losetup(string[] arguments)
    {
        // Not in every user's PATH.
        string program = File.Exists("/usr/sbin/losetup") ? "/usr/sbin/losetup" : "losetup";
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        string output = process.StandardOutput.ReadToEnd();
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"losetup {string.Join(' ', arguments)}: {errors}");
    }
}
