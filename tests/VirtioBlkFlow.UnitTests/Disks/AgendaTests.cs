using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Frontend;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

public sealed class AgendaTests
{
    private readonly Recorder _recorder = new();

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void A_sleep_without_end_ends_when_a_time_has_come(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        long start = engine.Agenda.NowNs;
        engine.Agenda.After(_recorder, 7, 3_000_000);
        engine.Agenda.After(_recorder, 8, 1_000_000);
        Assert.Equal([8, 7], Reap(engine, 2, timeoutNs: -1));
        Assert.True(engine.Agenda.NowNs - start >= 3_000_000, "No call comes early.");
        Assert.False(engine.HasCompletions);
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void A_time_far_away_makes_no_sleep_longer(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        engine.Agenda.After(_recorder, 7, long.MaxValue);
        engine.Wait(1_000_000);
        Assert.Equal(0, engine.Reap(new IoCompletion[4]));
        Assert.Empty(_recorder.Tokens);
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void Another_thread_has_something_called_on_this_one(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        int owner = Environment.CurrentManagedThreadId;
        var threads = new List<int>();
        var poster = new Thread(() =>
        {
            for (int i = 0; i < 100; i++)
            {
                engine.Agenda.Post(() => threads.Add(Environment.CurrentManagedThreadId));
            }
        });
        poster.Start();
        Deadline deadline = Deadline.In(30_000);
        while (threads.Count < 100)
        {
            Assert.False(deadline.HasPassed, $"{threads.Count} of 100 calls came.");
            engine.Wait(-1);
            engine.Reap(new IoCompletion[4]);
        }

        poster.Join();
        Assert.All(threads, thread => Assert.Equal(owner, thread));
    }

    [Theory]
    [InlineData(IoEngineKind.IoUring)]
    [InlineData(IoEngineKind.Threads)]
    public void What_is_due_is_reported_so_that_the_owner_goes_on(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        engine.Agenda.After(_recorder, 1, 0);
        Assert.True(SpinWait.SpinUntil(() => engine.HasCompletions, 30_000));
        var completions = new IoCompletion[1];
        Assert.Equal(1, engine.Reap(completions));
        Assert.Equal(IoCompletionKind.Signal, completions[0].Kind);
        Assert.Equal([1], _recorder.Tokens);
    }

    [Fact]
    public void Calls_come_at_their_time_and_in_order()
    {
        var engine = new FakeEngine();
        engine.Agenda.After(_recorder, 3, 300);
        engine.Agenda.After(_recorder, 1, 100);
        engine.Agenda.After(_recorder, 2, 200);
        Assert.Equal(100, engine.Agenda.LimitSleep(-1));
        Assert.Equal(50, engine.Agenda.LimitSleep(50));
        Pass(engine, 99);
        Assert.False(engine.Agenda.HasDue);
        Assert.Empty(_recorder.Tokens);
        Pass(engine, 1);
        Assert.Equal([1], _recorder.Tokens);
        Pass(engine, 500);
        Assert.Equal([1, 2, 3], _recorder.Tokens);
        Assert.Equal(-1, engine.Agenda.LimitSleep(-1));
    }

    [Fact]
    public void What_was_taken_back_is_not_called()
    {
        var engine = new FakeEngine();
        var other = new Recorder();
        engine.Agenda.After(_recorder, 1, 100);
        engine.Agenda.After(_recorder, 2, 200);
        engine.Agenda.After(other, 1, 150);
        Assert.True(engine.Agenda.Cancel(_recorder, 1));
        Assert.False(engine.Agenda.Cancel(_recorder, 1));
        Assert.Equal(150, engine.Agenda.LimitSleep(-1));
        engine.Agenda.After(_recorder, 3, 100);
        engine.Agenda.Forget(_recorder);
        Assert.Equal(150, engine.Agenda.LimitSleep(-1));
        Pass(engine, 1000);
        Assert.Empty(_recorder.Tokens);
        Assert.Equal([1], other.Tokens);
    }

    [Fact]
    public void A_call_that_asks_for_another_one_at_once_waits_for_the_next_round()
    {
        var engine = new FakeEngine();
        _recorder.OnCall = token => engine.Agenda.After(_recorder, token + 1, 0);
        engine.Agenda.After(_recorder, 1, 0);
        Pass(engine, 0);
        Assert.Equal([1], _recorder.Tokens);
        Pass(engine, 0);
        Assert.Equal([1, 2], _recorder.Tokens);
    }

    [Fact]
    public void A_call_costs_no_allocation()
    {
        var engine = new FakeEngine();
        var silent = new Silent();
        int asked = 0;
        Assert.Equal(0, Allocations.LeastOf(() =>
        {
            for (int i = 0; i < 100; i++)
            {
                engine.Agenda.After(silent, i, i);
                asked++;
            }

            engine.Clock.NowNs += 1000;
            engine.Agenda.Run();
        }));
        Assert.Equal(asked, silent.Count);
    }

    private static void Pass(FakeEngine engine, long nanoseconds)
    {
        engine.Clock.NowNs += nanoseconds;
        engine.Agenda.Run();
    }

    private int[] Reap(IIoEngine engine, int count, long timeoutNs)
    {
        Deadline deadline = Deadline.In(30_000);
        while (_recorder.Tokens.Count < count)
        {
            Assert.False(deadline.HasPassed, $"{_recorder.Tokens.Count} of {count} calls came.");
            engine.Wait(timeoutNs);
            engine.Reap(new IoCompletion[4]);
        }

        return [.. _recorder.Tokens];
    }

    private sealed class Recorder : IAgendaEntry
    {
        public List<int> Tokens { get; } = [];

        public Action<int>? OnCall { get; set; }

        public void OnTime(int token)
        {
            Tokens.Add(token);
            OnCall?.Invoke(token);
        }
    }

    private sealed class Silent : IAgendaEntry
    {
        public int Count { get; private set; }

        public void OnTime(int token) => Count++;
    }
}
