using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Disks.Refresh;

/// <summary>
/// What the guest's queues and the refresh have to know of one another: whether the guest is at work, and which range is being rewritten.
/// </summary>
/// <remarks>
/// A range is written again with what was read there, so no write of a guest may come in between. The refresh sets a claim and then looks
/// whether any request is under way; a queue counts its request and then looks for a claim. One of the two sees the other, if neither's
/// second step comes before its first. For the queue that would take a fence with each request; instead the refresh, which has time, makes
/// all processors have one (membarrier(2)), so that the queue's two steps are plain memory accesses.
/// </remarks>
internal sealed class GuestTraffic
{
    // Shared, under its own lock.
    private readonly List<RefreshQueue> _counted = [];
    private readonly OpenQueues _queues = new();

    // Set by the thread of the refresh, read by every queue.
    private volatile RewriteClaim? _claim;

    // Shared: whether a queue holds requests because of a claim.
    private int _isAnyHeld;

    /// <summary>The range that is being rewritten; null for none.</summary>
    public RewriteClaim? Claim => _claim;

    /// <summary>Asked for by a queue that drains while it holds requests: the rewrite should end soon. On that queue's thread.</summary>
    public Action? Hurry { get; set; }

    /// <summary>A queue opens; on its thread.</summary>
    public void Add(RefreshQueue queue, EngineAgenda agenda, Action onReleased)
    {
        _queues.Add(agenda, onReleased);
        lock (_counted)
        {
            _counted.Add(queue);
        }
    }

    /// <summary>A queue ends; on its thread.</summary>
    public void Remove(RefreshQueue queue, Action onReleased)
    {
        _queues.Remove(onReleased);
        lock (_counted)
        {
            _counted.Remove(queue);
        }
    }

    /// <summary>Looks at all queues. From any thread.</summary>
    /// <returns>A number that changes with each request, and whether none is under way.</returns>
    public (ulong Begun, bool IsIdle) Look()
    {
        ulong sum = 0;
        bool isIdle = true;
        lock (_counted)
        {
            foreach (RefreshQueue queue in _counted)
            {
                // In this order: if as many have begun as had ended before, none was under way at the second look.
                ulong ended = queue.EndedCount;
                ulong begun = queue.BegunCount;
                sum += begun;
                isIdle &= begun == ended;
            }
        }

        return (sum, isIdle);
    }

    /// <summary>
    /// Makes a range the refresh's own, if no request is under way. From then on requests that would change it are held. On the thread of
    /// the refresh.
    /// </summary>
    public bool TryClaim(ulong startBytes, ulong lengthBytes)
    {
        if (!Look().IsIdle)
        {
            return false;
        }

        _claim = new RewriteClaim(startBytes, startBytes + lengthBytes);
        // Orders the claim before the look at the counters here, and on every other processor its count before its look at the claim: a
        // request that is not counted below will see the claim.
        Interlocked.MemoryBarrierProcessWide();
        if (Look().IsIdle)
        {
            return true;
        }

        Release();
        return false;
    }

    /// <summary>Gives the range back; what is held goes on.</summary>
    public void Release()
    {
        _claim = null;
        // A full fence, as is NoteHeld: either this sees that a request is held, or its queue sees that the claim has gone.
        if (Interlocked.Exchange(ref _isAnyHeld, 0) != 0)
        {
            _queues.PostAll();
        }
    }

    /// <summary>A queue holds a request; before it looks at the claim once more.</summary>
    public void NoteHeld() => Interlocked.Exchange(ref _isAnyHeld, 1);
}
