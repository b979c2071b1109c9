using System.Numerics;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>
/// An export of an NBD server as a disk. Connections are made and tried again by a thread of the disk; requests go over them by the engines of
/// the queues, from and to guest memory. Shared by all queues.
/// </summary>
public sealed class NbdDisk : IDisk
{
    // Sizes of blocks there are in the protocol and that can be shown to a guest: "Block size constraints"; physical ones are limited by us.
    private const uint SectorBytes = 512;
    private const uint MostBlockBytes = 64 << 10;

    // What servers that say nothing prefer ("Block size constraints").
    private const uint DefaultPreferredBytes = 4096;

    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;
    private bool _isClosed;

    private NbdDisk(NbdDiskOptions options, NbdSession first)
    {
        Options = options;
        NbdExport export = first.Export;
        _properties = PropertiesOf(export, options.ReadOnly);
        MaxPayloadBytes = MaxPayloadOf(export, _properties.LogicalBlockBytes);
        Durability = new NbdDurability(!_properties.ReadOnly && !options.ServerKeepsWrites);
        Pool = new NbdPool(options, Durability, FindChange, first);
    }

    /// <inheritdoc/>
    public DiskProperties Properties => _properties;

    internal NbdDiskOptions Options { get; }

    internal NbdPool Pool { get; }

    internal NbdDurability Durability { get; }

    /// <summary>Largest transfer of one command; a multiple of the block size.</summary>
    internal uint MaxPayloadBytes { get; }

    /// <summary>Connects to a server and opens an export.</summary>
    /// <exception cref="DiskOpenException">There is no server, no such export, or none that can be a disk.</exception>
    public static NbdDisk Open(NbdDiskOptions options)
    {
        NbdSession session;
        try
        {
            session = NbdSession.Connect(options.Address!, NbdPool.PatienceOf(options), generation: 0, sizeVersion: 0);
        }
        catch (DiskOpenException exception)
        {
            throw new DiskOpenException($"Cannot open '{options.Address}': {exception.Message}", exception);
        }
        catch (IOException exception)
        {
            throw new DiskOpenException($"Cannot open '{options.Address}': {exception.Message} Check that the server runs and listens there.", exception);
        }

        if ((FindFault(session.Export) ?? FindFaultOfSize(session.Export)) is { } fault)
        {
            session.EndPolitely();
            throw new DiskOpenException($"Cannot open '{options.Address}': {fault}");
        }

        return new NbdDisk(options, session);
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new NbdDiskQueue(this, engine, completions, slotCount);

    /// <summary>Asks the server, on a connection that no queue has; waits for it as long as one may take to answer.</summary>
    public DiskOutcome Flush()
    {
        if (_properties.ReadOnly)
        {
            return DiskOutcome.Done;
        }

        // A connection that was idle may have ended without anybody's notice.
        for (int attempt = 0; attempt < 2 && !Durability.IsLost; attempt++)
        {
            if (TakeSession() is not { } session)
            {
                return DiskOutcome.Failed;
            }

            if (TryFlush(session) is { } outcome)
            {
                Pool.Release(session);
                return outcome;
            }
        }

        return DiskOutcome.Failed;
    }

    /// <summary>
    /// Asks the server on a new connection how large the export is: the terms of one hold as long as it does. A server that lets us have but
    /// one connection has it replaced, once what was written over it is flushed.
    /// </summary>
    public DiskResize Refresh()
    {
        DiskProperties before = _properties;
        if (Ask() is not { } export)
        {
            // Who does not answer has no size; requests fail by themselves.
            return new DiskResize(before.CapacityBytes, before.CapacityBytes, 0);
        }

        ulong unusedBytes = export.SizeBytes % before.LogicalBlockBytes;
        var resize = new DiskResize(before.CapacityBytes, export.SizeBytes - unusedBytes, unusedBytes);
        if (resize.NewBytes != resize.OldBytes)
        {
            _properties = before with { CapacityBytes = resize.NewBytes };
            Pool.RenewForSize();
        }

        return resize;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_isClosed)
        {
            _isClosed = true;
            Pool.Dispose();
        }
    }

    // Null if there is none, or none that comes free in time.
    private NbdSession? TakeSession() => Pool.IsGivenUp ? null : Pool.Take(NbdPool.PatienceOf(Options));

    // Null if the connection is lost.
    private DiskOutcome? TryFlush(NbdSession session)
    {
        if (!session.Export.CanFlush)
        {
            return DiskOutcome.Done;
        }

        try
        {
            long epoch = Durability.BeginFlush();
            if (!session.Flush(NbdPool.PatienceOf(Options)))
            {
                Durability.Lose();
            }
            else if (session.Generation == Durability.Generation)
            {
                Durability.EndFlush(epoch);
            }

            return Durability.IsLost || session.Generation != Durability.Generation ? DiskOutcome.Failed : DiskOutcome.Done;
        }
        catch (IOException exception)
        {
            Pool.Lose(session, exception.Message);
            return null;
        }
    }

    private NbdExport? Ask()
    {
        NbdSession? old = null;
        try
        {
            if (!Pool.AllowsSeveral && !Pool.IsDown)
            {
                old = TakeSession();
                if (old == null || TryFlush(old) is null)
                {
                    return null;
                }

                old.EndPolitely();
            }

            NbdSession session = Pool.Connect();
            if (old == null)
            {
                Pool.Add(session);
            }
            else
            {
                Pool.Replace(old, session);
            }

            return session.Export;
        }
        catch (Exception exception) when (exception is IOException or DiskOpenException)
        {
            if (old != null)
            {
                Pool.Replace(old, null);
            }

            return null;
        }
    }

    // What makes an export none of this disk, as a sentence: what was promised to guests, or is known to the queues, must stay.
    private string? FindChange(NbdExport export) =>
        FindFault(export)
        ?? (Math.Max(export.MinBlockBytes, SectorBytes) > _properties.LogicalBlockBytes ? "The blocks of the export have grown."
            : export.IsReadOnly && !_properties.ReadOnly ? "The export has become read-only."
            : MaxPayloadOf(export, _properties.LogicalBlockBytes) < MaxPayloadBytes ? "The server takes smaller transfers than before."
            : null);

    private static string? FindFault(NbdExport export)
    {
        uint block = Math.Max(export.MinBlockBytes, SectorBytes);
        if (!BitOperations.IsPow2(export.MinBlockBytes) || block > MostBlockBytes || export.MaxPayloadBytes < block)
        {
            return $"Blocks of {export.MinBlockBytes} bytes and transfers of at most {export.MaxPayloadBytes} fit no disk. Let the server offer others.";
        }

        return null;
    }

    private static string? FindFaultOfSize(NbdExport export)
    {
        uint block = Math.Max(export.MinBlockBytes, SectorBytes);
        if (export.SizeBytes == 0 || export.SizeBytes > long.MaxValue)
        {
            return $"Its size, {export.SizeBytes} bytes, is none a disk can have. Give it another one.";
        }

        if (export.SizeBytes % block != 0)
        {
            return $"Its size, {export.SizeBytes} bytes, is not a multiple of its block size of {block}. Pad it to {((export.SizeBytes / block) + 1) * block} bytes.";
        }

        return null;
    }

    private static DiskProperties PropertiesOf(NbdExport export, bool isReadOnly)
    {
        uint logical = Math.Max(export.MinBlockBytes, SectorBytes);
        uint preferred = export.PreferredBlockBytes == 0 ? DefaultPreferredBytes : export.PreferredBlockBytes;
        preferred = BitOperations.IsPow2(preferred) ? Math.Min(preferred, MostBlockBytes) : DefaultPreferredBytes;
        bool readOnly = isReadOnly || export.IsReadOnly;
        return new DiskProperties
        {
            CapacityBytes = export.SizeBytes,
            LogicalBlockBytes = logical,
            PhysicalBlockBytes = Math.Max(logical, preferred),
            ReadOnly = readOnly,
            CanDiscard = !readOnly && export.CanTrim,
            CanWriteZeroes = !readOnly && export.CanWriteZeroes,
        };
    }

    // Servers may say 2^32 - 1 for "as much as you like": we like what they take without saying so.
    private static uint MaxPayloadOf(NbdExport export, uint blockBytes) =>
        Math.Min(export.MaxPayloadBytes, NbdWire.DefaultMaxPayloadBytes) / blockBytes * blockBytes;
}
