using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class ServerTests : IDisposable
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromMilliseconds(RawFrontend.DeadlineMs);
    private readonly string _directory = Directory.CreateTempSubdirectory("vhost-user-test-").FullName;
    private readonly RecordingBackend _backend = new();

    private string SocketPath => Path.Combine(_directory, "blk.sock");

    [Fact]
    public void The_socket_is_for_its_owner_only_whatever_the_umask()
    {
        using var listener = ListeningSocket.Listen(SocketPath);
        Assert.Equal(0x180, ModeOf(SocketPath)); // 0600
        using var other = ListeningSocket.Listen(SocketPath + "2", 0x1b6); // 0666
        Assert.Equal(0x1b6, ModeOf(SocketPath + "2"));
    }

    [Fact]
    public void A_socket_that_lives_is_refused_and_stays()
    {
        using var listener = ListeningSocket.Listen(SocketPath);
        var exception = Assert.Throws<SocketUnavailableException>(() => ListeningSocket.Listen(SocketPath));
        Assert.Equal(SocketUnavailableReason.InUse, exception.Reason);
        Assert.Contains(SocketPath, exception.Message, StringComparison.Ordinal);
        Assert.True(File.Exists(SocketPath));
    }

    [Fact]
    public void A_socket_left_behind_is_replaced()
    {
        LeaveStaleSocket();
        Assert.True(File.Exists(SocketPath));
        using var listener = ListeningSocket.Listen(SocketPath);
        using var frontend = RawFrontend.Connect(SocketPath);
    }

    [Fact]
    public void A_file_that_is_no_socket_is_refused_and_stays()
    {
        File.WriteAllText(SocketPath, "mine");
        var exception = Assert.Throws<SocketUnavailableException>(() => ListeningSocket.Listen(SocketPath));
        Assert.Equal(SocketUnavailableReason.NotASocket, exception.Reason);
        Assert.Equal("mine", File.ReadAllText(SocketPath));
    }

    [Fact]
    public void A_link_to_a_socket_is_not_followed()
    {
        File.CreateSymbolicLink(SocketPath, "/nowhere");
        Assert.Equal(SocketUnavailableReason.NotASocket, Assert.Throws<SocketUnavailableException>(() => ListeningSocket.Listen(SocketPath)).Reason);
    }

    [Fact]
    public void A_path_of_107_bytes_is_taken_and_one_of_108_refused()
    {
        var path = Path.Combine(_directory, new string('x', 106 - _directory.Length));
        Assert.Equal(107, path.Length);
        using (ListeningSocket.Listen(path))
        {
            Assert.True(File.Exists(path));
        }

        Assert.Equal(SocketUnavailableReason.PathTooLong, Assert.Throws<SocketUnavailableException>(() => ListeningSocket.Listen(path + "x")).Reason);
    }

    [Fact]
    public void A_directory_that_does_not_exist_is_named_in_the_error()
    {
        var exception = Assert.Throws<SocketUnavailableException>(() => ListeningSocket.Listen(Path.Combine(_directory, "no", "blk.sock")));
        Assert.Contains("ENOENT", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_file_is_removed_at_the_end_unless_somebody_else_has_taken_the_path()
    {
        ListeningSocket.Listen(SocketPath).Dispose();
        Assert.False(File.Exists(SocketPath));

        var first = ListeningSocket.Listen(SocketPath);
        File.Delete(SocketPath);
        using var second = ListeningSocket.Listen(SocketPath);
        first.Dispose();
        Assert.True(File.Exists(SocketPath));
    }

    [Fact]
    public async Task Serves_one_front_end_after_another()
    {
        using var server = Listen();
        var ended = server.Start();
        for (var i = 0; i < 3; i++)
        {
            using var frontend = RawFrontend.Connect(SocketPath);
            Assert.Equal(4UL, frontend.AskU64(FrontendRequest.GET_QUEUE_NUM));
        }

        server.Stop();
        Assert.Equal(ServerOutcome.Stopped, await ended.WaitAsync(s_deadline));
        Assert.Equal(3, _backend.Calls.Count(call => call == "Detached"));
        Assert.False(File.Exists(SocketPath));
    }

    [Fact]
    public void A_front_end_that_breaks_the_protocol_does_not_end_the_server()
    {
        using var server = Listen();
        _ = server.Start();
        using (var bad = RawFrontend.Connect(SocketPath))
        {
            bad.SendRaw(new byte[64]);
            bad.ExpectClosed();
        }

        using var good = RawFrontend.Connect(SocketPath);
        Assert.Equal(4UL, good.AskU64(FrontendRequest.GET_QUEUE_NUM));
    }

    [Fact]
    public void A_front_end_that_is_killed_makes_room_for_the_next()
    {
        // What a kill leaves behind: a queue that runs, a reply nobody has read (the socket says ECONNRESET then), half a message.
        using var ram = new TestFiles(0x4000);
        using var server = Listen();
        _ = server.Start();
        using (var killed = RawFrontend.Connect(SocketPath))
        {
            RunQueue(killed, ram);
            killed.Send(FrontendRequest.GET_FEATURES);
            killed.SendRaw([1, 0, 0, 0, 1]);
        }

        using var next = RawFrontend.Connect(SocketPath);
        Assert.Equal(4UL, next.AskU64(FrontendRequest.GET_QUEUE_NUM));
        Assert.Equal(["Stop 0", "Detached", "Attached"], _backend.Calls[^3..]);
    }

    [Fact]
    public async Task Stopping_drains_the_queues_of_the_front_end_that_is_served()
    {
        using var ram = new TestFiles(0x4000);
        using var server = Listen();
        using var cancellation = new CancellationTokenSource();
        var ended = server.Start(cancellation.Token);
        using var frontend = RawFrontend.Connect(SocketPath);
        RunQueue(frontend, ram);

        await cancellation.CancelAsync();
        Assert.Equal(ServerOutcome.Stopped, await ended.WaitAsync(s_deadline));
        Assert.Equal(["Stop 0", "Detached"], _backend.Calls[^2..]);
        frontend.ExpectClosed();
    }

    [Fact]
    public async Task Stops_although_the_front_end_does_not_read_its_replies()
    {
        using var server = Listen();
        var ended = server.Start();
        using var frontend = RawFrontend.Connect(SocketPath);

        // Both directions fill up: the session waits for room to reply, the sender for room to ask. The stop frees both.
        var sender = new Thread(() =>
        {
            for (var i = 0; i < 20_000; i++)
            {
                frontend.Send(FrontendRequest.GET_FEATURES);
            }
        });
        sender.Start();
        Assert.True(frontend.WaitForSomethingToRead());
        server.Stop();
        Assert.Equal(ServerOutcome.Stopped, await ended.WaitAsync(s_deadline));
        Assert.True(sender.Join(RawFrontend.DeadlineMs));
    }

    [Fact]
    public async Task Serves_an_inherited_connection_and_ends_with_it()
    {
        var (ours, theirs) = RawFrontend.NewPair();
        Assert.False(ListeningSocket.IsListening(theirs));
        using var server = VhostUserServer.OnDescriptor(theirs, _backend, VhostUserSessionOptions.Default, NullLogger.Instance);
        var ended = server.Start();
        using (var frontend = new RawFrontend(ours))
        {
            Assert.Equal(4UL, frontend.AskU64(FrontendRequest.GET_QUEUE_NUM));
        }

        Assert.Equal(ServerOutcome.FrontendLeft, await ended.WaitAsync(s_deadline));
    }

    [Fact]
    public void Serves_an_inherited_listening_socket_and_leaves_its_file()
    {
        var number = Syscall.socket(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0);
        Assert.Equal(0, Syscall.bind(number, new SockaddrUn(SocketPath)));
        Assert.Equal(0, Syscall.listen(number, 1));
        var socket = new SafeFileHandle(number, ownsHandle: true);
        Assert.True(ListeningSocket.IsListening(socket));
        using (var server = VhostUserServer.OnDescriptor(socket, _backend, VhostUserSessionOptions.Default, NullLogger.Instance))
        {
            _ = server.Start();
            using var frontend = RawFrontend.Connect(SocketPath);
            Assert.Equal(4UL, frontend.AskU64(FrontendRequest.GET_QUEUE_NUM));
        }

        Assert.True(File.Exists(SocketPath));
    }

    [Fact]
    public void A_descriptor_that_is_no_socket_is_refused()
    {
        using var file = new TestFiles(0);
        Assert.Contains("ENOTSOCK", Assert.Throws<IOException>(() => ListeningSocket.IsListening(file.Handle)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stops_before_and_while_it_waits_for_a_front_end()
    {
        using (var server = Listen())
        {
            server.Stop();
            Assert.Equal(ServerOutcome.Stopped, await server.Start().WaitAsync(s_deadline));
        }

        using (var server = Listen())
        {
            var ended = server.Start();
            Assert.Throws<InvalidOperationException>(() => { _ = server.Start(); });
            server.Dispose();
            Assert.True(ended.IsCompletedSuccessfully);
            server.Stop();
        }
    }

    [Fact]
    public async Task A_device_that_throws_where_it_must_not_fails_the_task()
    {
        _backend.AcceptsFeatures = _ => throw new InvalidDataException("a bug");
        using var server = Listen();
        var ended = server.Start();
        using var frontend = RawFrontend.Connect(SocketPath);
        frontend.Send(FrontendRequest.SET_FEATURES, 0UL);
        await Assert.ThrowsAsync<InvalidDataException>(() => ended.WaitAsync(s_deadline));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private VhostUserServer Listen() =>
        VhostUserServer.OnListener(ListeningSocket.Listen(SocketPath), _backend, VhostUserSessionOptions.Default, NullLogger.Instance);

    private static void RunQueue(RawFrontend frontend, TestFiles ram)
    {
        frontend.Negotiate();
        frontend.Send(FrontendRequest.ADD_MEM_REG, new SingleMemoryRegion(0, new MemoryRegion(0, 0x4000, 0x4000, 0)), ram.Handle);
        frontend.StartVring(0, TestFiles.VringAt(0, 0x4000));
    }

    private static int ModeOf(string path)
    {
        Assert.Equal(0, Syscall.lstat(path, out var status));
        return (int)status.st_mode & 0x1ff;
    }

    private void LeaveStaleSocket()
    {
        var number = Syscall.socket(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0);
        Assert.Equal(0, Syscall.bind(number, new SockaddrUn(SocketPath)));
        Assert.Equal(0, Syscall.listen(number, 1));
        Assert.Equal(0, Syscall.close(number));
    }
}
