using System.Threading.Tasks.Dataflow;
using VirtioBlkFlow.Device.Pipeline;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Dataflow's contract of a target and of a source, message by message.</summary>
public sealed class ReactorBlockOfferTests : IDisposable
{
    private readonly ReactorThread _reactor = new();

    public void Dispose() => _reactor.Dispose();

    [Fact]
    public void Refuses_a_header_that_was_never_given_an_id()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Assert.Throws<ArgumentException>(() => ((ITargetBlock<int>)block).OfferMessage(default, 1, null, consumeToAccept: false));
    }

    [Fact]
    public void Refuses_to_consume_from_nobody()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Assert.Throws<ArgumentException>(() => ((ITargetBlock<int>)block).OfferMessage(new DataflowMessageHeader(1), 1, null, consumeToAccept: true));
    }

    [Fact]
    public void Consumes_from_the_source_where_that_is_how_to_accept()
    {
        var block = new TestBlock(_reactor.Scheduler);
        var source = new OneMessageSource(41);
        DataflowMessageStatus status = ((ITargetBlock<int>)block).OfferMessage(new DataflowMessageHeader(1), 40, source, consumeToAccept: true);
        Assert.Equal(DataflowMessageStatus.Accepted, status);
        _reactor.LetTurnsPass();
        Assert.Equal(1, source.Consumed);
        // Not what was offered counts but what was consumed.
        Assert.Equal([41], _reactor.Ask(() => block.Received.ToArray()));
    }

    [Fact]
    public void Does_not_take_what_the_source_gave_to_another()
    {
        var block = new TestBlock(_reactor.Scheduler);
        var source = new OneMessageSource(41) { IsGone = true };
        DataflowMessageStatus status = ((ITargetBlock<int>)block).OfferMessage(new DataflowMessageHeader(1), 41, source, consumeToAccept: true);
        Assert.Equal(DataflowMessageStatus.NotAvailable, status);
        _reactor.LetTurnsPass();
        Assert.Empty(_reactor.Ask(() => block.Received.ToArray()));
    }

    [Fact]
    public void Works_on_the_reactors_thread_whoever_posts()
    {
        var block = new TestBlock(_reactor.Scheduler) { PassesOn = false };
        Parallel.For(0, 100, i => Assert.True(block.Post(i)));
        Eventually.Holds(() => _reactor.Ask(() => block.Received.Count) == 100, "all were received");
        Assert.Equal(Enumerable.Range(0, 100), _reactor.Ask(() => block.Received.Order().ToArray()));
        Assert.Equal([_reactor.ManagedThreadId], _reactor.Ask(() => block.Threads.ToArray()));
    }

    [Fact]
    public void Between_two_blocks_of_a_reactor_a_message_is_a_method_call()
    {
        var first = new TestBlock(_reactor.Scheduler);
        var second = new TestBlock(_reactor.Scheduler) { PassesOn = false };
        first.LinkTo(second);
        int received = _reactor.Ask(() =>
        {
            ((IDirectTarget<int>)first).Receive(7);
            return second.Received.Count;
        });
        Assert.Equal(1, received);
    }

    [Fact]
    public void What_is_emitted_without_a_link_waits_and_can_be_received()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Post(block, 1, 2, 3, 4);
        Assert.True(block.TryReceive(item => item == 1, out int first));
        Assert.Equal(1, first);
        Assert.False(block.TryReceive(item => item == 4, out _));
        Assert.True(block.TryReceiveAll(out IList<int>? rest));
        Assert.Equal([2, 3, 4], rest);
        Assert.False(block.TryReceive(null, out _));
    }

    [Fact]
    public void Has_nothing_to_receive_before_it_emitted_something()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Assert.False(block.TryReceive(null, out _));
        Assert.False(block.TryReceiveAll(out IList<int>? all));
        Assert.Empty(all ?? []);
    }

    [Fact]
    public void A_target_can_reserve_a_message_and_consume_it()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Post(block, 5);
        var target = new PostponingTarget();
        block.LinkTo(target);
        Eventually.Holds(() => target.Offer != null, "the message is offered");
        (DataflowMessageHeader header, ISourceBlock<int> source) = target.Offer!.Value;
        Assert.True(source.ReserveMessage(header, target));
        // Reserved for one, it is no other's.
        Assert.False(((IReceivableSourceBlock<int>)block).TryReceive(null, out _));
        int message = source.ConsumeMessage(header, target, out bool consumed);
        Assert.True(consumed);
        Assert.Equal(5, message);
    }

    [Fact]
    public void A_released_reservation_leaves_the_message_to_others()
    {
        var block = new TestBlock(_reactor.Scheduler);
        Post(block, 5);
        var target = new PostponingTarget();
        IDisposable link = block.LinkTo(target);
        Eventually.Holds(() => target.Offer != null, "the message is offered");
        (DataflowMessageHeader header, ISourceBlock<int> source) = target.Offer!.Value;
        Assert.True(source.ReserveMessage(header, target));
        source.ReleaseReservation(header, target);
        link.Dispose();
        Assert.Equal(5, block.Receive(TimeSpan.FromMilliseconds(Eventually.PatienceMs)));
    }

    [Fact]
    public void The_block_itself_answers_for_what_it_offers()
    {
        var block = new TestBlock(_reactor.Scheduler);
        var target = new PostponingTarget();
        var header = new DataflowMessageHeader(1);
        Assert.False(block.ReserveMessage(header, target));
        block.ConsumeMessage(header, target, out bool consumed);
        Assert.False(consumed);
        Assert.Throws<InvalidOperationException>(() => block.ReleaseReservation(header, target));

        Post(block, 9);
        block.LinkTo(target);
        Eventually.Holds(() => target.Offer != null, "the message is offered");
        header = target.Offer!.Value.Header;
        Assert.True(block.ReserveMessage(header, target));
        block.ReleaseReservation(header, target);
        Assert.True(block.ReserveMessage(header, target));
        Assert.Equal(9, block.ConsumeMessage(header, target, out consumed));
        Assert.True(consumed);
    }

    private void Post(TestBlock block, params int[] messages)
    {
        foreach (int message in messages)
        {
            Assert.True(block.Post(message));
        }

        Eventually.Holds(() => _reactor.Ask(() => block.Received.Count) == messages.Length, "all were received");
    }

    /// <summary>Offers one message, which must be consumed.</summary>
    private sealed class OneMessageSource(int message) : ISourceBlock<int>
    {
        public bool IsGone { get; init; }

        public int Consumed { get; private set; }

        public Task Completion => Task.CompletedTask;

        public int ConsumeMessage(DataflowMessageHeader messageHeader, ITargetBlock<int> target, out bool messageConsumed)
        {
            Consumed++;
            messageConsumed = !IsGone;
            return message;
        }

        public bool ReserveMessage(DataflowMessageHeader messageHeader, ITargetBlock<int> target) => throw new NotSupportedException();

        public void ReleaseReservation(DataflowMessageHeader messageHeader, ITargetBlock<int> target) => throw new NotSupportedException();

        public IDisposable LinkTo(ITargetBlock<int> target, DataflowLinkOptions linkOptions) => throw new NotSupportedException();

        public void Complete() => throw new NotSupportedException();

        public void Fault(Exception exception) => throw new NotSupportedException();
    }

    /// <summary>Postpones what it is offered, and remembers it.</summary>
    private sealed class PostponingTarget : ITargetBlock<int>
    {
        private volatile Tuple<DataflowMessageHeader, ISourceBlock<int>>? _offer;

        public (DataflowMessageHeader Header, ISourceBlock<int> Source)? Offer => _offer is { } offer ? (offer.Item1, offer.Item2) : null;

        public Task Completion => Task.CompletedTask;

        public DataflowMessageStatus OfferMessage(
            DataflowMessageHeader messageHeader, int messageValue, ISourceBlock<int>? source, bool consumeToAccept)
        {
            _offer = Tuple.Create(messageHeader, source!);
            return DataflowMessageStatus.Postponed;
        }

        public void Complete()
        {
        }

        public void Fault(Exception exception)
        {
        }
    }
}
