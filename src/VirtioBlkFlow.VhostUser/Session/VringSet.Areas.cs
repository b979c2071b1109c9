using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Session;

/// <content>The inflight area and the dirty log, as far as they concern vrings. Who owns their mappings sees to their lifetime.</content>
internal sealed partial class VringSet
{
    // Owned by the session's thread. The device has it, for every vring that runs.
    private DirtyLogMapping? _dirtyLog;

    /// <summary>The negotiated virtio feature bits.</summary>
    public ulong Features => _features;

    /// <summary>Whether any vring runs. If none does, the device is suspended (vhost-user.rst, "Suspended device state").</summary>
    public bool HasRunning => _runningCount > 0;

    /// <summary>Whether size and addresses of a vring have come.</summary>
    /// <param name="index">Number of a vring there is.</param>
    public bool IsDescribed(int index) => _vrings[index] is { Size: > 0, Address: not null };

    /// <summary>What vrings that start from now on record in. Changes only while none runs.</summary>
    public InflightMapping InflightArea { get; set; }

    /// <summary>Refuses a log that has no place for a used ring it is to log.</summary>
    /// <param name="log">The log; null for none, which suits.</param>
    /// <exception cref="VhostUserRefusedException">A vring that runs has its used ring outside.</exception>
    public void RequireWithin(DirtyLogMapping? log)
    {
        foreach (var vring in _vrings)
        {
            if (vring.IsRunning)
            {
                RequireWithin(log, vring, vring.Address!.Value, vring.RunsPacked);
            }
        }
    }

    /// <summary>Moves the device to another log, or to none. After the return nobody uses the log before.</summary>
    /// <param name="log">A log that has passed <see cref="RequireWithin(DirtyLogMapping?)"/>; null for none.</param>
    public void SetDirtyLog(DirtyLogMapping? log)
    {
        if (log != _dirtyLog)
        {
            _dirtyLog = log;
            TellDirtyLog();
        }
    }

    private static ulong? UsedRingLogAddress(VringAddress address) =>
        (address.Flags & VringAddress.LogEnabled) != 0 ? address.Log : null;

    private static void RequireWithin(DirtyLogMapping? log, Vring vring, VringAddress address, bool isPacked)
    {
        if (log is { } mapping && UsedRingLogAddress(address) is { } guestAddress
            && !mapping.Covers(guestAddress, VringLayout.UsedRingBytes(vring.Size, isPacked)))
        {
            throw new VhostUserRefusedException(
                $"the used ring of vring {vring.Index} is to be logged at 0x{guestAddress:x}, outside the log of {mapping.LengthBytes} bytes");
        }
    }

    /// <summary>SET_VRING_ADDR of a vring that runs: flags and log address may differ from those before.</summary>
    private void ChangeLogging(Vring vring, VringAddress address)
    {
        RequireWithin(_dirtyLog, vring, address, vring.RunsPacked);
        var hasChanged = UsedRingLogAddress(address) != UsedRingLogAddress(vring.Address!.Value);
        vring.Address = address;
        if (hasChanged && _dirtyLog is not null)
        {
            TellDirtyLog();
        }
    }

    private void TellDirtyLog()
    {
        var logged = new List<LoggedUsedRing>();
        foreach (var vring in _vrings)
        {
            if (_dirtyLog is not null && vring.IsRunning && UsedRingLogAddress(vring.Address!.Value) is { } guestAddress)
            {
                logged.Add(new LoggedUsedRing(vring.Index, guestAddress));
            }
        }

        _backend.SetDirtyLog(_dirtyLog, logged.ToArray());
    }

    /// <summary>Refuses to start a vring that the inflight area has no room for: after a crash its requests would be lost.</summary>
    private void RequireRecords(Vring vring)
    {
        var area = InflightArea;
        if (area.IsNone)
        {
            return;
        }

        // Features may have changed since the area came, and with them the size of a record.
        var needed = _backend.InflightBytesFor(area.QueueCount, area.QueueSize, _features);
        if (vring.Index >= area.QueueCount || vring.Size > area.QueueSize || needed == 0 || needed > area.LengthBytes)
        {
            throw new VhostUserRefusedException(
                $"vring {vring.Index} of {vring.Size} descriptors has no room in the inflight area for {area.QueueCount} vrings of "
                + $"{area.QueueSize} descriptors, {area.LengthBytes} bytes");
        }
    }
}
