using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>A disk that is honest for a while. The moment it is not lies in <see cref="SabotagePlan"/>, shared by all of its queues.</summary>
internal sealed class SabotagedDisk(IDisk disk, SabotagePlan plan, string imagePath) : IDisk
{
    public DiskProperties Properties => disk.Properties;

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(disk.OpenQueue(engine, completions, slotCount), completions, plan, plan.IsHostileQueueStarting, imagePath);

    public DiskOutcome Flush() => disk.Flush();

    public void Dispose() => disk.Dispose();

    private sealed unsafe class Queue(IDiskQueue queue, IDiskCompletions completions, SabotagePlan plan, bool isHostile, string imagePath) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            if (!plan.IsDue(in request, isHostile))
            {
                queue.Submit(slot, in request);
                return;
            }

            switch (plan.Kind)
            {
                case Sabotage.HeadTwice:
                    plan.ReturnAnother(slot);
                    break;
                case Sabotage.ByteBesideBuffer:
                    Virtio.Iovec piece = request.Pieces[request.PieceCount - 1];
                    piece.Base[piece.LengthBytes] ^= 0x55;
                    queue.Submit(slot, in request);
                    break;
                case Sabotage.SectorBeside:
                    Damage((long)(request.OffsetBytes + request.LengthBytes));
                    queue.Submit(slot, in request);
                    break;
                case Sabotage.LongerImage:
                    Damage((long)plan.CapacityBytes);
                    queue.Submit(slot, in request);
                    break;
                case Sabotage.NoData:
                    completions.OnCompleted(slot, DiskOutcome.Done);
                    break;
                case Sabotage.WrongStatus:
                    completions.OnCompleted(slot, DiskOutcome.Failed);
                    break;
                case Sabotage.LostRequest:
                    break;
                default:
                    Environment.FailFast("This disk was told to crash.");
                    break;
            }
        }

        public void OnIoCompleted(int slot, int result) => queue.OnIoCompleted(slot, result);

        public void Dispose() => queue.Dispose();

        private void Damage(long offset)
        {
            using SafeFileHandle image = File.OpenHandle(imagePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
            byte[] damage = new byte[BlkRequest.SectorBytes];
            damage.AsSpan().Fill(0x5a);
            RandomAccess.Write(image, damage, offset);
        }
    }
}
