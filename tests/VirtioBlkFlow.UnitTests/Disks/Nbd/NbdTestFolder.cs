using VirtioBlkFlow.Disks.Nbd;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>A folder of its own for a server's socket, and where that is.</summary>
internal sealed class NbdTestFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("virtioblkflow-nbd-");

    public NbdAddress Address => new("", Path.Combine(_folder.FullName, "nbd.sock"), "", 0);

    public string this[string name] => Path.Combine(_folder.FullName, name);

    public void Dispose() => _folder.Delete(recursive: true);
}
