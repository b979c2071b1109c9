using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Disks.Wrapping;

/// <summary>What becomes of a request that still fails when it was tried often enough.</summary>
public enum LastResort
{
    /// <summary>The guest hears of the error.</summary>
    Report,

    /// <summary>It is held until <see cref="ErrorPolicyDisk.Resume"/>, and then tried again.</summary>
    Hold,

    /// <summary>It is held if the storage is full; any other error is reported.</summary>
    HoldNoSpace,
}

/// <summary>What to do about errors.</summary>
/// <param name="Retries">How often a request that failed is tried again; 0 for never.</param>
/// <param name="RetryDelay">Time before each of them.</param>
/// <param name="Then">What becomes of it after the last one.</param>
/// <param name="HeldChanged">Hears how many requests are held whenever that changes; on a queue's thread.</param>
public sealed record ErrorPolicyOptions(int Retries = 0, TimeSpan RetryDelay = default, LastResort Then = LastResort.Report, Action<int>? HeldChanged = null);

/// <summary>
/// Decides what becomes of errors of another disk. Reads, writes, discards, zeroings and erasures are tried again; a flush is not, because a
/// success after a failure says nothing about the writes before (fsync(2), "ERRORS"), and neither is what depends on the state of a zone.
/// </summary>
public sealed class ErrorPolicyDisk : WrappingDisk
{
    private readonly OpenQueues _queues = new();
    private int _heldCount;

    private ErrorPolicyDisk(IDisk inner, ErrorPolicyOptions options)
        : base(inner) => Options = options;

    /// <summary>Requests that are held now. From any thread.</summary>
    public int HeldCount => Volatile.Read(ref _heldCount);

    internal ErrorPolicyOptions Options { get; }

    /// <summary>Puts a policy before a disk.</summary>
    /// <param name="inner">Belongs to this one from now on, also if this fails.</param>
    /// <param name="options">The policy.</param>
    /// <exception cref="DiskOpenException">It cannot be meant so.</exception>
    public static ErrorPolicyDisk Open(IDisk inner, ErrorPolicyOptions options)
    {
        if (options.Retries < 0 || options.RetryDelay < TimeSpan.Zero)
        {
            inner.Dispose();
            throw new DiskOpenException("Retries and their delay cannot be negative. Give 0 for none.");
        }

        return new ErrorPolicyDisk(inner, options);
    }

    /// <summary>What is held is tried again, as often as a new request. From any thread.</summary>
    public void Resume() => _queues.PostAll();

    /// <inheritdoc/>
    public override IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new ErrorPolicyQueue(this, Inner, engine, completions, slotCount);

    internal void Add(EngineAgenda agenda, Action call) => _queues.Add(agenda, call);

    internal void Remove(Action call) => _queues.Remove(call);

    internal void CountHeld(int change)
    {
        int now = Interlocked.Add(ref _heldCount, change);
        Options.HeldChanged?.Invoke(now);
    }
}
