using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>What disks cost that nobody uses.</summary>
public class IdleDiskTests
{
    private const int DiskCount = 64;

    /// <summary>The bound; some 20 KiB are usual.</summary>
    private const long MostBytesForDisk = 1500 << 10;

    [Fact]
    public async Task Sixty_four_idle_disks_cost_no_thread_and_little_memory()
    {
        using TestFolder folder = new();
        (long bytesOfTwo, int threadsOfTwo) = await CostOfAsync(folder, 2);
        (long bytesOfAll, int threadsOfAll) = await CostOfAsync(folder, DiskCount);

        long bytesForDisk = (bytesOfAll - bytesOfTwo) / (DiskCount - 2);
        Assert.True(bytesForDisk < MostBytesForDisk, $"{bytesForDisk} bytes for each disk");
        Assert.True(threadsOfTwo == threadsOfAll, $"{threadsOfTwo} threads of its own for two disks, {threadsOfAll} for {DiskCount}");
    }

    // Resident memory, and threads that the program itself made; the runtime has its own.
    private static async Task<(long Bytes, int Threads)> CostOfAsync(TestFolder folder, int count)
    {
        string[] sockets = [.. Enumerable.Range(0, count).Select(i => $"{count}-{i}.sock")];
        List<string> arguments = [];
        for (int i = 0; i < count; i++)
        {
            folder.CreateImage(16, $"{count}-{i}.img");
            arguments.AddRange(["--disk", $"file:{count}-{i}.img,socket={folder[sockets[i]]}"]);
        }

        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(folder, sockets, [.. arguments]);
        using (FrontendSession session = FrontendSession.Open(daemon.Sockets[^1]))
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Flush());
            Assert.True(OwnThreads(daemon).Count > 1, "The front-end's threads are not found, so nothing is counted.");
        }

        Assert.True(SpinWait.SpinUntil(() => OwnThreads(daemon) is ["vhost-accept"], Vblkflow.EndDeadline), string.Join(", ", OwnThreads(daemon)));
        string resident = File.ReadLines($"/proc/{daemon.Process.ProcessId}/status").Single(line => line.StartsWith("VmRSS:", StringComparison.Ordinal));
        long bytes = long.Parse(resident.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture) << 10;
        int threads = OwnThreads(daemon).Count;
        await daemon.StopAsync();
        return (bytes, threads);
    }

    private static List<string> OwnThreads(ManyDiskDaemon daemon) =>
    [
        .. Directory.EnumerateDirectories($"/proc/{daemon.Process.ProcessId}/task").Select(NameOf)
            .Where(name => name.StartsWith("vhost-", StringComparison.Ordinal) || name.StartsWith("queue-", StringComparison.Ordinal)
                || name.StartsWith("io-", StringComparison.Ordinal)),
    ];

    private static string NameOf(string task)
    {
        try
        {
            return File.ReadAllText($"{task}/comm").Trim();
        }
        catch (IOException)
        {
            // Gone meanwhile.
            return "";
        }
    }
}
