using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <summary>
/// The vrings of one session, and the rule when one runs: it is started and enabled, its size and addresses are known, and guest memory
/// holds it. Requests may come in any order; every one that completes the list starts the vring. Owned by the session's thread.
/// </summary>
/// <remarks>
/// A request that would start a vring which the device then cannot serve is refused as a whole: what it set is taken back.
/// </remarks>
internal sealed partial class VringSet
{
    // Fixed at construction.
    private readonly IVhostUserBackend _backend;
    private readonly FrontendNotifications _notifications;
    private readonly ILogger _logger;
    private readonly Vring[] _vrings;

    // Owned by the session's thread.
    private GuestMemoryTable _memory = GuestMemoryTable.Empty;
    private ulong _features;
    private int _runningCount;

    public VringSet(IVhostUserBackend backend, FrontendNotifications notifications, ILogger logger)
    {
        _backend = backend;
        _notifications = notifications;
        _logger = logger;
        _vrings = new Vring[backend.QueueCount];
        for (var i = 0; i < _vrings.Length; i++)
        {
            _vrings[i] = new Vring(i);
        }
    }

    private bool IsPacked => (_features & ProtocolLimits.VIRTIO_F_RING_PACKED) != 0;

    /// <summary>SET_VRING_NUM.</summary>
    public void SetSize(uint index, uint size)
    {
        var vring = StoppedVring(index, "SET_VRING_NUM");

        // Before SET_FEATURES the kind is unknown, so what is legal for either kind passes here; the start checks again.
        var mayBePacked = IsPacked || (_features == 0 && (_backend.OfferedFeatures & ProtocolLimits.VIRTIO_F_RING_PACKED) != 0);
        if (!VringLayout.IsLegalSize(size, mayBePacked))
        {
            throw new VhostUserRefusedException($"vring {index} cannot have {size} descriptors")
            {
                Finding = ProtocolFinding.VringSize,
            };
        }

        var before = vring.Size;
        vring.Size = (ushort)size;
        StartOrElse(vring, () => vring.Size = before);
    }

    /// <summary>SET_VRING_ADDR. While the vring runs the same addresses may come with other flags; nothing else.</summary>
    public void SetAddress(VringAddress address)
    {
        var vring = Find(address.Index);
        if (vring.IsRunning)
        {
            if (!vring.Address!.Value.HasSameRings(address))
            {
                throw new VhostUserRefusedException($"the addresses of vring {address.Index} cannot change while it runs")
                {
                    Finding = ProtocolFinding.VringChangedWhileRunning,
                };
            }

            ChangeLogging(vring, address);
            return;
        }

        if (!VringLayout.IsAligned(address))
        {
            throw new VhostUserRefusedException(
                $"the addresses of vring {address.Index} are not aligned: descriptors 0x{address.DescriptorTable:x}, "
                + $"available 0x{address.AvailableRing:x}, used 0x{address.UsedRing:x}")
            {
                Finding = ProtocolFinding.VringAlignment,
            };
        }

        var before = vring.Address;
        vring.Address = address;
        StartOrElse(vring, () => vring.Address = before);
    }

    /// <summary>SET_VRING_BASE.</summary>
    public void SetBase(uint index, uint value)
    {
        var vring = StoppedVring(index, "SET_VRING_BASE");
        vring.Base = value;
        vring.BaseBeforeReset = null;
    }

    /// <summary>
    /// GET_VRING_BASE: stops the vring and says where fetching would go on. Kick and call are dropped, the enabled flag and the base stay
    /// (vhost-user.rst, "Ring states").
    /// </summary>
    public VringState StopAndGetBase(uint index)
    {
        var vring = Find(index);
        var isPacked = vring.IsRunning ? vring.RunsPacked : IsPacked;
        Stop(vring);
        vring.DropKick();
        vring.DropCall();
        return new VringState(index, vring.BaseBeforeReset ?? vring.BaseAs(isPacked));
    }

    /// <summary>SET_VRING_KICK: marks the vring as started.</summary>
    /// <param name="index">Number of the vring.</param>
    /// <param name="descriptor">Becomes ours; null to poll.</param>
    public void SetKick(int index, SafeFileHandle? descriptor)
    {
        var vring = FindOrClose(index, descriptor);
        var before = vring.Kick;
        vring.Kick = descriptor;
        if (vring.IsRunning)
        {
            _backend.ReplaceKick(index, descriptor);
        }

        before?.Dispose();
        vring.IsStarted = true;
        StartOrElse(vring, vring.DropKick);
    }

    /// <summary>SET_VRING_CALL.</summary>
    /// <param name="index">Number of the vring.</param>
    /// <param name="descriptor">Becomes ours; null if the driver polls.</param>
    public void SetCall(int index, SafeFileHandle? descriptor)
    {
        var vring = FindOrClose(index, descriptor);
        var before = vring.Call;
        vring.Call = descriptor;
        if (vring.IsRunning)
        {
            _backend.ReplaceCall(index, descriptor);
        }

        before?.Dispose();
    }

    /// <summary>SET_VRING_ERR.</summary>
    /// <param name="index">Number of the vring.</param>
    /// <param name="descriptor">Becomes ours; null for none.</param>
    public void SetError(int index, SafeFileHandle? descriptor)
    {
        var vring = FindOrClose(index, descriptor);
        var before = vring.Error;
        vring.Error = descriptor;
        if (vring.IsRunning)
        {
            _backend.ReplaceError(index, descriptor);
        }

        before?.Dispose();
    }

    /// <summary>SET_VRING_ENABLE. A disabled vring keeps its place: what is in flight is finished, the rest waits in the ring.</summary>
    public void SetEnabled(uint index, uint value)
    {
        var vring = Find(index);
        switch (value)
        {
            case 0:
                vring.IsEnabled = false;
                Stop(vring);
                break;
            case 1:
                var before = vring.IsEnabled;
                vring.IsEnabled = true;
                StartOrElse(vring, () => vring.IsEnabled = before);
                break;
            default:
                throw new VhostUserRefusedException($"vring {index} can be enabled with 1 or disabled with 0, not {value}")
                {
                    Finding = ProtocolFinding.EnableValue,
                };
        }
    }

    /// <summary>SET_FEATURES: counts for vrings that start from now on; those that run are left alone.</summary>
    /// <param name="features">Virtio feature bits, without bit 30.</param>
    /// <param name="enableAll">Whether bit 30 was absent, which enables all vrings at once (vhost-user.rst, "Ring states").</param>
    public void SetFeatures(ulong features, bool enableAll)
    {
        _features = features;
        if (enableAll)
        {
            foreach (var vring in _vrings)
            {
                vring.IsEnabled = true;
            }
        }

        StartAllReady();
    }

    /// <summary>
    /// Moves the device to a new memory table. Vrings the new table does not hold are stopped first, and run again when memory
    /// returns. After the return nobody uses the old table.
    /// </summary>
    public void MoveTo(GuestMemoryTable memory)
    {
        var moving = new List<QueueRings>();
        foreach (var vring in _vrings)
        {
            if (!vring.IsRunning)
            {
                continue;
            }

            if (VringLayout.Locate(vring.Index, vring.Size, vring.Address!.Value, vring.RunsPacked, memory, out var rings) == VringLocation.Found)
            {
                moving.Add(rings);
            }
            else
            {
                Log.VringLostMemory(_logger, vring.Index);
                Stop(vring);
            }
        }

        _backend.ReplaceMemory(memory, moving.ToArray());
        _memory = memory;
    }

    /// <summary>Starts every vring that has become ready. One that cannot be served is left stopped and needs a new kick.</summary>
    /// <exception cref="VhostUserRefusedException">At least one could not be started; the others were.</exception>
    public void StartAllReady()
    {
        VhostUserRefusedException? refusal = null;
        foreach (var vring in _vrings)
        {
            try
            {
                StartOrElse(vring, vring.DropKick);
            }
            catch (VhostUserRefusedException exception)
            {
                refusal = exception;
            }
        }

        if (refusal is not null)
        {
            throw refusal;
        }
    }

    /// <summary>Stops every vring that runs.</summary>
    public void StopAll() => Array.ForEach(_vrings, Stop);

    /// <summary>
    /// RESET_DEVICE: every vring as at the beginning, but for call and error descriptors. QEMU sets the error descriptor once per
    /// connection and resets the device several times after that. What GET_VRING_BASE answers is kept too, see
    /// <see cref="Vring.BaseBeforeReset"/>.
    /// </summary>
    public void Reset()
    {
        StopAll();
        var wasPacked = IsPacked;
        _features = 0;
        foreach (var vring in _vrings)
        {
            vring.DropKick();
            vring.BaseBeforeReset ??= vring.Base is null ? null : vring.BaseAs(wasPacked);
            vring.IsEnabled = false;
            vring.Size = 0;
            vring.Address = null;
            vring.Base = null;
        }
    }

    /// <summary>Closes all descriptors; every vring was stopped before.</summary>
    public void CloseDescriptors()
    {
        Debug.Assert(_runningCount == 0, "descriptors of a vring that runs");
        Array.ForEach(_vrings, static vring => vring.CloseDescriptors());
    }

    private Vring Find(uint index) => index < (uint)_vrings.Length
        ? _vrings[index]
        : throw new VhostUserRefusedException($"there is no vring {index}, only {_vrings.Length}")
        {
            Finding = ProtocolFinding.VringIndex,
        };

    private Vring FindOrClose(int index, SafeFileHandle? descriptor)
    {
        if (index >= _vrings.Length)
        {
            descriptor?.Dispose();
        }

        return Find((uint)index);
    }

    private Vring StoppedVring(uint index, string request)
    {
        var vring = Find(index);
        return !vring.IsRunning ? vring : throw new VhostUserRefusedException($"{request} while vring {index} runs")
        {
            Finding = ProtocolFinding.VringChangedWhileRunning,
        };
    }

    private void StartOrElse(Vring vring, Action takeBack)
    {
        try
        {
            StartIfReady(vring);
        }
        catch (VhostUserRefusedException)
        {
            takeBack();
            throw;
        }
    }

    private void StartIfReady(Vring vring)
    {
        if (vring.IsRunning || !vring.IsStarted || !vring.IsEnabled || vring.Size == 0 || vring.Address is not { } address)
        {
            return;
        }

        var isPacked = IsPacked;
        if (!VringLayout.IsLegalSize(vring.Size, isPacked))
        {
            throw new VhostUserRefusedException($"vring {vring.Index} of {vring.Size} descriptors is split, and its size no power of two")
            {
                Finding = ProtocolFinding.VringSize,
            };
        }

        switch (VringLayout.Locate(vring.Index, vring.Size, address, isPacked, _memory, out var rings))
        {
            case VringLocation.NotMapped:
                Log.VringWaitsForMemory(_logger, vring.Index);
                return;
            case VringLocation.NotAligned:
                throw new VhostUserRefusedException($"vring {vring.Index} is not aligned in memory");
            default:
                Start(vring, rings, isPacked);
                return;
        }
    }

    private void Start(Vring vring, QueueRings rings, bool isPacked)
    {
        RequireRecords(vring);
        RequireWithin(_dirtyLog, vring, rings.UserAddresses, isPacked);
        var start = vring.BaseAs(isPacked);
        var setup = new QueueSetup
        {
            Rings = rings,
            NextAvailable = (ushort)start,
            NextUsed = (ushort)(start >> 16),
            Kick = vring.Kick,
            Call = vring.Call,
            Error = vring.Error,
            Memory = _memory,
            Features = _features,
            InflightArea = InflightArea,
            DirtyLog = _dirtyLog,
            UsedRingLogAddress = _dirtyLog is null ? null : UsedRingLogAddress(rings.UserAddresses),
        };
        try
        {
            _backend.StartQueue(vring.Index, setup);
        }
        catch (Exception exception)
        {
            // A device that lacks a thread or a ring for this queue must not take down the daemon: the front-end hears of it.
            Log.VringStartFailed(_logger, vring.Index, exception);
            throw exception as VhostUserRefusedException
                ?? new VhostUserRefusedException($"the device cannot start vring {vring.Index}: {exception.Message}", exception);
        }

        vring.RunsPacked = isPacked;
        vring.IsRunning = true;
        vring.BaseBeforeReset = null;
        _notifications.SetRunningQueues(++_runningCount);
        Log.VringStarted(_logger, vring.Index, vring.Size, setup.NextAvailable);
    }

    private void Stop(Vring vring)
    {
        if (!vring.IsRunning)
        {
            return;
        }

        // Everything is published now, so a packed ring's used position, in the upper half, is where the available one is.
        uint next = _backend.StopQueue(vring.Index);
        vring.Base = vring.RunsPacked ? next | (next << 16) : next;
        vring.IsRunning = false;
        _notifications.SetRunningQueues(--_runningCount);
        Log.VringStopped(_logger, vring.Index, (int)next);
    }
}
