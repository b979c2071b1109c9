using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Device.Pipeline;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Dataflow's contract of links and of the end of a block.</summary>
public sealed class ReactorBlockLinkTests : IDisposable
{
    private static readonly DataflowLinkOptions s_propagate = new() { PropagateCompletion = true };
    private readonly ReactorThread _reactor = new();

    public void Dispose() => _reactor.Dispose();

    public static TheoryData<bool> NearAndFar => new() { true, false };

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void A_link_with_a_maximum_ends_after_that_many(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var first = new Sink(_reactor, near);
        var rest = new Sink(_reactor, near);
        block.LinkTo(first.Target, new DataflowLinkOptions { MaxMessages = 2 });
        block.LinkTo(rest.Target);
        Post(block, 1, 2, 3, 4);
        first.Receives(1, 2);
        rest.Receives(3, 4);
    }

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void A_link_can_be_put_before_those_there_are(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var first = new Sink(_reactor, near);
        var early = new Sink(_reactor, near);
        block.LinkTo(first.Target);
        block.LinkTo(early.Target, new DataflowLinkOptions { Append = false, MaxMessages = 1 });
        Post(block, 1, 2);
        early.Receives(1);
        first.Receives(2);
    }

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void The_first_of_two_links_takes_everything(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var first = new Sink(_reactor, near);
        var second = new Sink(_reactor, near);
        block.LinkTo(first.Target);
        block.LinkTo(second.Target);
        Post(block, 1, 2, 3);
        first.Receives(1, 2, 3);
        second.Receives();
    }

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void A_predicate_chooses_the_link(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var even = new Sink(_reactor, near);
        var odd = new Sink(_reactor, near);
        block.LinkTo(even.Target, item => item % 2 == 0);
        block.LinkTo(odd.Target);
        Post(block, 1, 2, 3, 4);
        even.Receives(2, 4);
        odd.Receives(1, 3);
    }

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void What_is_emitted_after_unlinking_waits_for_the_next_link(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var first = new Sink(_reactor, near);
        var second = new Sink(_reactor, near);
        IDisposable link = block.LinkTo(first.Target);
        Post(block, 1);
        first.Receives(1);
        link.Dispose();
        link.Dispose();
        Post(block, 2);
        block.LinkTo(second.Target);
        Post(block, 3);
        second.Receives(2, 3);
        first.Receives(1);
    }

    [Fact]
    public void A_direct_link_that_became_an_ordinary_one_can_be_unlinked()
    {
        var block = new TestBlock(_reactor.Scheduler);
        var first = new Sink(_reactor, near: true);
        var second = new Sink(_reactor, near: false);
        IDisposable link = block.LinkTo(first.Target);
        block.LinkTo(second.Target);
        Post(block, 1);
        first.Receives(1);
        link.Dispose();
        Post(block, 2);
        second.Receives(2);
        first.Receives(1);
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void Completion_goes_along_a_link_that_is_asked_to(bool near, bool propagate)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var sink = new Sink(_reactor, near);
        block.LinkTo(sink.Target, new DataflowLinkOptions { PropagateCompletion = propagate });
        Post(block, 1);
        sink.Receives(1);
        block.Complete();
        Eventually.Ends(block.Completion, "the block completes");
        if (propagate)
        {
            Eventually.Ends(sink.Target.Completion, "the target completes");
            Assert.False(sink.Target.Post(2));
        }
        else
        {
            Assert.True(sink.Target.Post(2));
            sink.Receives(1, 2);
        }
    }

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void A_link_made_after_the_end_tells_its_target_of_it(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler);
        block.Complete();
        Eventually.Ends(block.Completion, "the block completes");
        var sink = new Sink(_reactor, near);
        block.LinkTo(sink.Target, s_propagate);
        Eventually.Ends(sink.Target.Completion, "the target completes");
    }

    [Fact]
    public void A_complete_block_declines_for_good()
    {
        var block = new TestBlock(_reactor.Scheduler);
        block.Complete();
        block.Complete();
        Eventually.Ends(block.Completion, "the block completes");
        Assert.Equal(
            DataflowMessageStatus.DecliningPermanently,
            ((ITargetBlock<int>)block).OfferMessage(new DataflowMessageHeader(1), 1, null, consumeToAccept: false));
        Assert.False(block.Post(1));
    }

    [Fact]
    public void What_was_accepted_before_the_end_is_worked_on()
    {
        var block = new TestBlock(_reactor.Scheduler);
        var sink = new Sink(_reactor, near: false);
        block.LinkTo(sink.Target, s_propagate);
        using var hold = new ManualResetEventSlim();
        Task held = Task.Factory.StartNew(() => hold.Wait(Eventually.PatienceMs), CancellationToken.None, TaskCreationOptions.None, _reactor.Scheduler);
        for (int i = 0; i < 100; i++)
        {
            Assert.True(block.Post(i));
        }

        block.Complete();
        Assert.False(block.Post(100));
        hold.Set();
        Eventually.Ends(held, "the reactor goes on");
        Eventually.Ends(sink.Target.Completion, "the target completes");
        sink.Receives([.. Enumerable.Range(0, 100)]);
        Assert.True(block.Completion.IsCompletedSuccessfully);
    }

    [Fact]
    public void Completion_waits_for_what_is_still_going_on()
    {
        var block = new TestBlock(_reactor.Scheduler) { Busy = true };
        block.Complete();
        _reactor.LetTurnsPass();
        Assert.False(block.Completion.IsCompleted);
        _reactor.Run(block.EndWork);
        Eventually.Ends(block.Completion, "the block completes");
    }

    [Fact]
    public void Completion_waits_for_what_is_still_offered()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Post(block, 1);
        block.Complete();
        _reactor.LetTurnsPass();
        Assert.False(block.Completion.IsCompleted);
        Assert.Equal(1, block.Receive(TimeSpan.FromMilliseconds(Eventually.PatienceMs)));
        Eventually.Ends(block.Completion, "the block completes");
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void A_fault_ends_the_block_and_goes_along_links_that_are_asked_to(bool near, bool propagate)
    {
        var block = new TestBlock(_reactor.Scheduler);
        var sink = new Sink(_reactor, near);
        block.LinkTo(sink.Target, new DataflowLinkOptions { PropagateCompletion = propagate });
        block.Fault(new InvalidDataException("first"));
        block.Fault(new InvalidDataException("second"));
        AssertFaulted(block.Completion, "first");
        Assert.False(block.Post(1));
        if (propagate)
        {
            AssertFaulted(sink.Target.Completion, "first");
        }
        else
        {
            Assert.True(sink.Target.Post(2));
        }
    }

    [Fact]
    public void A_fault_throws_away_what_was_accepted()
    {
        var block = new TestBlock(_reactor.Scheduler);
        using var hold = new ManualResetEventSlim();
        Task held = Task.Factory.StartNew(() => hold.Wait(Eventually.PatienceMs), CancellationToken.None, TaskCreationOptions.None, _reactor.Scheduler);
        Assert.True(block.Post(1));
        block.Fault(new InvalidDataException("over"));
        hold.Set();
        Eventually.Ends(held, "the reactor goes on");
        AssertFaulted(block.Completion, "over");
        _reactor.LetTurnsPass();
        Assert.Empty(_reactor.Ask(() => block.Received.ToArray()));
    }

    [Theory]
    [MemberData(nameof(NearAndFar))]
    public void A_block_that_throws_is_faulted_and_says_why(bool near)
    {
        var block = new TestBlock(_reactor.Scheduler) { Poison = 3 };
        var sink = new Sink(_reactor, near);
        block.LinkTo(sink.Target, s_propagate);
        foreach (int message in new[] { 1, 2, 3, 4 })
        {
            block.Post(message);
        }

        AssertFaulted(block.Completion, "3 is poison.");
        Assert.IsType<InvalidDataException>(block.FaultReason);
        AssertFaulted(sink.Target.Completion, "3 is poison.");
        Assert.Equal([1, 2], _reactor.Ask(() => block.Received.ToArray()));
    }

    [Fact]
    public void A_fault_after_the_end_changes_nothing()
    {
        var block = new TestBlock(_reactor.Scheduler);
        block.Complete();
        Eventually.Ends(block.Completion, "the block completes");
        block.Fault(new InvalidDataException("late"));
        _reactor.LetTurnsPass();
        Assert.True(block.Completion.IsCompletedSuccessfully);
        Assert.Null(block.FaultReason);
    }

    [Fact]
    public void What_may_be_dropped_does_not_pile_up_after_a_link_has_ended()
    {
        var block = new TestBlock(_reactor.Scheduler) { MayDrop = true };
        Post(block, 1);
        Assert.False(block.TryReceive(null, out _));
        var sink = new Sink(_reactor, near: false);
        block.LinkTo(sink.Target, new DataflowLinkOptions { MaxMessages = 1 });
        Post(block, 2);
        sink.Receives(2);
        _reactor.Run(() =>
        {
            for (int i = 0; i < 3 * TestBlock.MaxDroppableMessages; i++)
            {
                ((IDirectTarget<int>)block).Receive(i);
            }
        });
        Assert.True(block.TryReceiveAll(out IList<int>? left));
        Assert.Equal(TestBlock.MaxDroppableMessages, left.Count);
    }

    [Fact]
    public void Refuses_what_is_null()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Assert.Throws<ArgumentNullException>(() => block.Fault(null!));
        Assert.Throws<ArgumentNullException>(() => ((ISourceBlock<int>)block).LinkTo(null!, s_propagate));
        Assert.Throws<ArgumentNullException>(() => block.LinkTo(block, null!));
    }

    private static void AssertFaulted(Task completion, string message)
    {
        Eventually.Holds(() => completion.IsCompleted, "the completion ends");
        Assert.Contains(completion.Exception!.Flatten().InnerExceptions, exception => exception.Message == message);
    }

    private void Post(TestBlock block, params int[] messages)
    {
        int before = _reactor.Ask(() => block.Received.Count);
        foreach (int message in messages)
        {
            Assert.True(block.Post(message));
        }

        Eventually.Holds(() => _reactor.Ask(() => block.Received.Count) == before + messages.Length, "all were received");
    }

    /// <summary>A target that keeps what it gets: near is a block of the same reactor, far a stock block.</summary>
    private sealed class Sink
    {
        private readonly ReactorThread _reactor;
        private readonly Func<int[]> _received;

        public Sink(ReactorThread reactor, bool near)
        {
            _reactor = reactor;
            if (near)
            {
                var block = new TestBlock(reactor.Scheduler, "sink") { PassesOn = false };
                _received = () => [.. block.Received];
                Target = block;
            }
            else
            {
                List<int> list = [];
                Target = new ActionBlock<int>(list.Add, new ExecutionDataflowBlockOptions { TaskScheduler = reactor.Scheduler });
                _received = () => [.. list];
            }
        }

        public ITargetBlock<int> Target { get; }

        public void Receives(params int[] expected)
        {
            Eventually.Holds(() => _reactor.Ask(_received).Length >= expected.Length, $"{expected.Length} messages arrive");
            _reactor.LetTurnsPass();
            Assert.Equal(expected, _reactor.Ask(_received));
        }
    }
}
