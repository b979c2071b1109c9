using System.Globalization;
using System.Security.Cryptography;

namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>The file behind the disk, seen from the host.</summary>
internal sealed record DiskImage(string FilePath)
{
    public string Sha256()
    {
        using FileStream file = File.OpenRead(FilePath);
        return Convert.ToHexString(SHA256.HashData(file));
    }

    /// <summary>What the file occupies on the host: a discard that reached the file lowers it.</summary>
    public async Task<long> AllocatedBytesAsync()
    {
        string blocks = await ChildProcess.RunAsync("stat", ["--format=%b", FilePath], TimeSpan.FromSeconds(10));
        return 512 * long.Parse(blocks, CultureInfo.InvariantCulture);
    }

    public byte[] Read(long offset, int lengthBytes)
    {
        using FileStream file = File.OpenRead(FilePath);
        file.Position = offset;
        byte[] bytes = new byte[lengthBytes];
        file.ReadExactly(bytes);
        return bytes;
    }
}
