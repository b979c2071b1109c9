using VirtioBlkFlow.Device.Pipeline;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>A reactor's block that passes on what it gets, and notes on which thread.</summary>
internal sealed class TestBlock(TaskScheduler scheduler, string name = "test[0]") : ReactorBlock<int, int>(name, scheduler)
{
    private readonly List<int> _received = [];

    /// <summary>What makes it throw.</summary>
    public int? Poison { get; init; }

    public bool PassesOn { get; init; } = true;

    public bool MayDrop { get; init; }

    /// <summary>Work that keeps it from completing.</summary>
    public bool Busy { get; set; }

    public HashSet<int> Threads { get; } = [];

    /// <summary>What it received so far; ask on the reactor's thread.</summary>
    public IReadOnlyList<int> Received => _received;

    protected override bool IsBusy => Busy;

    protected override bool DropsWhenUnlinked => MayDrop;

    /// <summary>The work ended; on the reactor's thread.</summary>
    public void EndWork()
    {
        Busy = false;
        TryFinish();
    }

    protected override void Process(int message)
    {
        Threads.Add(Environment.CurrentManagedThreadId);
        if (message == Poison)
        {
            throw new InvalidDataException($"{message} is poison.");
        }

        _received.Add(message);
        if (PassesOn)
        {
            Emit(message);
        }
    }
}
