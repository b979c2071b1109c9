using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>dotnet publish makes one file that needs no .NET where it runs.</summary>
public class PublishedProgramTests(PublishedProgramFixture published) : IClassFixture<PublishedProgramFixture>
{
    [Fact]
    public void One_file_is_all_there_is_to_install()
    {
        IEnumerable<string> files = Directory.EnumerateFiles(published.PublishFolder, "*", SearchOption.AllDirectories);
        Assert.Equal("vblkflow", Path.GetFileName(Assert.Single(files)));
    }

    [Fact]
    public async Task It_serves_a_disk_where_there_is_no_dotnet()
    {
        using TestFolder folder = new();
        string[] listing = [.. Directory.EnumerateFiles(published.Root, "*", SearchOption.AllDirectories).Select(Path.GetFileName)!];
        Assert.All(listing, name => Assert.DoesNotMatch("dotnet|hostfxr|coreclr", name!));
        // The image and the socket are made inside of the root directory, under /tmp.
        string inside = Path.Combine(published.Root, "tmp");
        DiskImage image = new(Path.Combine(inside, "disk.img"));
        await using (FileStream file = new(image.FilePath, FileMode.Create))
        {
            file.SetLength(16 << 20);
        }

        string socket = Path.Combine(inside, Vblkflow.SocketName);
        // In a user namespace, so that it works for everybody; with nothing in the environment but a path that leads nowhere inside.
        // Of the world outside there is only /proc, which the runtime asks how much memory there is.
        const string Enter = "mount --rbind /proc \"$0/proc\" && exec chroot \"$0\" \"$@\"";
        await using ChildProcess daemon = ChildProcess.Start(
            "env",
            [
                "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "unshare", "--map-root-user", "--mount", "sh", "-c", Enter, published.Root,
                "/vblkflow", "--socket-path", "/tmp/vblkflow.sock", "--blk-file", "/tmp/disk.img", "--log-level", "information",
            ]);
        await daemon.Errors.WaitForAsync(line => line.Contains("Listening on /tmp/vblkflow.sock", StringComparison.Ordinal), Vblkflow.EndDeadline);

        using (FrontendSession session = FrontendSession.Open(socket))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(daemon, socket);
    }
}
