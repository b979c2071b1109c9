using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;

namespace VirtioBlkFlow.EndToEndTests.PowerCut;

/// <summary>The device in this process, behind a real socket: all that the daemon has but its command line, over a disk of the test's.</summary>
internal sealed class InProcessServer : IDiskServer, IDisposable
{
    private readonly IDisk _disk;
    private readonly BlkDevice _device;
    private readonly VhostUserServer _server;

    /// <param name="socketPath">Where to listen.</param>
    /// <param name="disk">Belongs to the server from now on.</param>
    /// <param name="cache">When writes are durable.</param>
    public InProcessServer(string socketPath, IDisk disk, CacheMode cache)
    {
        SocketPath = socketPath;
        _disk = disk;
        _device = new BlkDevice(disk, new BlkDeviceOptions { Cache = cache, QueueCount = 1 }, NullLogger.Instance);
        _server = VhostUserServer.OnListener(
            VhostUser.Server.ListeningSocket.Listen(socketPath), _device, VhostUserSessionOptions.Default, NullLogger.Instance);
        _server.Start();
    }

    public string SocketPath { get; }

    public string Log => "served by the test itself";

    public void Dispose()
    {
        _server.Dispose();
        _device.Dispose();
        _disk.Dispose();
    }
}
