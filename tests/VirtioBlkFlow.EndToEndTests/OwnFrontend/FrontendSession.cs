using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>What a test wants of its front-end; the defaults do for most.</summary>
internal sealed record FrontendOptions
{
    public int QueueCount { get; init; } = 1;

    public int QueueSize { get; init; } = 128;

    public NegotiationOptions Negotiation { get; init; } = new();

    public BlkDriverOptions Driver { get; init; } = new() { QueueDepth = 32 };

    /// <summary>Where the back-end may send requests; null for nowhere. Stays the test's.</summary>
    public BackendChannel? Channel { get; init; }

    /// <summary>False: negotiated and with memory, but the queues are the test's to start.</summary>
    public bool StartQueues { get; init; } = true;
}

/// <summary>
/// A front-end that behaves: connected, negotiated, with memory, one driver for each queue. What a test then does to it is the test's
/// business. Each driver belongs to one thread at a time, the connection to one, too.
/// </summary>
internal sealed class FrontendSession : IDisposable
{
    private readonly List<FrontendQueue> _queues = [];
    private readonly List<BlkDriver> _drivers = [];

    private FrontendSession(VhostUserFrontend frontend, FrontendOptions options)
    {
        Frontend = frontend;
        Options = options;
        // Rings, indirect tables and 32 buffers of 64 KiB, per queue, with room for what tests place beside them.
        Memory = SharedMemory.OfSize(((ulong)options.QueueCount + 2) << 22);
    }

    public VhostUserFrontend Frontend { get; }

    public FrontendOptions Options { get; }

    public SharedMemory Memory { get; }

    public Negotiation Negotiation { get; private set; } = null!;

    public IReadOnlyList<FrontendQueue> Queues => _queues;

    public IReadOnlyList<BlkDriver> Drivers => _drivers;

    public static FrontendSession Open(string socketPath, FrontendOptions? options = null) =>
        Open(VhostUserFrontend.Connect(socketPath), options);

    public static FrontendSession Open(VhostUserFrontend frontend, FrontendOptions? options = null)
    {
        FrontendSession session = new(frontend, options ?? new FrontendOptions());
        try
        {
            session.Negotiation = Negotiation.Run(frontend, session.Options.Negotiation, session.Options.Channel);
            session.Negotiation.SendMemory(frontend, session.Memory);
            session.PlaceQueues();
            if (session.Options.StartQueues)
            {
                session.Negotiation.StartQueues(frontend, [.. session.Queues]);
            }

            return session;
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    /// <summary>New rings and drivers, as a guest makes after a reset; the old ones are forgotten.</summary>
    public void PlaceQueues()
    {
        _queues.ForEach(queue => queue.Dispose());
        _queues.Clear();
        _drivers.Clear();
        for (int i = 0; i < Options.QueueCount; i++)
        {
            PlaceQueue(i, Options.QueueSize, Options.Driver);
        }
    }

    public (FrontendQueue Queue, BlkDriver Driver) PlaceQueue(int index, int queueSize, BlkDriverOptions driverOptions)
    {
        FrontendQueue queue = new(Memory, index, queueSize, Negotiation.RingFeatures, indirectEntries: driverOptions.UseIndirect ? 8 : 0);
        BlkDriver driver = new(Memory, queue, driverOptions);
        _queues.Add(queue);
        _drivers.Add(driver);
        return (queue, driver);
    }

    /// <summary>Writes, flushes and reads back on one queue, and looks into the file on the host.</summary>
    public void VerifyRoundTrip(DiskImage image, ulong sector, int queue = 0)
    {
        byte[] written = new byte[8192];
        Random.Shared.NextBytes(written);
        BlkDriver driver = Drivers[queue];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Write(sector, written));
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Flush());
        byte[] read = new byte[written.Length];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read(sector, read));
        Assert.Equal(written, read);
        Assert.Equal(written, image.Read((long)sector * BlkRequest.SectorBytes, written.Length));
    }

    public void Dispose()
    {
        Frontend.Dispose();
        _queues.ForEach(queue => queue.Dispose());
        Memory.Dispose();
    }
}
