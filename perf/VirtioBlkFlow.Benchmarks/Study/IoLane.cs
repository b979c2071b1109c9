using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// A pool thread's way to the disk: an engine and a disk queue of its own, in which it submits and waits. An io_uring may be used by the one
/// thread that made it (SINGLE_ISSUER), so whichever thread comes to the I/O stage gets a lane at its first request, and keeps it.
/// </summary>
internal sealed class IoLane : IDiskCompletions, IDisposable
{
    private readonly IIoEngine _engine;
    private readonly IDiskQueue _disk;
    private readonly RequestBook _book;
    private int _outstanding;

    public IoLane(IDisk disk, IIoEngine engine, RequestBook book, int slotCount)
    {
        _engine = engine;
        _book = book;
        _disk = disk.OpenQueue(engine, this, slotCount);
    }

    /// <summary>Begins a request, if the disk is to be asked for it.</summary>
    public void Start(ushort slot)
    {
        if (_book.NeedsDisk(slot))
        {
            _outstanding++;
            _disk.Submit(slot, in _book.IoOf(slot));
        }
    }

    /// <summary>Hands over what was begun, with one call, and blocks until all of it has ended; reads of cached pages have by then.</summary>
    public void Finish()
    {
        _engine.Submit();
        Span<IoCompletion> completions = stackalloc IoCompletion[64];
        while (_outstanding > 0)
        {
            if (!_engine.HasCompletions)
            {
                _engine.Wait(-1);
            }

            int count = _engine.Reap(completions);
            for (int i = 0; i < count; i++)
            {
                if (completions[i].Kind == IoCompletionKind.Operation)
                {
                    _disk.OnIoCompleted((int)completions[i].Token, completions[i].Result);
                }
            }

            // The disk may have begun something anew, as for the rest of a short transfer.
            _engine.Submit();
        }
    }

    void IDiskCompletions.OnCompleted(int slot, DiskOutcome outcome)
    {
        _outstanding--;
        _book.End(slot, outcome);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disk.Dispose();
        _engine.Dispose();
    }
}

/// <summary>The lanes of a server, one for each pool thread that came along.</summary>
/// <param name="disk">Where the sectors are.</param>
/// <param name="book">The requests.</param>
/// <param name="slotCount">Slots are numbered from 0 below this.</param>
/// <param name="makeEngine">Makes an engine for the calling thread.</param>
internal sealed class IoLanes(IDisk disk, RequestBook book, int slotCount, Func<IIoEngine> makeEngine) : IDisposable
{
    private readonly ThreadLocal<IoLane> _lanes = new(() => new IoLane(disk, makeEngine(), book, slotCount), trackAllValues: true);

    /// <summary>The calling thread's.</summary>
    public IoLane Mine => _lanes.Value!;

    /// <summary>Ends all. No thread may be in one.</summary>
    public void Dispose()
    {
        foreach (IoLane lane in _lanes.Values)
        {
            lane.Dispose();
        }

        _lanes.Dispose();
    }
}
