using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>How a server that follows a dead one treats what was in flight; all but the first are mistakes a driver must find.</summary>
internal enum Recovery
{
    ExactlyOnce,
    LosesOne,
    DoublesOne,
    WritesElsewhere,
}

/// <summary>
/// A model of a device on a thread of its own, in front of a disk. It completes out of order, and may die in the middle of anything: then what
/// it had fetched and not used is known exactly, as from a perfect record, and a successor goes on.
/// </summary>
internal sealed class ModelServer : IDisposable
{
    private readonly SharedMemory _memory;
    private readonly FrontendQueue _queue;
    private readonly ModelDisk _disk;
    private readonly IModelDevice _device;
    private readonly Random _random;
    private readonly List<ModelChain> _inFlight = [];
    private readonly List<ModelChain> _toExecute;
    private readonly Thread _thread;
    private int _stepsToLive;
    private volatile bool _stop;
    private volatile Exception? _fault;

    public ModelServer(SharedMemory memory, FrontendQueue queue, ModelDisk disk, IModelDevice device, int seed, int stepsToLive = int.MaxValue)
        : this(memory, queue, disk, device, [], seed, stepsToLive)
    {
    }

    private ModelServer(SharedMemory memory, FrontendQueue queue, ModelDisk disk, IModelDevice device, List<ModelChain> recovered, int seed, int stepsToLive)
    {
        (_memory, _queue, _disk, _device) = (memory, queue, disk, device);
        _toExecute = recovered;
        _random = new Random(seed);
        _stepsToLive = stepsToLive;
        _thread = new Thread(Run) { Name = "model-server" };
        _thread.Start();
    }

    public bool IsDead => !_thread.IsAlive;

    /// <summary>Of a dead one: what it had fetched and not used.</summary>
    public int InFlightCount => _inFlight.Count;

    public static IModelDevice DeviceFor(SharedMemory memory, DriverRing ring, bool eventIndex) => ring switch
    {
        PackedDriverRing packed => new PackedModelDevice(memory, packed.Raw, eventIndex, packed.NextUsed, packed.UsedWrap),
        _ => new SplitModelDevice(memory, (SplitDriverRing)ring, eventIndex),
    };

    /// <summary>Goes on where this one died.</summary>
    public ModelServer Successor(int seed, int stepsToLive, Recovery recovery = Recovery.ExactlyOnce)
    {
        Dispose();
        IModelDevice next = _device.Successor(_inFlight);
        List<ModelChain> recovered = [.. _inFlight];
        if (recovered.Count > 0 && recovery != Recovery.ExactlyOnce)
        {
            ModelChain victim = recovered[0];
            recovered.RemoveAt(0);
            switch (recovery)
            {
                case Recovery.DoublesOne:
                    recovered.InsertRange(0, [victim, victim]);
                    break;
                case Recovery.WritesElsewhere:
                    Array.Reverse(_disk.Bytes);
                    recovered.Insert(0, victim);
                    break;
            }
        }

        return new ModelServer(_memory, _queue, _disk, next, recovered, seed, stepsToLive);
    }

    public void Dispose()
    {
        _stop = true;
        _queue.Kick.Signal();
        _thread.Join();
        if (_fault is not null)
        {
            throw new InvalidOperationException("The model failed.", _fault);
        }
    }

    private void Run()
    {
        try
        {
            _inFlight.AddRange(_toExecute);
            while (!_stop && Turn())
            {
            }
        }
        catch (Exception exception)
        {
            _fault = exception;
        }
    }

    private bool Dies() => --_stepsToLive <= 0;

    private bool Turn()
    {
        _device.SuppressKicks();
        while (_device.TryPop(out ModelChain chain))
        {
            _inFlight.Add(chain);
            _toExecute.Add(chain);
            if (Dies())
            {
                return false;
            }
        }

        while (_toExecute.Count > 0)
        {
            var batch = new (ModelChain Chain, uint Written)[_random.Next(1, Math.Min(4, _toExecute.Count) + 1)];
            for (int i = 0; i < batch.Length; i++)
            {
                int which = _random.Next(_toExecute.Count);
                ModelChain chain = _toExecute[which];
                _toExecute.RemoveAt(which);
                batch[i] = (chain, _disk.Execute(_memory, chain));
            }

            if (Dies())
            {
                return false;
            }

            bool mustCall = _device.Use(batch);
            foreach ((ModelChain chain, _) in batch)
            {
                _inFlight.Remove(chain);
            }

            if (Dies())
            {
                return false;
            }

            if (mustCall)
            {
                _queue.Call.Signal();
            }
        }

        // Longer than any test: a lost kick shows as a timeout of the driver.
        const int PatienceMs = 60_000;
        if (!_device.RequestKicks() && !_stop && _queue.Kick.Wait(Deadline.In(PatienceMs)))
        {
            _queue.Kick.Take();
        }

        return true;
    }
}
