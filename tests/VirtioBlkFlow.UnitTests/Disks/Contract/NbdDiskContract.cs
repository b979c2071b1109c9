using Mono.Unix.Native;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Disks.Nbd;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <summary>An image behind a real server.</summary>
public abstract class NbdDiskContract(ITestOutputHelper output) : DiskContract(output), IDisposable
{
    private readonly TemporaryImage _image = new(SizeBytes);
    private readonly NbdTestFolder _folder = new();
    private NbdServerProcess? _server;

    public void Dispose()
    {
        _server?.Dispose();
        _folder.Dispose();
        _image.Dispose();
        GC.SuppressFinalize(this);
    }

    private protected TemporaryImage Image => _image;

    private protected abstract NbdServerProcess StartServer(NbdAddress address);

    protected override IDisk OpenDisk()
    {
        _server ??= StartServer(_folder.Address);
        return NbdDisk.Open(new NbdDiskOptions { Address = _folder.Address });
    }
}

/// <summary>nbdkit with all it has: structured replies, several connections, FUA.</summary>
public sealed class NbdkitContract(ITestOutputHelper output) : NbdDiskContract(output)
{
    private protected override NbdServerProcess StartServer(NbdAddress address) => NbdServerProcess.StartNbdkit(address, "file", Image.Path);

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(Image.Path, sizeBytes) == 0;
}

/// <summary>nbdkit with as little as there can be: simple replies, one connection for all queues, a flush where FUA would be, nothing else.</summary>
public sealed class PoorNbdkitContract(ITestOutputHelper output) : NbdDiskContract(output)
{
    private protected override NbdServerProcess StartServer(NbdAddress address) => NbdServerProcess.StartNbdkit(
        address, "--no-sr", "--filter=multi-conn", "--filter=fua", "--filter=nozero", "file", Image.Path, "multi-conn-mode=disable");

    protected override bool TryResize(long sizeBytes) => Syscall.truncate(Image.Path, sizeBytes) == 0;
}

/// <summary>qemu-nbd as it is by default: for a single connection.</summary>
public sealed class QemuNbdContract(ITestOutputHelper output) : NbdDiskContract(output)
{
    private protected override NbdServerProcess StartServer(NbdAddress address) => NbdServerProcess.StartQemuNbd(address, Image.Path, "--discard=unmap");
}

/// <summary>qemu-nbd for several connections.</summary>
public sealed class SharedQemuNbdContract(ITestOutputHelper output) : NbdDiskContract(output)
{
    private protected override NbdServerProcess StartServer(NbdAddress address) =>
        NbdServerProcess.StartQemuNbd(address, Image.Path, "--discard=unmap", "--shared=4");
}
