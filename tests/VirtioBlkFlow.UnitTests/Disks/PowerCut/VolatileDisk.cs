using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// A disk on a <see cref="PowerCutHost"/> below a running device: its queues use an engine of that host in place of the device's own.
/// Operations end some at a time, in calls of the agenda.
/// </summary>
/// <param name="inner">The disk, over files of the host; belongs to this one.</param>
/// <param name="host">Whose power will be cut.</param>
/// <param name="seed">Decides how operations end.</param>
/// <param name="sabotage">What is done wrong.</param>
internal sealed class VolatileDisk(IDisk inner, PowerCutHost host, int seed, Sabotage sabotage = Sabotage.None) : IDisk
{
    private readonly List<VolatileFile> _files = [];
    private int _queues;

    public DiskProperties Properties => inner.Properties;

    /// <summary>Flushes on the control path that failed.</summary>
    public int FailedFlushes { get; private set; }

    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(this, engine.Agenda, new Random(seed + Interlocked.Increment(ref _queues)), completions, slotCount);

    /// <summary>The disk's own sync does its work on the real file; here it counts for what the engines wrote.</summary>
    public DiskOutcome Flush()
    {
        lock (host.Gate)
        {
            long[] begun = [.. _files.Select(static file => file.Storage.BeginSync())];
            DiskOutcome outcome = inner.Flush();
            for (int i = 0; i < begun.Length && outcome == DiskOutcome.Done && sabotage != Sabotage.NoFlush; i++)
            {
                _files[i].Storage.EndSync(begun[i]);
            }

            FailedFlushes += outcome == DiskOutcome.Done ? 0 : 1;
            return outcome;
        }
    }

    public void Dispose() => inner.Dispose();

    private sealed class Queue : IDiskQueue, IAgendaEntry
    {
        private readonly EngineAgenda _agenda;
        private readonly Random _random;
        private readonly VolatileEngine _engine;
        private readonly IDiskQueue _inner;
        private bool _isAwake;

        public Queue(VolatileDisk disk, EngineAgenda agenda, Random random, IDiskCompletions completions, int slotCount)
        {
            _agenda = agenda;
            _random = random;
            _engine = new VolatileEngine(disk.Host, agenda, random, disk.Sabotage);
            _inner = disk.Inner.OpenQueue(_engine, completions, slotCount);
            disk.Note([.. _engine.Files]);
        }

        public void Submit(int slot, in DiskRequest request)
        {
            _inner.Submit(slot, in request);
            Awake();
        }

        public void OnIoCompleted(int slot, int result) => throw new InvalidOperationException("The device's engine has nothing to do.");

        public void OnTime(int token)
        {
            _isAwake = false;
            for (int count = _random.Next(1, _engine.PendingCount + 2); count > 0; count--)
            {
                if (_engine.TryEndOne(out uint slot, out int result))
                {
                    _inner.OnIoCompleted((int)slot, result);
                }
            }

            Awake();
        }

        public bool EndHeld() => _inner.EndHeld();

        public void Dispose()
        {
            _agenda.Forget(this);
            _inner.Dispose();
        }

        private void Awake()
        {
            if (!_isAwake && _engine.PendingCount > 0)
            {
                _isAwake = true;
                _agenda.After(this, 0, 0);
            }
        }
    }

    private PowerCutHost Host => host;

    private Sabotage Sabotage => sabotage;

    private IDisk Inner => inner;

    private void Note(IEnumerable<VolatileFile> files)
    {
        lock (host.Gate)
        {
            _files.AddRange(files.Where(file => !_files.Contains(file)));
        }
    }
}
