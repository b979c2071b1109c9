namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>A folder of one test, removed with all that is in it.</summary>
internal sealed class TestFolder : IDisposable
{
    // Short: the path of a unix socket has 107 bytes at most.
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("vbf-");

    public string FullName => _folder.FullName;

    public string this[string name] => Path.Combine(_folder.FullName, name);

    /// <summary>A sparse image that reads as zeros.</summary>
    public DiskImage CreateImage(int mebibytes, string name = "disk.img")
    {
        using FileStream file = new(this[name], FileMode.CreateNew);
        file.SetLength((long)mebibytes << 20);
        return new DiskImage(this[name]);
    }

    /// <summary>An image with every byte written from a generator that starts at <paramref name="seed"/>.</summary>
    public DiskImage CreateRandomImage(int mebibytes, int seed, string name = "disk.img")
    {
        using FileStream file = new(this[name], FileMode.CreateNew);
        Random random = new(seed);
        byte[] chunk = new byte[1 << 20];
        for (int i = 0; i < mebibytes; i++)
        {
            random.NextBytes(chunk);
            file.Write(chunk);
        }

        return new DiskImage(this[name]);
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
