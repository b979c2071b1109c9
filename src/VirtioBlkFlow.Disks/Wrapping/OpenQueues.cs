using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>The queues that are open on something they share, each with what to call on its thread when that changes.</summary>
internal sealed class OpenQueues
{
    // Shared, under its own lock.
    private readonly List<(EngineAgenda Agenda, Action Call)> _queues = [];

    /// <summary>A queue opens; on its thread.</summary>
    public void Add(EngineAgenda agenda, Action call)
    {
        lock (_queues)
        {
            _queues.Add((agenda, call));
        }
    }

    /// <summary>A queue ends; on its thread. A call that was asked for before may still come.</summary>
    public void Remove(Action call)
    {
        lock (_queues)
        {
            _queues.RemoveAll(queue => queue.Call == call);
        }
    }

    /// <summary>Has each queue called on its own thread, soon. From any thread.</summary>
    public void PostAll()
    {
        lock (_queues)
        {
            foreach ((EngineAgenda agenda, Action call) in _queues)
            {
                agenda.Post(call);
            }
        }
    }
}
