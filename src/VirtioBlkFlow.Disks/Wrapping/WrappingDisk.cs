using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Health;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>A disk in front of another one, which belongs to it. It is like that one in all that a derived class does not change.</summary>
/// <param name="inner">The other one.</param>
public abstract class WrappingDisk(IDisk inner) : IDisk
{
    /// <inheritdoc/>
    public event Action? SizeChanged
    {
        add => Inner.SizeChanged += value;
        remove => Inner.SizeChanged -= value;
    }

    /// <inheritdoc/>
    public virtual DiskProperties Properties => Inner.Properties;

    /// <inheritdoc/>
    public virtual DiskLifetime? Lifetime => Inner.Lifetime;

    /// <inheritdoc/>
    public virtual HealthMonitor? Health => Inner.Health;

    /// <summary>The disk behind this one.</summary>
    protected IDisk Inner { get; } = inner;

    /// <inheritdoc/>
    public virtual DiskResize Refresh() => Inner.Refresh();

    /// <inheritdoc/>
    public abstract IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount);

    /// <inheritdoc/>
    public virtual DiskOutcome Flush() => Inner.Flush();

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Close())
        {
            Inner.Dispose();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>Gives up what is this one's own, before the disk behind is disposed. May be called twice.</summary>
    /// <returns>Whether the disk behind may be disposed: nothing of this one uses it any more.</returns>
    protected virtual bool Close() => true;
}
