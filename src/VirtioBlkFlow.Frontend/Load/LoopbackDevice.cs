using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>
/// A device in the same process and on the same thread that answers every request at once and moves no data: what is left is what the
/// generator costs. It may keep a disk in memory, for tests of the generator. Owned by the queue's thread.
/// </summary>
internal sealed unsafe class LoopbackDevice : IDisposable
{
    private readonly Virtqueue _virtqueue;
    private readonly byte[]? _disk;

    /// <summary>Takes up a ring that nobody has used.</summary>
    /// <param name="memory">Guest memory.</param>
    /// <param name="queue">The queue.</param>
    /// <param name="features">What is negotiated.</param>
    /// <param name="disk">What reads and writes move; null to move nothing.</param>
    public LoopbackDevice(SharedMemory memory, FrontendQueue queue, VirtioFeatures features, byte[]? disk)
    {
        nint Host(ulong address) => (nint)memory.Host(address, 1);
        _disk = disk;
        _virtqueue = Virtqueue.Create(new VirtqueueSetup
        {
            QueueSize = queue.Ring.QueueSize,
            Addresses = new RingAddresses(Host(queue.Ring.DescriptorAreaAddress), Host(queue.Ring.DriverAreaAddress), Host(queue.Ring.DeviceAreaAddress)),
            Memory = memory.ToGuestMemory(),
            Features = features,
            Position = new RingPosition((ushort)queue.Ring.Base, (ushort)(queue.Ring.Base >> 16)),
        });
        _virtqueue.SuppressKicks();
    }

    /// <summary>Answers all that is available.</summary>
    /// <exception cref="LoadException">The generator broke its own ring.</exception>
    public void Serve()
    {
        PopOutcome outcome;
        while ((outcome = _virtqueue.TryPop(out DescriptorChain chain)) == PopOutcome.Popped)
        {
            if (!BlkRequest.TryParse(in chain, out BlkRequest request, out BlkParseError error))
            {
                throw new LoadException($"The generator made a request nobody can parse: {error}.");
            }

            if (_disk is not null)
            {
                Move(in request);
            }

            uint written = request.Reply.Finish(BlkStatus.VIRTIO_BLK_S_OK, request.DataInBytes);
            _virtqueue.AddUsed(chain.Slot, written, request.DataInBytes);
        }

        if (outcome == PopOutcome.Broken)
        {
            throw new LoadException($"The generator broke its own ring: {_virtqueue.Defect}.");
        }

        _virtqueue.PublishUsed();
    }

    /// <inheritdoc/>
    public void Dispose() => _virtqueue.Dispose();

    private void Move(in BlkRequest request)
    {
        int place = (int)request.Sector * BlkRequest.SectorBytes;
        for (int i = 0; i < request.DataInCount; i++)
        {
            var piece = new Span<byte>(request.DataIn[i].Base, (int)request.DataIn[i].LengthBytes);
            _disk.AsSpan(place, piece.Length).CopyTo(piece);
            place += piece.Length;
        }

        for (int i = 0; i < request.DataOutCount; i++)
        {
            var piece = new Span<byte>(request.DataOut[i].Base, (int)request.DataOut[i].LengthBytes);
            piece.CopyTo(_disk.AsSpan(place));
            place += piece.Length;
        }
    }
}
