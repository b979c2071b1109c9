using System.IO.MemoryMappedFiles;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>
/// The image under the device, and what it should hold. Generators write only within the playground; the sectors before and behind it, and
/// the size of the file, must never change. Owned by one thread.
/// </summary>
internal sealed unsafe class DiskImage : IDisposable
{
    /// <summary>Size of the disk in sectors.</summary>
    public const int Sectors = 1024;

    /// <summary>First sector a generator may write.</summary>
    public const int PlaygroundStart = 256;

    /// <summary>First sector behind those.</summary>
    public const int PlaygroundEnd = 768;

    /// <summary>With zones: first sector of the first one that is written sequentially.</summary>
    public const int ConventionalSectors = 384;

    private const int SectorBytes = BlkRequest.SectorBytes;

    private readonly string _folder = Directory.CreateTempSubdirectory("vblkflow-fuzz-").FullName;
    private readonly byte[] _expected = new byte[Sectors * SectorBytes];
    private readonly bool[] _mayChange = new bool[Sectors];
    private readonly List<(int First, int Count)> _allowed = [];
    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _start;

    /// <summary>Makes the file.</summary>
    /// <param name="random">What it holds.</param>
    /// <param name="isEmpty">Whether it holds nothing but zeros yet.</param>
    public DiskImage(FuzzRandom random, bool isEmpty)
    {
        if (!isEmpty)
        {
            // Random bytes: read as a segment list or a header they name sectors that no disk has.
            random.Fill(_expected);
        }

        FilePath = Path.Combine(_folder, "disk.img");
        using (FileStream image = File.Create(FilePath))
        {
            image.SetLength(_expected.Length);
        }

        Write(isEmpty ? 0 : Sectors);
        _file = MemoryMappedFile.CreateFromFile(FilePath, FileMode.Open, null, 0, MemoryMappedFileAccess.ReadWrite);
        _view = _file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _start);
    }

    public string FilePath { get; }

    /// <summary>Where the device's socket goes.</summary>
    public string SocketPath => Path.Combine(_folder, "s");

    private ReadOnlySpan<byte> Now => new(_start, Sectors * SectorBytes);

    /// <summary>An empty image gets contents where any sector can be written.</summary>
    public void FillConventional(FuzzRandom random)
    {
        random.Fill(_expected.AsSpan(0, ConventionalSectors * SectorBytes));
        Write(ConventionalSectors);
    }

    /// <summary>What sectors hold unless a request of this case changes them.</summary>
    public ReadOnlySpan<byte> Expected(int firstSector, int lengthBytes) => _expected.AsSpan(firstSector * SectorBytes, lengthBytes);

    /// <summary>What sectors hold now.</summary>
    public ReadOnlySpan<byte> Current(int firstSector, int lengthBytes) => Now.Slice(firstSector * SectorBytes, lengthBytes);

    /// <summary>Requests of this case may change these sectors.</summary>
    public void Allow(int firstSector, int count)
    {
        _allowed.Add((firstSector, count));
        _mayChange.AsSpan(firstSector, count).Fill(true);
    }

    /// <summary>A case has ended, and the device has nothing in flight.</summary>
    public void EndCase()
    {
        if (!Now.SequenceEqual(_expected))
        {
            VerifySectors();
        }

        long sizeBytes = new FileInfo(FilePath).Length;
        if (sizeBytes != _expected.Length)
        {
            throw new FindingException(FindingKind.DiskTouched, $"The image has {sizeBytes} bytes now.");
        }

        foreach ((int first, int count) in _allowed)
        {
            Current(first, count * SectorBytes).CopyTo(_expected.AsSpan(first * SectorBytes));
            _mayChange.AsSpan(first, count).Clear();
        }

        _allowed.Clear();
    }

    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private void Write(int sectors)
    {
        using SafeFileHandle image = File.OpenHandle(FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        RandomAccess.Write(image, _expected.AsSpan(0, sectors * SectorBytes), 0);
    }

    private void VerifySectors()
    {
        for (int sector = 0; sector < Sectors; sector++)
        {
            if (!_mayChange[sector] && !Current(sector, SectorBytes).SequenceEqual(Expected(sector, SectorBytes)))
            {
                throw new FindingException(FindingKind.DiskTouched, $"Sector {sector} was written, which no request named.");
            }
        }
    }
}
