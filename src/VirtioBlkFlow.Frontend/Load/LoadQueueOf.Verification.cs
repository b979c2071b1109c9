using System.Diagnostics;
using VirtioBlkFlow.Frontend.Load.Rings;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Load;

/// <content>With verification: which requests may begin, what comes of them, and reading all back at the end.</content>
internal sealed partial class LoadQueueOf<TRing>
    where TRing : struct, ILoadRing
{
    public override void ReadBack()
    {
        if (_contents is null || !_parts.Options.Writes || IsStopped)
        {
            return;
        }

        _phase = Phase.ReadingBack;
        _countFromNs = long.MaxValue;
        _phaseEndsNs = long.MaxValue;
        _left = long.MaxValue;
        _lastCompletionNs = Stopwatch.GetTimestamp();
        _readBackSector = 0;
        _hasPlanned = false;
        (long kicks, long calls, long sleeps, long bursts) = (_tally.Kicks, _tally.Calls, _tally.Sleeps, _tally.Bursts);
        RunPhases();
        // Counted was what came before.
        (_tally.Kicks, _tally.Calls, _tally.Sleeps, _tally.Bursts) = (kicks, calls, sleeps, bursts);
        TakeDownContents();
    }

    private bool TryPlanVerified(out PlannedRequest request)
    {
        for (int i = 0; i < PlaceTries; i++)
        {
            if (!_hasPlanned && !TryPlan())
            {
                break;
            }

            if (_contents!.TryReserve(_planned.Sector, _planned.Bytes))
            {
                _hasPlanned = false;
                request = _planned;
                return true;
            }

            // In a sequence no request may be left out: it waits until its place is free.
            _hasPlanned = _parts.Options.Sequential;
        }

        request = default;
        return false;
    }

    private bool TryPlan()
    {
        if (_phase != Phase.ReadingBack)
        {
            _planned = _source.Next();
        }
        else if (_contents!.TryFindWritten(_readBackSector, _parts.Options.BlockSizes.LargestBytes / BlkRequest.SectorBytes, out ulong sector, out uint sectors))
        {
            _readBackSector = sector + sectors;
            _planned = new PlannedRequest(sector, sectors * BlkRequest.SectorBytes, IsWrite: false);
        }
        else
        {
            _left = 0;
            return false;
        }

        _hasPlanned = true;
        return true;
    }

    private void FinishVerified(int slot, in SlotState state)
    {
        if (state.IsWrite)
        {
            _contents!.FinishWrite(state.Sector, state.Bytes);
        }
        else if (_contents!.FinishRead(state.Sector, _memory.Data(slot, state.Bytes)) is { } complaint)
        {
            throw new LoadException($"Wrong data: {complaint}. {Describe(isWrite: false, state.Bytes, state.Sector)} had status OK (seed {_parts.Options.Seed}).");
        }
    }
}
