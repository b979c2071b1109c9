using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class SharedAcceptorTests : IDisposable
{
    private const int ServerCount = 8;
    private static readonly TimeSpan s_deadline = TimeSpan.FromMilliseconds(RawFrontend.DeadlineMs);
    private readonly string _directory = Directory.CreateTempSubdirectory("vhost-user-test-").FullName;
    private readonly SharedAcceptor _acceptor = new();
    private readonly List<VhostUserServer> _servers = [];
    private readonly List<Task<ServerOutcome>> _served = [];

    public SharedAcceptorTests()
    {
        for (int i = 0; i < ServerCount; i++)
        {
            _servers.Add(VhostUserServer.OnListener(
                ListeningSocket.Listen(PathOf(i)), new RecordingBackend(), VhostUserSessionOptions.Default, NullLogger.Instance));
            _served.Add(_servers[i].Start(_acceptor));
        }
    }

    [Fact]
    public void Each_server_serves_one_front_end_after_another_and_all_at_the_same_time()
    {
        for (int round = 0; round < 3; round++)
        {
            List<RawFrontend> frontends = [.. Enumerable.Range(0, ServerCount).Select(i => RawFrontend.Connect(PathOf(i)))];
            frontends.ForEach(frontend => frontend.Barrier());
            frontends.ForEach(frontend => frontend.Dispose());
        }
    }

    [Fact]
    public async Task A_server_that_stops_leaves_the_others_alone()
    {
        using RawFrontend busy = RawFrontend.Connect(PathOf(1));
        busy.Barrier();

        _servers[0].Stop();
        _servers[1].Stop();

        Assert.Equal(ServerOutcome.Stopped, await _served[0].WaitAsync(s_deadline));
        Assert.Equal(ServerOutcome.Stopped, await _served[1].WaitAsync(s_deadline));
        Assert.False(File.Exists(PathOf(0)) || File.Exists(PathOf(1)));
        using RawFrontend other = RawFrontend.Connect(PathOf(2));
        other.Barrier();
    }

    [Fact]
    public void A_front_end_that_breaks_the_protocol_is_followed_by_the_next()
    {
        using (RawFrontend broken = RawFrontend.Connect(PathOf(0)))
        {
            broken.SendRaw(new byte[12]);
            broken.ExpectClosed();
        }

        using RawFrontend next = RawFrontend.Connect(PathOf(0));
        next.Barrier();
        Assert.False(_served[0].IsCompleted);
    }

    [Fact]
    public async Task Stopping_while_front_ends_connect_ends_every_time()
    {
        for (int i = 0; i < ServerCount; i++)
        {
            using RawFrontend frontend = RawFrontend.Connect(PathOf(i));
            _servers[i].Stop();
            Assert.Equal(ServerOutcome.Stopped, await _served[i].WaitAsync(s_deadline));
            _servers[i].Dispose();
        }
    }

    [Fact]
    public void A_server_starts_once() => Assert.Throws<InvalidOperationException>(() =>
    {
        _ = _servers[0].Start(_acceptor);
    });

    public void Dispose()
    {
        _servers.ForEach(server => server.Dispose());
        Assert.All(_served, served => Assert.True(served.IsCompletedSuccessfully));
        _acceptor.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    private string PathOf(int server) => Path.Combine(_directory, $"{server}.sock");
}
