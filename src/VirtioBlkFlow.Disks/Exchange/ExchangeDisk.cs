using VirtioBlkFlow.Disks.Composite;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.File;

namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>
/// A disk that takes a file to a guest and a file back: the input from sector 0 on, which the guest can only read, behind it the output
/// area, and a status sector, where the guest says that it is done. Shared by all queues.
/// </summary>
/// <remarks>
/// Output area and status sector are one file, which becomes the output. A mark counts when the write that carries it has ended, all that
/// was written has been flushed, and no write is in flight beside it; from then on the disk does not change any more.
/// </remarks>
public sealed class ExchangeDisk : IDisk
{
    // Changes in flight when there will be no more: whatever is added to it, it stays negative.
    private const int Closed = int.MinValue;

    // Fixed at construction.
    private readonly CompositeDisk _whole;
    private readonly OutputFile _output;
    private readonly Action<string>? _refused;
    private readonly TaskCompletionSource<ExchangeMark> _marked = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Shared by all queues, changed by interlocked operations: how many writes, discards and zeroings are in flight.
    private int _changesInFlight;

    // Set by any queue, never taken back.
    private volatile bool _isSpoiled;

    private ExchangeDisk(ExchangeLayout layout, CompositeDisk whole, OutputFile output, Action<string>? refused)
    {
        Layout = layout;
        _whole = whole;
        _output = output;
        _refused = refused;
    }

    /// <summary>Where things are.</summary>
    public ExchangeLayout Layout { get; }

    /// <summary>
    /// Ends when a mark counts. Fails with an <see cref="IOException"/> when one came whose output the host could not make durable.
    /// </summary>
    public Task<ExchangeMark> Marked => _marked.Task;

    /// <summary>
    /// Whether the guest wanted to change the output after its mark. It had not flushed it then: what there is, is not all of it. Final when no
    /// queue uses the disk any more.
    /// </summary>
    public bool IsSpoiled => _isSpoiled;

    /// <inheritdoc/>
    public DiskProperties Properties => _whole.Properties;

    /// <summary>Opens the input and begins the output.</summary>
    /// <exception cref="DiskOpenException">One of them cannot be had, or the layout cannot be.</exception>
    public static ExchangeDisk Open(ExchangeOptions options)
    {
        (SafeFileHandle input, ulong inputBytes) = InputFile.Open(options.InputPath, OutputFile.FolderOf(options.OutputPath), options.Lock);
        OutputFile? output = null;
        try
        {
            ExchangeLayout layout = ExchangeLayout.Create(inputBytes, options.InputSectors, options.OutputBytes, options.StatusSector);
            output = OutputFile.Create(options.OutputPath, (layout.SectorCount - layout.OutputSector) * ExchangeLayout.SectorBytes);
            WriteHeader(output, layout);
            List<CompositePart> parts = [new CompositePart(layout.OutputSector, FileDisk.Open(new FileDiskOptions(output.TemporaryPath, Lock: false)))];
            if (layout.OutputSector > 0)
            {
                parts.Add(new CompositePart(0, new InputDisk(input, inputBytes, layout.OutputSector * ExchangeLayout.SectorBytes)));
            }
            else
            {
                input.Dispose();
            }

            return new ExchangeDisk(layout, CompositeDisk.Open(new CompositeDiskOptions(parts)), output, options.Refused);
        }
        catch
        {
            input.Dispose();
            output?.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) =>
        new ExchangeDiskQueue(this, _whole, engine, completions, slotCount);

    /// <inheritdoc/>
    public DiskOutcome Flush() => _whole.Flush();

    /// <summary>
    /// Makes the output the file that was asked for. After a mark that says done, when no queue uses the disk any more, unless it
    /// <see cref="IsSpoiled"/>.
    /// </summary>
    /// <exception cref="IOException">It cannot be made durable or put in place; a file that was there is as it was.</exception>
    /// <exception cref="UnauthorizedAccessException">The same.</exception>
    /// <exception cref="InvalidOperationException">There is no such mark, or the output is spoiled.</exception>
    public void SaveOutput()
    {
        if (!_marked.Task.IsCompletedSuccessfully || !_marked.Task.Result.IsDone || _isSpoiled)
        {
            throw new InvalidOperationException("The guest has not said that its output is complete.");
        }

        if (Flush() != DiskOutcome.Done)
        {
            throw NotDurable();
        }

        _output.PutInPlace(_marked.Task.Result.OutputBytes);
    }

    /// <summary>Closes everything. Without <see cref="SaveOutput"/> nothing is left of the output.</summary>
    public void Dispose()
    {
        _whole.Dispose();
        _output.Dispose();
    }

    /// <summary>Something that changes the disk begins.</summary>
    /// <returns>False if the disk does not change any more.</returns>
    internal bool TryBeginChange()
    {
        if (Interlocked.Increment(ref _changesInFlight) > 0)
        {
            return true;
        }

        EndChange();
        return false;
    }

    /// <summary>It has ended.</summary>
    internal void EndChange() => Interlocked.Decrement(ref _changesInFlight);

    /// <summary>A change of the output area came when there are no more.</summary>
    internal void Spoil() => _isSpoiled = true;

    /// <summary>Whether changes are in flight beside one of the caller's own.</summary>
    internal bool HasOtherChanges => Volatile.Read(ref _changesInFlight) != 1;

    /// <summary>From the write of a mark, which is written and flushed: there are no more changes if nothing else is in flight.</summary>
    internal bool TryClose() => Interlocked.CompareExchange(ref _changesInFlight, Closed, 1) == 1;

    /// <summary>A mark counts; its write has ended.</summary>
    internal void Accept(ExchangeMark mark) => _marked.TrySetResult(mark);

    /// <summary>The guest wrote something that does not count.</summary>
    internal void Refuse(string why) => _refused?.Invoke(why);

    /// <summary>A mark came, and the host could not make the output durable: it never will.</summary>
    internal void LoseOutput() => _marked.TrySetException(NotDurable());

    private static IOException NotDurable() => new("The output could not be made durable. Check the storage it is on.");

    private static void WriteHeader(OutputFile output, ExchangeLayout layout)
    {
        byte[] sector = new byte[ExchangeLayout.SectorBytes];
        layout.WriteHeader(sector);
        try
        {
            using SafeFileHandle file = System.IO.File.OpenHandle(output.TemporaryPath, FileMode.Open, FileAccess.Write);
            RandomAccess.Write(file, sector, (long)((layout.StatusSector - layout.OutputSector) * ExchangeLayout.SectorBytes));
        }
        catch (IOException exception)
        {
            throw new DiskOpenException($"Cannot write beside the output: {exception.Message} Free some space there.", exception);
        }
    }
}
