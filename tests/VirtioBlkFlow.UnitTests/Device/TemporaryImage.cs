using VirtioBlkFlow.Disks.File;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A disk image that lasts as long as a test.</summary>
internal sealed class TemporaryImage : IDisposable
{
    public TemporaryImage(long lengthBytes = 4 << 20, string? folder = null)
    {
        Path = System.IO.Path.Combine(folder ?? System.IO.Path.GetTempPath(), $"virtioblkflow-test-{Guid.NewGuid():n}.img");
        using FileStream file = File.Create(Path);
        file.SetLength(lengthBytes);
    }

    public string Path { get; }

    public FileDisk Open(bool readOnly = false, bool direct = false, bool withLock = true, bool inlineWrites = false) =>
        FileDisk.Open(new FileDiskOptions(Path, readOnly, direct, withLock, InlineWrites: inlineWrites));

    /// <summary>What is in the file now.</summary>
    public byte[] Read(long offsetBytes, int lengthBytes)
    {
        using FileStream file = new(Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        byte[] bytes = new byte[lengthBytes];
        file.Position = offsetBytes;
        file.ReadExactly(bytes);
        return bytes;
    }

    public void Write(long offsetBytes, ReadOnlySpan<byte> bytes)
    {
        using FileStream file = new(Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
        file.Position = offsetBytes;
        file.Write(bytes);
    }

    public void Dispose() => File.Delete(Path);
}
