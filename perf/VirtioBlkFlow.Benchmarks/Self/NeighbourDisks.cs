using System.Globalization;
using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>Disks beside the one that is measured: files without data, each with a socket, and a driver if wanted. Removed in the end.</summary>
internal sealed class NeighbourDisks : IDisposable
{
    private const long FileBytes = 16 << 20;

    private readonly string _folder;
    private readonly string _socketPath;
    private readonly int _count;
    private readonly List<AttachedDriver> _drivers = [];

    /// <summary>Makes the files.</summary>
    /// <param name="folder">Where they go.</param>
    /// <param name="socketPath">Socket of the disk that is measured; those of the others begin with it.</param>
    /// <param name="count">How many.</param>
    public NeighbourDisks(string folder, string socketPath, int count)
    {
        _folder = folder;
        _socketPath = socketPath;
        _count = count;
        for (int i = 0; i < count; i++)
        {
            using var file = new FileStream(FileOf(i), FileMode.Create, FileAccess.Write);
            file.SetLength(FileBytes);
        }
    }

    /// <summary>Options of the server that make the disks.</summary>
    public string Options => string.Join(
        ' ', Enumerable.Range(0, _count).Select(i => "--disk " + Contestant.Quote($"file:{Escape(FileOf(i))},lock=off,socket={Escape(SocketOf(i))}")));

    /// <summary>A driver for each.</summary>
    public void Attach() => _drivers.AddRange(Enumerable.Range(0, _count).Select(i => new AttachedDriver(SocketOf(i))));

    /// <summary>Drivers leave, files go.</summary>
    public void Dispose()
    {
        _drivers.ForEach(driver => driver.Dispose());
        for (int i = 0; i < _count; i++)
        {
            File.Delete(FileOf(i));
            File.Delete(SocketOf(i));
        }
    }

    // A comma in a value is written twice.
    private static string Escape(string path) => path.Replace(",", ",,", StringComparison.Ordinal);

    private string FileOf(int index) => Path.Combine(_folder, string.Create(CultureInfo.InvariantCulture, $"self-neighbour-{index}.img"));

    private string SocketOf(int index) => string.Create(CultureInfo.InvariantCulture, $"{_socketPath}.{index}");
}
