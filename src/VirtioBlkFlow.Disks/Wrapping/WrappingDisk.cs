using VirtioBlkFlow.Disks.Engine;

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
    public DiskLifetime? Lifetime => Inner.Lifetime;

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
        Inner.Dispose();
        GC.SuppressFinalize(this);
    }
}
