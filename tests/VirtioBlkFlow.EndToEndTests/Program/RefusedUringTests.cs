using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>In containers io_uring is often forbidden: then threads do the same, and the operator hears of it.</summary>
public class RefusedUringTests(LauncherFixture launcher) : IClassFixture<LauncherFixture>
{
    private const int EPERM = 1;
    private const int ENOSYS = 38;

    [Theory]
    [InlineData(EPERM, "not permitted")]
    [InlineData(ENOSYS, "not implemented")]
    public async Task Threads_serve_the_same_where_io_uring_is_refused_and_one_warning_says_so(int errno, string cause)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        ShadowDisk shadow = new(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningByAsync(
            folder, launcher.Launcher, Refusing(errno, "--socket-path", folder[Vblkflow.SocketName], "--blk-file", image.FilePath, "--io-engine", "auto"));

        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            session.VerifyRoundTrip(image, sector: 8);
            session.Drivers[0].WriteZeroes(new Virtio.Blk.BlkSegment { Sector = 8, SectorCount = 16 });
            new VerifiedTraffic(session.Drivers[0], shadow, 0, shadow.SectorCount, seed: 1).Run(1000);
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        shadow.AssertEqualTo(image);
        string warning = Assert.Single(daemon.Errors.Lines);
        string[] words = ["warn: ", "threads", "io_uring", cause, "seccomp"];
        Assert.All(words, word => Assert.Contains(word, warning, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(EPERM, "not permitted")]
    [InlineData(ENOSYS, "not implemented")]
    public async Task Who_insists_on_io_uring_gets_the_cause_and_the_remedy(int errno, string cause)
    {
        using TestFolder folder = new();

        ProgramEnd end = await Vblkflow.EndOfAsync(ChildProcess.Start(
            launcher.Launcher, Refusing(errno, "--blk-file", folder.CreateImage(16).FilePath, "--io-engine", "io_uring"), folder: folder.FullName));

        end.AssertRefusedWith(ProgramEnd.Failure, "io_uring", cause, "seccomp", "--io-engine threads");
    }

    [Fact]
    public async Task Who_asked_for_threads_hears_nothing()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningByAsync(
            folder, launcher.Launcher, Refusing(EPERM, "--socket-path", folder[Vblkflow.SocketName], "--blk-file", image.FilePath, "--io-engine", "threads"));

        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        Assert.Empty(daemon.Errors.Lines);
    }

    private static string[] Refusing(int errno, params string[] arguments) =>
        ["refuse", errno.ToString(CultureInfo.InvariantCulture), RepoPaths.Daemon, .. arguments];
}
