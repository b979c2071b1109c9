using System.Text;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Frontend.Blk;

/// <content>Every request of VIRTIO 1.4, "Block Device", "Device Operation", one at a time. These may allocate.</content>
public sealed unsafe partial class BlkDriver
{
    /// <summary>Length of what GET_ID returns (VIRTIO 1.4, "Block Device", "Device Operation").</summary>
    public const int IdBytes = 20;

    /// <summary>Reads, and waits for it.</summary>
    /// <param name="sector">First sector.</param>
    /// <param name="destination">Where to, at most <see cref="MaxTransferBytes"/>; untouched unless the status is OK.</param>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus Read(ulong sector, Span<byte> destination)
    {
        BlkCompletion completion = Execute(BlkRequestType.VIRTIO_BLK_T_IN, sector, (uint)destination.Length);
        if (completion.Status == BlkStatus.VIRTIO_BLK_S_OK)
        {
            Data(completion.Slot)[..destination.Length].CopyTo(destination);
        }

        return completion.Status;
    }

    /// <summary>Writes, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus Write(ulong sector, ReadOnlySpan<byte> source)
    {
        RequireIdle();
        source.CopyTo(Data(NextSlot));
        return Execute(BlkRequestType.VIRTIO_BLK_T_OUT, sector, (uint)source.Length).Status;
    }

    /// <summary>Flushes, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus Flush() => Execute(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0, 0).Status;

    /// <summary>Gets the serial.</summary>
    /// <param name="id">The serial, up to its first NUL; empty unless the status is OK.</param>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus GetId(out string id)
    {
        BlkCompletion completion = Execute(BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, IdBytes);
        ReadOnlySpan<byte> text = Data(completion.Slot)[..IdBytes];
        int end = text.IndexOf((byte)0);
        id = completion.Status == BlkStatus.VIRTIO_BLK_S_OK ? Encoding.ASCII.GetString(end < 0 ? text : text[..end]) : "";
        return completion.Status;
    }

    /// <summary>Gets how much of its life the storage has behind it.</summary>
    /// <param name="lifetime">What the device says; zeros unless the status is OK.</param>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus GetLifetime(out BlkLifetime lifetime)
    {
        BlkCompletion completion = Execute(BlkRequestType.VIRTIO_BLK_T_GET_LIFETIME, 0, BlkLifetime.SizeBytes);
        bool isOk = completion.Status == BlkStatus.VIRTIO_BLK_S_OK;
        lifetime = isOk ? MemoryMarshal.Read<BlkLifetime>(Data(completion.Slot)) : default;
        return completion.Status;
    }

    /// <summary>Discards, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus Discard(params ReadOnlySpan<BlkSegment> segments) => ExecuteSegments(BlkRequestType.VIRTIO_BLK_T_DISCARD, segments);

    /// <summary>Writes zeros, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus WriteZeroes(params ReadOnlySpan<BlkSegment> segments) => ExecuteSegments(BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES, segments);

    /// <summary>Erases for good, and waits for it.</summary>
    /// <param name="asLinux">
    /// Puts the segments into a buffer the device could write, as Linux does: it tells the direction by bit 0 of the type, and 14 is even.
    /// </param>
    /// <param name="segments">The ranges.</param>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus SecureErase(bool asLinux, params ReadOnlySpan<BlkSegment> segments)
    {
        if (!asLinux)
        {
            return ExecuteSegments(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, segments);
        }

        RequireIdle();
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(segments);
        bytes.CopyTo(Data(NextSlot));
        DriverBuffer writable = DriverBuffer.Writable(DataAddress(NextSlot), (uint)bytes.Length);
        return Finish(
            TrySubmit(BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, 0, [writable], tag: 0), BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE, 0).Status;
    }

    /// <summary>Appends to a zone, and waits for it.</summary>
    /// <param name="zoneSector">First sector of the zone.</param>
    /// <param name="source">What to write.</param>
    /// <param name="appendedSector">Where it is now; meaningful if the status is OK.</param>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus ZoneAppend(ulong zoneSector, ReadOnlySpan<byte> source, out ulong appendedSector)
    {
        RequireIdle();
        source.CopyTo(Data(NextSlot));
        bool submitted = TrySubmitZoneAppend(zoneSector, (uint)source.Length, tag: 0);
        BlkCompletion completion = Finish(submitted, BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND, zoneSector);
        appendedSector = AppendedSector(completion.Slot);
        return completion.Status;
    }

    /// <summary>Reports zones from the one that holds a sector, as many as the buffer takes.</summary>
    /// <param name="sector">A sector of the first zone.</param>
    /// <param name="zones">The zones; empty unless the status is OK.</param>
    /// <param name="bufferBytes">Size of the buffer, at most <see cref="MaxTransferBytes"/>: 64 bytes and 64 for each zone.</param>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    /// <exception cref="DeviceBrokeRingException">The report counts more zones than its buffer holds.</exception>
    public BlkStatus ZoneReport(ulong sector, out BlkZoneDescriptor[] zones, uint bufferBytes)
    {
        BlkCompletion completion = Execute(BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT, sector, bufferBytes);
        zones = completion.Status == BlkStatus.VIRTIO_BLK_S_OK ? ZoneList.Read(Data(completion.Slot)[..(int)bufferBytes]) : [];
        return completion.Status;
    }

    /// <summary>Opens a zone, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus ZoneOpen(ulong zoneSector) => Execute(BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN, zoneSector, 0).Status;

    /// <summary>Closes a zone, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus ZoneClose(ulong zoneSector) => Execute(BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE, zoneSector, 0).Status;

    /// <summary>Finishes a zone: makes it full, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus ZoneFinish(ulong zoneSector) => Execute(BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH, zoneSector, 0).Status;

    /// <summary>Resets a zone: makes it empty, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus ZoneReset(ulong zoneSector) => Execute(BlkRequestType.VIRTIO_BLK_T_ZONE_RESET, zoneSector, 0).Status;

    /// <summary>Resets all zones, and waits for it.</summary>
    /// <exception cref="TimeoutException">The device did not answer in time.</exception>
    public BlkStatus ZoneResetAll() => Execute(BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL, 0, 0).Status;

    private BlkStatus ExecuteSegments(BlkRequestType type, ReadOnlySpan<BlkSegment> segments)
    {
        RequireIdle();
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(segments);
        bytes.CopyTo(Data(NextSlot));
        return Execute(type, 0, (uint)bytes.Length).Status;
    }

    /// <summary>Submits one request and waits for it; data is in, or comes to, the slot's buffer.</summary>
    /// <exception cref="InvalidOperationException">Something else is in flight.</exception>
    /// <exception cref="TimeoutException">The device did not answer in time; the request stays in flight.</exception>
    public BlkCompletion Execute(BlkRequestType type, ulong sector, uint dataBytes)
    {
        RequireIdle();
        return Finish(TrySubmit(type, sector, dataBytes, tag: 0), type, sector);
    }

    private BlkCompletion Finish(bool submitted, BlkRequestType type, ulong sector)
    {
        if (!submitted)
        {
            throw new InvalidOperationException($"A queue of {_ring.QueueSize} has no room for a request.");
        }

        Kick();
        return WaitForCompletion(Deadline.In(_timeoutMs)) && TryComplete(out BlkCompletion completion)
            ? completion
            : throw new TimeoutException($"The device did not answer {type} at sector {sector} within {_timeoutMs} ms.");
    }
}
