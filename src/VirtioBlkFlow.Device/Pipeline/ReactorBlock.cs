namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>A target that takes messages directly: on its reactor's thread, inline, always.</summary>
/// <typeparam name="T">The message.</typeparam>
internal interface IDirectTarget<in T>
{
    /// <summary>The scheduler whose thread runs the target.</summary>
    TaskScheduler Scheduler { get; }

    /// <summary>Takes a message, on the reactor's thread.</summary>
    void Receive(T message);
}

/// <summary>
/// A Dataflow block that runs on its queue's reactor. Between two of these that are linked plainly, a message is a method call: 5 ns, no
/// allocation. Towards any other block it keeps the full contract of Dataflow by way of stock blocks on the reactor's scheduler: an
/// <see cref="ActionBlock{TInput}"/> takes what is offered (from any thread, consumed or reserved or postponed as the source wishes), a
/// <see cref="BufferBlock{T}"/> offers what is emitted. They exist only where such a link was made.
/// </summary>
/// <typeparam name="TInput">What it takes.</typeparam>
/// <typeparam name="TOutput">What it gives.</typeparam>
public abstract class ReactorBlock<TInput, TOutput> : IPropagatorBlock<TInput, TOutput>, IReceivableSourceBlock<TOutput>, IDirectTarget<TInput>
{
    /// <summary>How far behind a target may be before messages that may be dropped are dropped. Arbitrary; a second's worth.</summary>
    internal const int MaxDroppableMessages = 1 << 16;

    // Fixed at construction.
    private readonly TaskScheduler _scheduler;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Guards the making of links and the change to completion; never taken on the direct path.
    private readonly Lock _linking = new();

    // Shared: written under the lock, read by the reactor's thread without it.
    private volatile DirectLink? _direct;
    private volatile BufferBlock<TOutput>? _outbox;
    private ActionBlock<TInput>? _inbox;
    private volatile bool _declines;
    private Exception? _fault;

    /// <summary>Creates a block.</summary>
    /// <param name="name">For logs and debuggers.</param>
    /// <param name="scheduler">Runs tasks on the reactor's thread, and inline when that thread asks.</param>
    protected ReactorBlock(string name, TaskScheduler scheduler)
    {
        Name = name;
        _scheduler = scheduler;
    }

    /// <summary>Name of the block, such as <c>parse[0]</c>.</summary>
    public string Name { get; }

    /// <inheritdoc/>
    public Task Completion => _completion.Task;

    TaskScheduler IDirectTarget<TInput>.Scheduler => _scheduler;

    /// <summary>Why the block is faulted, if it is.</summary>
    internal Exception? FaultReason => Volatile.Read(ref _fault);

    /// <summary>Whether what is emitted without a link is dropped; otherwise it waits for one.</summary>
    protected virtual bool DropsWhenUnlinked => false;

    /// <summary>Whether something this block started is still going on, so that it cannot complete yet.</summary>
    protected virtual bool IsBusy => false;

    void IDirectTarget<TInput>.Receive(TInput message)
    {
        if (_declines)
        {
            // Somebody completed the block while the queue runs. What is lost here would never be answered: the queue counts as broken.
            Interlocked.CompareExchange(ref _fault, new InvalidOperationException($"{Name} was completed while messages still came."), null);
            return;
        }

        Run(message);
    }

    /// <inheritdoc/>
    public DataflowMessageStatus OfferMessage(
        DataflowMessageHeader messageHeader, TInput messageValue, ISourceBlock<TInput>? source, bool consumeToAccept)
    {
        if (!messageHeader.IsValid)
        {
            throw new ArgumentException("A message header that was never given an id.", nameof(messageHeader));
        }

        if (source == null && consumeToAccept)
        {
            throw new ArgumentException("Without a source there is nothing to consume from.", nameof(consumeToAccept));
        }

        ActionBlock<TInput>? inbox = GetInbox();
        return inbox == null
            ? DataflowMessageStatus.DecliningPermanently
            : ((ITargetBlock<TInput>)inbox).OfferMessage(messageHeader, messageValue, source, consumeToAccept);
    }

    /// <inheritdoc/>
    public IDisposable LinkTo(ITargetBlock<TOutput> target, DataflowLinkOptions linkOptions)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(linkOptions);
        IDisposable link;
        lock (_linking)
        {
            bool plain = linkOptions.MaxMessages == DataflowBlockOptions.Unbounded;
            if (plain && _direct == null && _outbox == null && target is IDirectTarget<TOutput> near && near.Scheduler == _scheduler)
            {
                var direct = new DirectLink(this, near, target, linkOptions);
                _direct = direct;
                link = direct;
            }
            else
            {
                link = MakeOutbox().LinkTo(target, linkOptions);
            }
        }

        if (_declines)
        {
            OnReactor(TellLateLink);
        }

        return link;
    }

    /// <inheritdoc/>
    public TOutput? ConsumeMessage(DataflowMessageHeader messageHeader, ITargetBlock<TOutput> target, out bool messageConsumed)
    {
        if (_outbox is ISourceBlock<TOutput> outbox)
        {
            return outbox.ConsumeMessage(messageHeader, target, out messageConsumed);
        }

        messageConsumed = false;
        return default;
    }

    /// <inheritdoc/>
    public bool ReserveMessage(DataflowMessageHeader messageHeader, ITargetBlock<TOutput> target) =>
        _outbox is ISourceBlock<TOutput> outbox && outbox.ReserveMessage(messageHeader, target);

    /// <inheritdoc/>
    public void ReleaseReservation(DataflowMessageHeader messageHeader, ITargetBlock<TOutput> target)
    {
        if (_outbox is not ISourceBlock<TOutput> outbox)
        {
            throw new InvalidOperationException("The message was not reserved.");
        }

        outbox.ReleaseReservation(messageHeader, target);
    }

    /// <inheritdoc/>
    public bool TryReceive(Predicate<TOutput>? filter, out TOutput item)
    {
        BufferBlock<TOutput>? outbox = _outbox;
        if (outbox != null)
        {
            return outbox.TryReceive(filter, out item!);
        }

        item = default!;
        return false;
    }

    /// <inheritdoc/>
    public bool TryReceiveAll(out IList<TOutput> items)
    {
        BufferBlock<TOutput>? outbox = _outbox;
        if (outbox != null)
        {
            return outbox.TryReceiveAll(out items!);
        }

        items = [];
        return false;
    }

    /// <summary>Takes no more messages; completes when those it has are done.</summary>
    public void Complete()
    {
        ActionBlock<TInput>? inbox;
        lock (_linking)
        {
            if (_declines)
            {
                return;
            }

            inbox = _inbox;
            // With an inbox, what it has accepted comes first; it declines new messages by itself.
            _declines = inbox == null;
        }

        if (inbox == null)
        {
            OnReactor(TryFinish);
            return;
        }

        inbox.Complete();
        inbox.Completion.ContinueWith(
            _ =>
            {
                _declines = true;
                TryFinish();
            },
            CancellationToken.None,
            TaskContinuationOptions.None,
            _scheduler);
    }

    /// <inheritdoc/>
    public void Fault(Exception exception)
    {
        ArgumentNullException.ThrowIfNull(exception);
        if (_completion.Task.IsCompleted || Interlocked.CompareExchange(ref _fault, exception, null) != null)
        {
            return;
        }

        _declines = true;
        lock (_linking)
        {
            (_inbox as IDataflowBlock)?.Fault(exception);
        }

        OnReactor(TryFinish);
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>Works on a message, on the reactor's thread.</summary>
    // The overrides are compiled on their own, one call for each batch: inlined between Run's try and catch their loops came out slower
    // (null disk, queue depth 32: 1.17 instead of 1.14 times the hand-written loop).
    protected abstract void Process(TInput message);

    /// <summary>Passes a message on, on the reactor's thread.</summary>
    protected void Emit(TOutput message)
    {
        DirectLink? direct = _direct;
        if (direct != null)
        {
            direct.Near.Receive(message);
        }
        else if (_outbox != null || !DropsWhenUnlinked)
        {
            MakeOutboxLocked().Post(message);
        }
    }

    /// <summary>
    /// Completes the block if its time has come. A block that <see cref="IsBusy"/> calls this again when it is not any more. On the
    /// reactor's thread.
    /// </summary>
    protected void TryFinish()
    {
        if (_declines && !IsBusy && !_completion.Task.IsCompleted)
        {
            Finish();
        }
    }

    // Apart, as the closure is made where it begins: the check above comes once a turn and must not allocate.
    private void Finish()
    {
        Exception? fault = FaultReason;
        DirectLink? direct = _direct;
        if (direct is { Options.PropagateCompletion: true })
        {
            Propagate(direct.Target, fault);
        }

        BufferBlock<TOutput>? outbox = _outbox;
        if (outbox == null)
        {
            SetCompletion(fault);
            return;
        }

        // What is still offered comes first; the stock block tells its own targets.
        Propagate(outbox, fault);
        outbox.Completion.ContinueWith(
            _ => SetCompletion(fault), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    // A link made after the end: nobody else tells its target.
    private void TellLateLink()
    {
        if (!_completion.Task.IsCompleted)
        {
            return;
        }

        if (_direct is { Options.PropagateCompletion: true } direct)
        {
            Propagate(direct.Target, FaultReason);
        }

        if (_outbox is { } outbox)
        {
            Propagate(outbox, FaultReason);
        }
    }

    private static void Propagate(IDataflowBlock target, Exception? fault)
    {
        if (fault == null)
        {
            target.Complete();
        }
        else
        {
            target.Fault(fault);
        }
    }

    private void Run(TInput message)
    {
        try
        {
            Process(message);
        }
        catch (Exception exception)
        {
            Fault(exception);
        }
    }

    private void SetCompletion(Exception? fault)
    {
        if (fault == null)
        {
            _completion.TrySetResult();
        }
        else
        {
            _completion.TrySetException(fault);
            // Whoever cares awaits it; others are told by the reactor's log.
            _ = _completion.Task.Exception;
        }
    }

    private ActionBlock<TInput>? GetInbox()
    {
        lock (_linking)
        {
            if (_inbox == null && !_declines)
            {
                _inbox = new ActionBlock<TInput>(
                    Run, new ExecutionDataflowBlockOptions { TaskScheduler = _scheduler, NameFormat = $"inbox of {Name}" });
            }

            return _declines ? null : _inbox;
        }
    }

    private BufferBlock<TOutput> MakeOutboxLocked()
    {
        lock (_linking)
        {
            return MakeOutbox();
        }
    }

    // Under the lock. A direct link becomes an ordinary one: from now on it shares the messages with others.
    private BufferBlock<TOutput> MakeOutbox()
    {
        BufferBlock<TOutput>? outbox = _outbox;
        if (outbox == null)
        {
            outbox = new BufferBlock<TOutput>(new DataflowBlockOptions
            {
                TaskScheduler = _scheduler,
                NameFormat = $"outbox of {Name}",
                // Whose messages may be dropped does not gather them for ever after a link has ended.
                BoundedCapacity = DropsWhenUnlinked ? MaxDroppableMessages : DataflowBlockOptions.Unbounded,
            });
            DirectLink? direct = _direct;
            direct?.BecomeOrdinary(outbox);
            _outbox = outbox;
            _direct = null;
        }

        return outbox;
    }

    private void OnReactor(Action action)
    {
        if (TaskScheduler.Current == _scheduler)
        {
            action();
        }
        else
        {
            Task.Factory.StartNew(action, CancellationToken.None, TaskCreationOptions.None, _scheduler);
        }
    }

    private sealed class DirectLink(
        ReactorBlock<TInput, TOutput> source, IDirectTarget<TOutput> near, ITargetBlock<TOutput> target, DataflowLinkOptions options) : IDisposable
    {
        private IDisposable? _ordinary;

        public IDirectTarget<TOutput> Near { get; } = near;

        public ITargetBlock<TOutput> Target { get; } = target;

        public DataflowLinkOptions Options { get; } = options;

        public void BecomeOrdinary(BufferBlock<TOutput> outbox) => _ordinary = outbox.LinkTo(Target, Options);

        public void Dispose()
        {
            lock (source._linking)
            {
                if (source._direct == this)
                {
                    source._direct = null;
                }

                _ordinary?.Dispose();
                _ordinary = null;
            }
        }
    }
}
