using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>Options and signals that are about what the disk offers: features, zones, another size.</summary>
public class DiskOptionTests
{
    private const int SIGHUP = 1;

    [Theory]
    [InlineData("--feature version-1=off", "version-1")]
    [InlineData("--feature zoned=on", "--zoned")]
    [InlineData("--feature secure-erase=on", "block devices")]
    [InlineData("--feature lifetime=on", "eMMC")]
    [InlineData("--feature flush=off --feature config-wce=on", "flush")]
    [InlineData("--read-only --feature discard=on", "--read-only")]
    [InlineData("--zoned zone-size=1000", "zone-size")]
    public async Task What_the_disk_cannot_offer_is_refused_at_the_start(string options, string word)
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);

        ProgramEnd end = await Vblkflow.RunAsync(folder, ["--blk-file", image.FilePath, .. options.Split(' ')]);

        end.AssertRefusedWith(ProgramEnd.Failure, word);
    }

    [Fact]
    public async Task SIGHUP_serves_the_image_in_its_new_size_and_says_so()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", image.FilePath);
        using FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]);
        session.VerifyRoundTrip(image, sector: 8);
        using (FileStream file = File.OpenWrite(image.FilePath))
        {
            file.SetLength((24 << 20) + 100);
        }

        daemon.Signal(SIGHUP);

        Assert.True(
            SpinWait.SpinUntil(() => daemon.Errors.Lines.Any(line => line.Contains("Resized from 16777216 to 25165824", StringComparison.Ordinal)), Vblkflow.EndDeadline),
            daemon.Errors.ToString());
        Assert.Contains(daemon.Errors.Lines, line => line.Contains("100 bytes", StringComparison.Ordinal));
        session.VerifyRoundTrip(image, sector: 20 << 11);
    }

    [Fact]
    public async Task Zones_are_as_they_were_after_the_daemon_was_killed()
    {
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        string[] options = ["--blk-file", image.FilePath, "--zoned", "zone-size=1M,conventional=1,max-open=2"];
        await using (ChildProcess first = await Vblkflow.StartListeningAsync(folder, options))
        {
            await first.KillAsync();
            File.Delete(folder[Vblkflow.SocketName]);
        }

        Assert.True(File.Exists(image.FilePath + ".zones"));
        await using ChildProcess second = await Vblkflow.StartListeningAsync(folder, options);
        Assert.DoesNotContain(second.Errors.Lines, line => line.Contains("damaged", StringComparison.Ordinal));
    }
}
