using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>What the disk must hold, in memory. Threads may use it at once if each keeps to sectors of its own.</summary>
internal sealed class ShadowDisk(int mebibytes)
{
    private readonly byte[] _bytes = new byte[mebibytes << 20];

    public ulong SectorCount => (ulong)_bytes.Length / BlkRequest.SectorBytes;

    public Span<byte> At(ulong sector, int lengthBytes) => _bytes.AsSpan((int)(sector * BlkRequest.SectorBytes), lengthBytes);

    /// <summary>Compares all of it with the file on the host, and names the first sector that differs.</summary>
    public void AssertEqualTo(DiskImage image)
    {
        byte[] file = File.ReadAllBytes(image.FilePath);
        Assert.Equal(_bytes.Length, file.Length);
        int same = file.AsSpan().CommonPrefixLength(_bytes);
        Assert.True(same == file.Length, $"The file differs from what was written, first in sector {same / BlkRequest.SectorBytes}.");
    }
}
