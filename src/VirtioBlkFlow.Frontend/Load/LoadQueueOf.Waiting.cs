using System.Diagnostics;
using System.Runtime.Intrinsics.X86;
using VirtioBlkFlow.Frontend.Load.Rings;

namespace VirtioBlkFlow.Frontend.Load;

/// <content>While nothing has come back: spin or sleep, and see that somebody is there at all.</content>
internal sealed partial class LoadQueueOf<TRing>
    where TRing : struct, ILoadRing
{
    private void Wait()
    {
        if (_parts.Partner is not null)
        {
            _parts.Partner.Serve();
            if (_isOpenLoop && !_ring.HasUsed)
            {
                Turn(isFirst: false);
            }

            LookAroundNowAndThen();
        }
        else if (_polls)
        {
            Pause();
            LookAroundNowAndThen();
        }
        else if (!WasCalled())
        {
            RequireLife();
        }
    }

    private void LookAroundNowAndThen()
    {
        if (++_idleLooks >= LooksBetweenChecks)
        {
            _idleLooks = 0;
            RequireLife();
        }
    }

    // Sleeps until a call comes, the next request of an open loop is due, or it is time to look at the stop flag.
    private bool WasCalled()
    {
        if (_ring.RequestCalls())
        {
            return true;
        }

        long timeout = LongestSleepNs;
        if (_isOpenLoop && _freeCount > 0 && _left > 0 && _phase != Phase.ReadingBack)
        {
            timeout = Math.Min(timeout, (long)_nextDueNs - Stopwatch.GetTimestamp());
        }

        ulong calls = 0;
        if (timeout > 0)
        {
            _tally.Sleeps++;
            calls = _watch.Sleep(timeout);
            _tally.Calls += (long)calls;
        }

        if (!_ring.CallsLapse)
        {
            _ring.SuppressCalls();
        }

        if (_isOpenLoop && !_ring.HasUsed)
        {
            Turn(isFirst: false);
        }

        return calls > 0;
    }

    // The ring says nothing: is anybody there?
    private void RequireLife()
    {
        _watch.Check();
        long now = Stopwatch.GetTimestamp();
        if (IsStopped || now >= _phaseEndsNs)
        {
            EndPhase(now);
        }

        if (_inFlight > 0 && now - _lastCompletionNs > (IsStopped ? StoppedPatienceNs : _stallNs))
        {
            throw new LoadException(
                $"None of {_inFlight} requests in flight on queue {_parts.Queue.Index} came back for {(now - _lastCompletionNs) / 1_000_000} ms: the back-end is stuck.");
        }

        if (_inFlight == 0)
        {
            _lastCompletionNs = now;
        }
    }

    private static void Pause()
    {
        if (X86Base.IsSupported)
        {
            X86Base.Pause();
        }
        else
        {
            Thread.SpinWait(1);
        }
    }
}
