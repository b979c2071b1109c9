using VirtioBlkFlow.Disks;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>What goes wrong, and when: at one of the requests that it can be done with. Shared by the queues' threads and the session's.</summary>
internal sealed unsafe class SabotagePlan(Sabotage kind, ulong capacityBytes)
{
    // Honest requests before, so that it happens in the middle of a round. Arbitrary.
    private const int HonestRequests = 20;

    // So long nothing has come back: the others have. Arbitrary.
    private const int QuietMs = 50;

    private int _suitable;
    private QueueRings _rings;

    public Sabotage Kind => kind;

    public ulong CapacityBytes => capacityBytes;

    /// <summary>Whether the queue that starts is the hostile one. What is seen in a ring or in memory, is seen there.</summary>
    public bool IsHostileQueueStarting { get; private set; }

    /// <summary>A queue starts, and is about to open the disk.</summary>
    public void Starting(QueueRings rings)
    {
        IsHostileQueueStarting = rings.QueueIndex == 0;
        if (IsHostileQueueStarting)
        {
            _rings = rings;
        }
    }

    /// <summary>Whether now is the time.</summary>
    /// <param name="request">The next one.</param>
    /// <param name="isHostile">Whether it is of the hostile queue.</param>
    public bool IsDue(in DiskRequest request, bool isHostile)
    {
        bool suits = kind switch
        {
            Sabotage.ByteBesideBuffer => isHostile && request.Operation == DiskOperation.Read && request.LengthBytes > 0,
            Sabotage.NoData => request.Operation == DiskOperation.Read && request.LengthBytes > 0,
            Sabotage.SectorBeside => request.Operation == DiskOperation.Write && request.LengthBytes > 0,
            Sabotage.HeadTwice => isHostile && _rings.Size > 1,
            Sabotage.LongerImage or Sabotage.WrongStatus or Sabotage.LostRequest or Sabotage.Crash => true,
            _ => false,
        };
        int nth = suits ? Interlocked.Increment(ref _suitable) : 0;
        // A head once only: the device's own index overtakes ours.
        return kind == Sabotage.HeadTwice ? nth == HonestRequests : nth >= HonestRequests;
    }

    /// <summary>
    /// Puts a head into the used ring that is not in flight, as soon as all others have come back. Its queue waits for the one that was kept.
    /// </summary>
    /// <param name="kept">The head that stays in flight.</param>
    public void ReturnAnother(int kept)
    {
        QueueRings rings = _rings;
        new Thread(() => ReturnAnother(rings, kept)) { IsBackground = true }.Start();
    }

    private static void ReturnAnother(QueueRings rings, int kept)
    {
        byte* used = (byte*)rings.UsedRing;
        ushort* index = (ushort*)(used + SplitRingLayout.IndexOffset);
        ushort seen;
        do
        {
            seen = Volatile.Read(ref *index);
        }
        while (SpinWait.SpinUntil(() => Volatile.Read(ref *index) != seen, QuietMs));
        *(ulong*)(used + SplitRingLayout.RingOffset + (SplitRingLayout.UsedElementBytes * (seen % rings.Size))) = (ulong)((kept + 1) % rings.Size);
        Volatile.Write(ref *index, (ushort)(seen + 1));
    }
}
