using System.Buffers.Binary;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>
/// A file of 64 MiB in which each block of 4 KiB begins with its number; written just now, so it is in the page cache. It lies in the
/// folder that <c>VBLKFLOW_BENCH_DIR</c> names, else in the current one: not on tmpfs, whose reads io_uring hands to worker threads.
/// </summary>
internal sealed class TestFile : IDisposable
{
    private const int BlockCount = 16384;

    private readonly string _path;

    private TestFile()
    {
        _path = Path.Combine(Folder, $"benchmark-{Environment.ProcessId}.img");
        using var stream = new FileStream(_path, FileMode.Create, FileAccess.Write);
        byte[] block = new byte[FixedChainsDriver.DataBytes];
        for (int i = 0; i < BlockCount; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(block, (ulong)i);
            stream.Write(block);
        }

        // So that no writeback goes on while it is measured.
        stream.Flush(flushToDisk: true);
    }

    /// <summary>Where it is written.</summary>
    public static string Folder => Environment.GetEnvironmentVariable("VBLKFLOW_BENCH_DIR") ?? Environment.CurrentDirectory;

    /// <summary>The first sectors of all blocks once, in an order that is random and the same each time.</summary>
    public static ulong[] Sectors { get; } = MakeSectors();

    /// <summary>Writes the file.</summary>
    public static TestFile Create() => new();

    public static bool IsRight(ulong sector, ReadOnlySpan<byte> data) =>
        BinaryPrimitives.ReadUInt64LittleEndian(data) == sector * BlkRequest.SectorBytes / FixedChainsDriver.DataBytes && !data[8..].ContainsAnyExcept((byte)0);

    public IDisk Open() => FileDisk.Open(new FileDiskOptions(_path, ReadOnly: true, Lock: false));

    public void Dispose() => File.Delete(_path);

    private static ulong[] MakeSectors()
    {
        ulong[] sectors = new ulong[BlockCount];
        for (int i = 0; i < BlockCount; i++)
        {
            sectors[i] = (ulong)i * (FixedChainsDriver.DataBytes / BlkRequest.SectorBytes);
        }

        // Arbitrary seed, always the same.
        new Random(20240229).Shuffle(sectors);
        return sectors;
    }
}
