using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>What it says, and when: nothing unless something is wrong or it was asked to.</summary>
public class LogTests
{
    [Theory]
    [InlineData("--log-level", "none")]
    [InlineData("--log-level", "warning")]
    [InlineData()]
    public async Task Nothing_is_said_as_long_as_nothing_is_wrong(params string[] options)
    {
        using TestFolder folder = new();

        ChildProcess daemon = await ServeOneFrontendAsync(folder, options);

        Assert.Empty(daemon.Output.Lines);
        Assert.Empty(daemon.Errors.Lines);
    }

    [Fact]
    public async Task Information_tells_the_story_in_dated_lines_on_stderr()
    {
        using TestFolder folder = new();

        ChildProcess daemon = await ServeOneFrontendAsync(folder, "--log-level", "information");

        Assert.Empty(daemon.Output.Lines);
        Assert.All(
            daemon.Errors.Lines, line => Assert.Matches(@"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (info|warn): (vblkflow|vhost-user)\[\d+\] \S.*\S$", line));
        string[] story =
        [
            $"Listening on {folder[Vblkflow.SocketName]}", $"Serving '{folder["disk.img"]}', 16777216 bytes", "A front-end has connected",
            "The front-end has left",
        ];
        int[] places = [.. story.Select(part => daemon.Errors.Lines.ToList().FindIndex(line => line.Contains(part, StringComparison.Ordinal)))];
        Assert.DoesNotContain(-1, places);
        Assert.True(places[0] < places[2] && places[1] < places[3] && places[2] < places[3], daemon.Errors.ToString());
    }

    [Fact]
    public async Task A_refused_request_is_a_warning_that_names_it()
    {
        using TestFolder folder = new();
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, "--blk-file", folder.CreateImage(16).FilePath);
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            Assert.NotEqual(0ul, session.Frontend.SetVringNum(0, 3, needReply: true));
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        string line = Assert.Single(daemon.Errors.Lines);
        Assert.Contains("warn: ", line, StringComparison.Ordinal);
        Assert.Contains("SET_VRING_NUM", line, StringComparison.Ordinal);
    }

    private static async Task<ChildProcess> ServeOneFrontendAsync(TestFolder folder, params string[] options)
    {
        DiskImage image = folder.CreateImage(16);
        await using ChildProcess daemon = await Vblkflow.StartListeningAsync(folder, ["--blk-file", image.FilePath, .. options]);
        using (FrontendSession session = FrontendSession.Open(folder[Vblkflow.SocketName]))
        {
            session.VerifyRoundTrip(image, sector: 8);
        }

        await Vblkflow.EndBySignalAsync(daemon, folder[Vblkflow.SocketName]);
        return daemon;
    }
}
