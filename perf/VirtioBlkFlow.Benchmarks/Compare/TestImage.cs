namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>The file that servers serve.</summary>
internal static class TestImage
{
    /// <summary>Random bytes, all of them written: no holes, nothing to compress. Left in the page cache.</summary>
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
}
