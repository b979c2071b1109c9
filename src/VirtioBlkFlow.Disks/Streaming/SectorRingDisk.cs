using System.Security.Cryptography;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Memory;

namespace VirtioBlkFlow.Disks.Streaming;

/// <summary>What a disk with rings is made of.</summary>
/// <param name="Layout">Sizes.</param>
/// <param name="Refused">
/// Hears, as a sentence, what a guest wrote that does not count. On the thread of a queue; a guest can provoke any number. Null for nobody.
/// </param>
public sealed record SectorRingOptions(SectorRingLayout Layout, Action<string>? Refused = null);

/// <summary>
/// A disk in memory that carries a stream of bytes to its guest and one back, by a ring over its sectors for each. The host's ends are
/// <see cref="ToGuest"/> and <see cref="FromGuest"/>; they wait without polling, woken by the guest's writes to its indices. Shared by all
/// queues. The streams outlive front-ends and guests: whoever comes next goes on where the indices are.
/// </summary>
public sealed class SectorRingDisk : IDisk
{
    private readonly PrivateMemory _memory;
    private readonly RingControl _control;
    private readonly SectorRingOptions _options;
    private readonly ToGuestStream _toGuest;
    private readonly FromGuestStream _fromGuest;

    private SectorRingDisk(SectorRingOptions options, PrivateMemory memory)
    {
        _options = options;
        _memory = memory;
        // Positive as a signed number, for shells.
        _control = new RingControl(options.Layout, 1 + (BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong))) >> 2));
        Properties = new DiskProperties { CapacityBytes = options.Layout.SizeBytes, PhysicalBlockBytes = 512 };
        _toGuest = new ToGuestStream(_control, memory, options.Layout);
        _fromGuest = new FromGuestStream(_control, memory, options.Layout);
    }

    /// <inheritdoc/>
    public DiskProperties Properties { get; }

    /// <summary>Where things are.</summary>
    public SectorRingLayout Layout => _options.Layout;

    /// <summary>
    /// What is written here the guest can read. A write waits while the ring is full. To dispose it says that there is no more. Writes throw a
    /// <see cref="SectorRingException"/> when the guest has given up, reads no more, or has broken the rules. For one writer.
    /// </summary>
    public Stream ToGuest => _toGuest;

    /// <summary>
    /// What the guest has written. A read waits while there is nothing, and ends with 0 at the guest's end. To dispose it says that no more is
    /// wanted. Reads throw a <see cref="SectorRingException"/> when the guest has given up or has broken the rules. For one reader.
    /// </summary>
    public Stream FromGuest => _fromGuest;

    /// <summary>Makes a disk with empty rings.</summary>
    /// <exception cref="DiskOpenException">The rings cannot have that size, or the memory cannot be had.</exception>
    public static SectorRingDisk Open(SectorRingOptions options)
    {
        options.Layout.Validate();
        return new SectorRingDisk(options, PrivateMemory.Map(options.Layout.SizeBytes, HugePages.None));
    }

    /// <summary>Tells the guest, in both directions, that the host gives up.</summary>
    /// <param name="code">Why, in the terms of both programs.</param>
    public void Abort(byte code)
    {
        _control.Produce(0, RingState.Aborted, code);
        _control.Consume(0, RingState.Aborted, code);
    }

    /// <inheritdoc/>
    public IDiskQueue OpenQueue(IIoEngine engine, IDiskCompletions completions, int slotCount) => new Queue(this, completions);

    /// <inheritdoc/>
    public DiskOutcome Flush() => DiskOutcome.Done;

    /// <summary>Frees the memory. No queue uses it any more; whoever waits at one of the streams hears of it by an exception.</summary>
    public void Dispose()
    {
        _control.Close();
        _toGuest.CloseMemory();
        _fromGuest.CloseMemory();
        _memory.Dispose();
    }

    /// <summary>Copies inside Submit, so nothing is ever in flight. Owned by the queue's thread.</summary>
    private sealed unsafe class Queue(SectorRingDisk disk, IDiskCompletions completions) : IDiskQueue
    {
        // From the first of the guest's indices to the rings: a page for each.
        private const ulong FirstIndexOffset = SectorRingLayout.ToGuestConsumerSector * SectorRingLayout.SectorBytes;
        private const ulong IndexBytes = SectorRingLayout.ControlBytes - FirstIndexOffset;

        public void Submit(int slot, in DiskRequest request) => completions.OnCompleted(slot, request.Operation switch
        {
            DiskOperation.Read => Read(request),
            DiskOperation.Write => Write(request),
            DiskOperation.Flush => DiskOutcome.Done,
            _ => DiskOutcome.Unsupported,
        });

        public void OnIoCompleted(int slot, int result) => Environment.FailFast($"Slot {slot} heard of an operation it did not start.");

        public void Dispose()
        {
        }

        private DiskOutcome Read(DiskRequest request)
        {
            ulong size = disk.Layout.SizeBytes;
            if (request.OffsetBytes > size || request.LengthBytes > size - request.OffsetBytes)
            {
                return DiskOutcome.Failed;
            }

            if (request.OffsetBytes < SectorRingLayout.ControlBytes)
            {
                // One moment for all control sectors of a request.
                Span<byte> control = stackalloc byte[(int)Math.Min(request.LengthBytes, SectorRingLayout.ControlBytes - request.OffsetBytes)];
                disk._control.Read((int)request.OffsetBytes, control);
                _ = Iovec.Scatter(control, request.Pieces, request.PieceCount);
                Iovec.Advance(ref request.Pieces, ref request.PieceCount, (nuint)control.Length);
                request.OffsetBytes += (uint)control.Length;
                request.LengthBytes -= (uint)control.Length;
            }

            return disk._memory.Read(request.OffsetBytes, request.Pieces, request.PieceCount, request.LengthBytes);
        }

        // To its own indices, and to the ring it fills; all else is the host's.
        private DiskOutcome Write(DiskRequest request)
        {
            SectorRingLayout layout = disk.Layout;
            if (IsInside(request, layout.FromGuestOffset, layout.FromGuestBytes))
            {
                return disk._memory.Write(request.OffsetBytes, request.Pieces, request.PieceCount, request.LengthBytes);
            }

            int sector = (int)(request.OffsetBytes / SectorRingLayout.SectorBytes);
            if (!IsInside(request, FirstIndexOffset, IndexBytes)
                || !(Has(sector, request.LengthBytes, SectorRingLayout.ToGuestConsumerSector) || Has(sector, request.LengthBytes, SectorRingLayout.FromGuestProducerSector)))
            {
                disk._options.Refused?.Invoke(
                    $"The guest cannot write {request.LengthBytes} bytes at sector {request.OffsetBytes / SectorRingLayout.SectorBytes}: its are its two indices, and the ring it fills.");
                return DiskOutcome.Failed;
            }

            // Once, to judge what cannot be changed meanwhile.
            Span<byte> indices = stackalloc byte[(int)request.LengthBytes];
            _ = Iovec.Gather(request.Pieces, request.PieceCount, indices);
            if (disk._control.Write(sector, indices, out string problem) == GuestIndexOutcome.Taken)
            {
                return DiskOutcome.Done;
            }

            disk._options.Refused?.Invoke(problem);
            return DiskOutcome.Failed;
        }

        private static bool Has(int firstSector, uint lengthBytes, int sector) =>
            sector >= firstSector && sector < firstSector + (lengthBytes / SectorRingLayout.SectorBytes);

        private static bool IsInside(in DiskRequest request, ulong offsetBytes, ulong lengthBytes) =>
            request.OffsetBytes >= offsetBytes && request.OffsetBytes - offsetBytes <= lengthBytes
            && request.LengthBytes <= lengthBytes - (request.OffsetBytes - offsetBytes);
    }
}
