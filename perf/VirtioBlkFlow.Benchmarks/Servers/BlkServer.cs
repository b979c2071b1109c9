namespace VirtioBlkFlow.Benchmarks.Servers;

/// <summary>A device that serves a ring turn by turn, on the thread that made it.</summary>
internal abstract class BlkServer : IDisposable
{
    /// <summary>Requests popped and not returned yet.</summary>
    public abstract int InFlightCount { get; }

    /// <summary>Takes what is available, starts it, returns what has ended.</summary>
    public abstract void Turn();

    /// <inheritdoc/>
    public abstract void Dispose();
}
