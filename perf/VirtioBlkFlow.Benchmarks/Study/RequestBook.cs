using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// The requests in flight of a queue, by slot: what the variants of stock blocks keep between their stages. A slot belongs to the stage that
/// holds its message, on whatever thread that runs; handing the message on orders one stage's writes before the next one's reads.
/// </summary>
internal sealed class RequestBook(int slotCount, BlkLimits limits)
{
    // Requests that are returned to the ring by one call, as in the pipeline.
    private const int UsedAtOnce = 64;

    private readonly Entry[] _entries = new Entry[slotCount];

    /// <summary>Decodes and checks the request of a chain, and enters it.</summary>
    public void Parse(in DescriptorChain chain)
    {
        ref Entry entry = ref _entries[chain.Slot];
        bool isWhole = BlkRequest.TryParse(in chain, out BlkRequest request, out _);
        entry.Reply = request.Reply;
        entry.Status = BlkStatus.VIRTIO_BLK_S_IOERR;
        entry.DataInWritten = 0;
        if (isWhole)
        {
            entry.Status = RequestPlan.Of(in request, limits, out entry.Io);
        }

        entry.NeedsDisk = entry.Status == BlkStatus.VIRTIO_BLK_S_OK;
    }

    /// <summary>Whether the disk is to be asked; if not, the answer is known.</summary>
    public bool NeedsDisk(int slot) => _entries[slot].NeedsDisk;

    /// <summary>What to ask.</summary>
    public ref readonly DiskRequest IoOf(int slot) => ref _entries[slot].Io;

    /// <summary>The disk is done.</summary>
    public void End(int slot, DiskOutcome outcome)
    {
        ref Entry entry = ref _entries[slot];
        if (outcome != DiskOutcome.Done)
        {
            entry.Status = BlkStatus.VIRTIO_BLK_S_IOERR;
        }
        else if (entry.Io.Operation == DiskOperation.Read)
        {
            entry.DataInWritten = entry.Io.LengthBytes;
        }
    }

    /// <summary>Answers requests and returns them to the ring; the driver sees them with the next publish.</summary>
    public void Return(Virtqueue virtqueue, ReadOnlySpan<ushort> slots)
    {
        Span<ReturnedChain> used = stackalloc ReturnedChain[UsedAtOnce];
        while (slots.Length > 0)
        {
            int count = Math.Min(slots.Length, UsedAtOnce);
            for (int i = 0; i < count; i++)
            {
                ref Entry entry = ref _entries[slots[i]];
                used[i] = new ReturnedChain(slots[i], entry.Reply.Finish(entry.Status, entry.DataInWritten), entry.DataInWritten);
            }

            virtqueue.AddUsed(used[..count]);
            slots = slots[count..];
        }
    }

    private struct Entry
    {
        public BlkReply Reply;
        public DiskRequest Io;
        public uint DataInWritten;
        public BlkStatus Status;
        public bool NeedsDisk;
    }
}
