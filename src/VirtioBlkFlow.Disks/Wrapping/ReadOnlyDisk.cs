using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>Lets nothing through to another disk that would change it.</summary>
public sealed class ReadOnlyDisk : WrappingDisk
{
    // Replaced as a whole by Refresh on the control path, read by every queue.
    private volatile DiskProperties _properties;

    /// <summary>Makes a disk read-only.</summary>
    /// <param name="inner">Belongs to this one from now on.</param>
    public ReadOnlyDisk(IDisk inner)
        : base(inner) => _properties = Restrict(inner.Properties);

    /// <inheritdoc/>
    public override DiskProperties Properties => _properties;

    /// <inheritdoc/>
    public override DiskResize Refresh()
    {
        DiskResize resize = Inner.Refresh();
        _properties = Restrict(Inner.Properties);
        return resize;
    }

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new Queue(Inner.OpenQueue(engine, completions, slotCount), completions);

    private static DiskProperties Restrict(DiskProperties properties) =>
        properties with { ReadOnly = true, CanDiscard = false, CanWriteZeroes = false, CanSecureErase = false };

    private sealed class Queue(IDiskQueue inner, IDiskCompletions completions) : IDiskQueue
    {
        public void Submit(int slot, in DiskRequest request)
        {
            switch (request.Operation)
            {
                case DiskOperation.Read:
                case DiskOperation.Flush:
                case DiskOperation.ZoneReport:
                    inner.Submit(slot, in request);
                    break;
                case DiskOperation.Discard:
                case DiskOperation.WriteZeroes:
                case DiskOperation.SecureErase:
                    completions.OnCompleted(slot, DiskOutcome.Unsupported);
                    break;
                default:
                    completions.OnCompleted(slot, DiskOutcome.Failed);
                    break;
            }
        }

        public void OnIoCompleted(int slot, int result) => inner.OnIoCompleted(slot, result);

        public bool EndHeld() => inner.EndHeld();

        public void Dispose() => inner.Dispose();
    }
}
