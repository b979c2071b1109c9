namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>The file that servers serve.</summary>
internal static class TestImage
{
    /// <summary>Random bytes, all of them written: no holes, nothing to compress.</summary>
    public static void Make(string path, long lengthBytes)
    {
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write);
        byte[] chunk = new byte[1 << 20];
        var random = new Random(1);
        for (long done = 0; done < lengthBytes; done += chunk.Length)
        {
            random.NextBytes(chunk);
            file.Write(chunk);
        }

        file.Flush(flushToDisk: true);
    }

    /// <summary>Reads all of it, so that it is in the page cache. Kernels give back what nobody has used for some minutes (DAMON_RECLAIM).</summary>
    public static void Load(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[] chunk = new byte[1 << 20];
        while (file.Read(chunk) > 0)
        {
        }
    }
}
