using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class LogLimitTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("vhost-user-test-").FullName;

    [Fact]
    public void A_front_end_that_reconnects_in_a_loop_cannot_flood_the_log()
    {
        var path = Path.Combine(_directory, "blk.sock");
        var logger = new CountingLogger();
        using (var server = VhostUserServer.OnListener(ListeningSocket.Listen(path), new RecordingBackend(), VhostUserSessionOptions.Default, logger))
        {
            _ = server.Start();
            for (var i = 0; i < 500; i++)
            {
                using var frontend = RawFrontend.Connect(path);
                frontend.SendRaw(new byte[12]);
                frontend.ExpectClosed();
            }
        }

        // Three messages a session would make 1500. A period may end during the test, which lets as many through again.
        Assert.InRange(logger.Messages.Count, 100, 600);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private sealed class CountingLogger : ILogger
    {
        public ConcurrentQueue<string> Messages { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Messages.Enqueue(formatter(state, exception));
    }
}
