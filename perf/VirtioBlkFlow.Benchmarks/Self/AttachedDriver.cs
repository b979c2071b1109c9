using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Load;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>A driver in this process that has started one queue, and sleeps unless it is asked to read. Used by one thread.</summary>
internal sealed class AttachedDriver : IDisposable
{
    // The ring, its buffers, and room to spare; most of it is never touched.
    private const ulong MemoryBytes = 4 << 20;

    private const int QueueSize = 128;
    private const int BlockBytes = 4096;

    private readonly VhostUserFrontend _frontend;
    private readonly SharedMemory _memory;
    private readonly FrontendQueue _queue;
    private readonly BlkDriver _driver;
    private readonly ulong _blocks;

    /// <summary>Connects, negotiates, starts the queue, and reads a block, so that the queue has been served.</summary>
    /// <exception cref="CompareException">The read failed.</exception>
    public AttachedDriver(string socketPath)
    {
        _frontend = VhostUserFrontend.Connect(socketPath);
        _memory = SharedMemory.OfSize(MemoryBytes);
        Negotiation agreed = Negotiation.Run(_frontend, new NegotiationOptions());
        agreed.SendMemory(_frontend, _memory);
        _queue = new FrontendQueue(_memory, 0, QueueSize, agreed.RingFeatures);
        _driver = new BlkDriver(_memory, _queue, new BlkDriverOptions());
        _blocks = agreed.Config.Capacity * BlkRequest.SectorBytes / BlockBytes;
        agreed.StartQueues(_frontend, _queue);
        Read(1);
    }

    /// <summary>Reads blocks of 4 KiB at random places, one after the other.</summary>
    /// <exception cref="CompareException">One of them failed.</exception>
    public void Read(int count)
    {
        var random = new LoadRandom(1);
        Span<byte> block = stackalloc byte[BlockBytes];
        for (int i = 0; i < count; i++)
        {
            Check(_driver.Read(random.Below(_blocks) * (BlockBytes / BlkRequest.SectorBytes), block), "read");
        }
    }

    /// <summary>Reads blocks as <see cref="Read"/> does, and writes each other one back.</summary>
    /// <param name="count">Requests.</param>
    /// <exception cref="CompareException">One of them failed.</exception>
    public void ReadAndWrite(int count)
    {
        var random = new LoadRandom(1);
        Span<byte> block = stackalloc byte[BlockBytes];
        ulong sector = 0;
        for (int i = 0; i < count; i++)
        {
            bool writes = i % 2 == 1;
            sector = writes ? sector : random.Below(_blocks) * (BlockBytes / BlkRequest.SectorBytes);
            Check(writes ? _driver.Write(sector, block) : _driver.Read(sector, block), writes ? "write" : "read");
        }
    }

    /// <summary>Leaves.</summary>
    public void Dispose()
    {
        _frontend.Dispose();
        _queue.Dispose();
        _memory.Dispose();
    }

    private static void Check(BlkStatus status, string what)
    {
        if (status != BlkStatus.VIRTIO_BLK_S_OK)
        {
            throw new CompareException($"A {what} ended with {status}.");
        }
    }
}
