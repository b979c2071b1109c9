using System.Diagnostics;

namespace VirtioBlkFlow.Disks.Streaming;

/// <summary>Which way bytes go.</summary>
internal enum RingDirection
{
    /// <summary>The host produces.</summary>
    ToGuest,

    /// <summary>The guest produces.</summary>
    FromGuest,
}

/// <summary>How a write of the guest to its indices ended.</summary>
internal enum GuestIndexOutcome
{
    /// <summary>It counts.</summary>
    Taken,

    /// <summary>It belongs to another stream, or to one that has ended in failure: nothing has changed.</summary>
    Foreign,

    /// <summary>It broke the rules, and with that the stream.</summary>
    Broken,
}

/// <summary>
/// The indices of both directions and what the control sectors show of them. Shared by the queues, which bring what the guest writes, and by the host's
/// reader and writer; all under one lock, which is held for some dozen instructions, for indices only and never for data.
/// </summary>
[DebuggerDisplay("to guest {_toGuestProducer.Position} {_toGuestConsumer.Position}, from guest {_fromGuestProducer.Position} {_fromGuestConsumer.Position}")]
internal sealed class RingControl
{
    // Fixed at construction.
    private readonly SectorRingLayout _layout;
    private readonly ulong _stream;
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly byte[] _sectors = new byte[SectorRingLayout.ControlBytes];
    private RingIndex _toGuestProducer;
    private RingIndex _toGuestConsumer;
    private RingIndex _fromGuestProducer;
    private RingIndex _fromGuestConsumer;
    private SectorRingException? _failure;
    private TaskCompletionSource? _writerWaits;
    private TaskCompletionSource? _readerWaits;

    /// <param name="layout">Where things are.</param>
    /// <param name="stream">Tells this stream from others; not 0.</param>
    public RingControl(SectorRingLayout layout, ulong stream)
    {
        _layout = layout;
        _stream = stream;
        layout.WriteHeader(_sectors, stream);
        ShowAll();
    }

    /// <summary>Copies control sectors as they are at one moment.</summary>
    public void Read(int offsetBytes, Span<byte> destination)
    {
        lock (_gate)
        {
            _sectors.AsSpan(offsetBytes, destination.Length).CopyTo(destination);
        }
    }

    /// <summary>Takes what the guest has written to its indices: both or none, if both are among what it wrote.</summary>
    /// <param name="firstSector">The first sector written.</param>
    /// <param name="sectors">That and those behind it, which nobody changes meanwhile. What is no index does not count.</param>
    /// <param name="problem">Unless it was taken: why, as a sentence.</param>
    public GuestIndexOutcome Write(int firstSector, ReadOnlySpan<byte> sectors, out string problem)
    {
        lock (_gate)
        {
            if (_failure is { } failure)
            {
                problem = $"The stream has ended: {failure.Message}";
                return GuestIndexOutcome.Foreign;
            }

            RingIndex consumer = _toGuestConsumer;
            RingIndex producer = _fromGuestProducer;
            for (int sector = firstSector; !sectors.IsEmpty; sector++, sectors = sectors[SectorRingLayout.SectorBytes..])
            {
                bool isConsumer = sector == SectorRingLayout.ToGuestConsumerSector;
                if (!isConsumer && sector != SectorRingLayout.FromGuestProducerSector)
                {
                    continue;
                }

                GuestIndexOutcome outcome = TryTake(sectors, isConsumer, ref isConsumer ? ref consumer : ref producer, out problem);
                if (outcome != GuestIndexOutcome.Taken)
                {
                    problem = $"The guest's {(isConsumer ? "consumer" : "producer")} index {problem}.";
                    if (outcome == GuestIndexOutcome.Broken)
                    {
                        Fail(new SectorRingException(problem));
                    }

                    return outcome;
                }
            }

            (_toGuestConsumer, _fromGuestProducer) = (consumer, producer);
            ShowAll();
            Wake(ref _writerWaits);
            Wake(ref _readerWaits);
            problem = "";
            return GuestIndexOutcome.Taken;
        }
    }

    /// <summary>For the host's writer: how much it may write now.</summary>
    /// <param name="position">Where.</param>
    /// <param name="count">How many bytes; 0 if none fit.</param>
    /// <param name="wait">With 0: ends when it may be otherwise.</param>
    /// <exception cref="SectorRingException">The stream has ended, or the guest wants no more (its code is 0 then).</exception>
    public void FindSpace(out ulong position, out ulong count, out Task wait)
    {
        lock (_gate)
        {
            ThrowIfEnded();
            if (_toGuestConsumer.State == RingState.Ended)
            {
                throw new SectorRingException($"The guest reads no more, after {_toGuestConsumer.Position} bytes.", 0);
            }

            position = _toGuestProducer.Position;
            count = _layout.ToGuestBytes - (position - _toGuestConsumer.Position);
            wait = count > 0 ? Task.CompletedTask : Wait(ref _writerWaits);
        }
    }

    /// <summary>For the host's reader: how much there is to read now.</summary>
    /// <param name="position">Where.</param>
    /// <param name="count">How many bytes; 0 if there are none.</param>
    /// <param name="wait">With 0: ends when it may be otherwise; null if there never will be any.</param>
    /// <exception cref="SectorRingException">The stream has ended before its end.</exception>
    public void FindData(out ulong position, out ulong count, out Task? wait)
    {
        lock (_gate)
        {
            ThrowIfEnded();
            position = _fromGuestConsumer.Position;
            count = _fromGuestProducer.Position - position;
            wait = count > 0 ? Task.CompletedTask
                : _fromGuestProducer.State == RingState.Ended ? null
                : Wait(ref _readerWaits);
        }
    }

    /// <summary>The host has written so much, or ends its direction.</summary>
    public void Produce(ulong count, RingState state = RingState.Open, byte code = 0)
    {
        lock (_gate)
        {
            if (_toGuestProducer.State == RingState.Open && _failure is null)
            {
                _toGuestProducer = new RingIndex(_toGuestProducer.Position + count, state, code);
                ShowAll();
            }
        }
    }

    /// <summary>The host has read so much, or wants no more.</summary>
    public void Consume(ulong count, RingState state = RingState.Open, byte code = 0)
    {
        lock (_gate)
        {
            if (_fromGuestConsumer.State == RingState.Open && _failure is null)
            {
                _fromGuestConsumer = new RingIndex(_fromGuestConsumer.Position + count, state, code);
                ShowAll();
            }
        }
    }

    /// <summary>There will be nobody to serve the guest any more: whoever waits hears of it.</summary>
    public void Close()
    {
        lock (_gate)
        {
            if (_failure is null)
            {
                Fail(new SectorRingException("The disk of the stream was closed."));
            }
        }
    }

    private GuestIndexOutcome TryTake(ReadOnlySpan<byte> sector, bool isConsumer, ref RingIndex current, out string problem)
    {
        if (!RingIndex.TryRead(sector, out RingIndex next, out ulong stream, out problem))
        {
            return GuestIndexOutcome.Broken;
        }

        if (stream != _stream)
        {
            problem = $"is that of another stream, {stream:x16}; this one is {_stream:x16}";
            return GuestIndexOutcome.Foreign;
        }

        problem = 0 switch
        {
            _ when current.State != RingState.Open && next != current => $"changed after its end: {Describe(current)} became {Describe(next)}",
            _ when next.Position < current.Position => $"went back from {current.Position} to {next.Position}",
            _ when next.State != RingState.Aborted && next.Code != 0 => $"has code {next.Code}, and it is not that of a stream that is given up",
            _ when isConsumer && next.Position > _toGuestProducer.Position =>
                $"is {next.Position}, and only {_toGuestProducer.Position} bytes were produced",
            _ when !isConsumer && next.Position - _fromGuestConsumer.Position > _layout.FromGuestBytes =>
                $"is {next.Position}, which is {next.Position - _fromGuestConsumer.Position} bytes beyond what was consumed, in a ring of {_layout.FromGuestBytes}",
            _ => "",
        };
        current = next;
        return problem.Length == 0 ? GuestIndexOutcome.Taken : GuestIndexOutcome.Broken;
    }

    private static string Describe(RingIndex index) => $"{index.Position} {index.State switch
    {
        RingState.Open => "open",
        RingState.Ended => "ended",
        _ => $"given up with {index.Code}",
    }}";

    private void ThrowIfEnded()
    {
        if (_failure is { } failure)
        {
            throw new SectorRingException(failure.Message, failure);
        }

        // Whichever direction it is said in, it is the guest that gives up.
        RingIndex index = _fromGuestProducer.State == RingState.Aborted ? _fromGuestProducer : _toGuestConsumer;
        if (index.State == RingState.Aborted)
        {
            throw new SectorRingException($"The guest gave up with exit code {index.Code}.", index.Code);
        }
    }

    // The guest is told by the host's indices; whoever waits here, by the exception.
    private void Fail(SectorRingException failure)
    {
        _failure = failure;
        _toGuestProducer = _toGuestProducer with { State = RingState.Aborted };
        _fromGuestConsumer = _fromGuestConsumer with { State = RingState.Aborted };
        ShowAll();
        Wake(ref _writerWaits);
        Wake(ref _readerWaits);
    }

    private void ShowAll()
    {
        Show(SectorRingLayout.ToGuestProducerSector, _toGuestProducer);
        Show(SectorRingLayout.FromGuestConsumerSector, _fromGuestConsumer);
        Show(SectorRingLayout.ToGuestConsumerSector, _toGuestConsumer);
        Show(SectorRingLayout.FromGuestProducerSector, _fromGuestProducer);
    }

    private void Show(int sector, RingIndex index) => index.Write(_sectors.AsSpan(sector * SectorRingLayout.SectorBytes), _stream);

    // Who waits goes on elsewhere: this may be the thread of a queue, and it holds the lock.
    private static Task Wait(ref TaskCompletionSource? waits) => (waits ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

    private static void Wake(ref TaskCompletionSource? waits)
    {
        waits?.TrySetResult();
        waits = null;
    }
}
