using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>
/// A file that stands for guest memory, and whose traces in this process can be counted: its name in /proc/self/fd and
/// /proc/self/maps is its own, so other tests that run meanwhile do not disturb.
/// </summary>
internal sealed class TestFiles : IDisposable
{
    public TestFiles(long lengthBytes)
    {
        Path = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"vhost-user-test-{Guid.NewGuid():n}");
        Handle = File.OpenHandle(Path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
        RandomAccess.SetLength(Handle, lengthBytes);
    }

    public string Path { get; }

    public SafeFileHandle Handle { get; }

    /// <summary>How many descriptors of this process refer to the file, ours included.</summary>
    public int CountDescriptors() => Directory.GetFiles("/proc/self/fd").Count(LeadsHere);

    /// <summary>How many mappings of this process refer to the file.</summary>
    public int CountMappings() => File.ReadLines("/proc/self/maps").Count(line => line.EndsWith(Path, StringComparison.Ordinal));

    public static SafeFileHandle OpenNull() => File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);

    /// <summary>A vring of up to 64 descriptors at a user address: 1 KiB for the table, then available and used.</summary>
    public static VringAddress VringAt(uint index, ulong userAddress, uint flags = 0) =>
        new(index, flags, userAddress, userAddress + 0x800, userAddress + 0x400, 0);

    public void Dispose()
    {
        Handle.Dispose();
        File.Delete(Path);
    }

    private bool LeadsHere(string link)
    {
        try
        {
            return new FileInfo(link).LinkTarget == Path;
        }
        catch (IOException)
        {
            return false; // Closed meanwhile by another test.
        }
    }
}
