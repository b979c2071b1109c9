using System.Buffers.Binary;
using System.Text;

namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>
/// Where things are on a disk that takes an input to a guest and its output back, and what the sector says that tells the guest.
/// docs/exchange.md has the format. Numbers are little endian, of 64 bits each. Immutable.
/// </summary>
/// <param name="InputBytes">Length of the input, which begins at sector 0. What is behind it, up to the output, reads as zeros.</param>
/// <param name="OutputSector">First sector of the output area.</param>
/// <param name="OutputCapacityBytes">What the output area holds; a multiple of 512.</param>
/// <param name="StatusSector">The sector with the header, which the guest writes the completion mark to.</param>
/// <param name="SectorCount">Size of the disk; a multiple of 8 sectors.</param>
public sealed record ExchangeLayout(ulong InputBytes, ulong OutputSector, ulong OutputCapacityBytes, ulong StatusSector, ulong SectorCount)
{
    /// <summary>The only version there is.</summary>
    public const ulong Version = 1;

    /// <summary>
    /// Capacity of the output area unless something else is asked for. Arbitrary: it costs no space before it is written.
    /// </summary>
    public const ulong DefaultOutputBytes = 1UL << 30;

    /// <summary>A sector, always.</summary>
    public const int SectorBytes = 512;

    // A page of the guest's cache: areas that begin with one are not touched by writes to others that go through the cache.
    private const ulong PageSectors = 8;

    // File offsets are signed in Linux. What is added, twice rounded up to a page, fits into what is left.
    private const ulong MostSectors = (long.MaxValue / SectorBytes) - (2 * PageSectors);

    private const int VersionOffset = 8;
    private const int StateOffset = 16;
    private const int OutputBytesOffset = 24;
    private const int ExitCodeOffset = 32;
    private const int InputBytesOffset = 40;
    private const int OutputSectorOffset = 48;
    private const int OutputCapacityOffset = 56;
    private const int StatusSectorOffset = 64;
    private const int MessageOffset = 256;

    private const ulong Running = 0;
    private const ulong Done = 1;
    private const ulong Failed = 2;

    // What a process can end with, seen by who waits for it (exit(3)).
    private const ulong MostExitCode = 255;

    private static ReadOnlySpan<byte> Magic => "VBLKEXCH"u8;

    /// <summary>Lays out a disk.</summary>
    /// <param name="inputBytes">Length of the input.</param>
    /// <param name="inputSectors">Sectors for it, and with that the first one of the output; null for as many as it takes, in whole pages of 4096 bytes.</param>
    /// <param name="outputBytes">Capacity of the output area, rounded up to whole sectors; null for all up to a status sector that is given, or <see cref="DefaultOutputBytes"/>.</param>
    /// <param name="statusSector">Where the status sector is; null for the first page behind the output area.</param>
    /// <exception cref="DiskOpenException">These do not go together.</exception>
    public static ExchangeLayout Create(ulong inputBytes, ulong? inputSectors = null, ulong? outputBytes = null, ulong? statusSector = null)
    {
        ulong neededSectors = SectorsOf(inputBytes);
        ulong outputSector = inputSectors ?? RoundToPage(neededSectors);
        if (outputSector < neededSectors)
        {
            throw new DiskOpenException($"The input has {inputBytes} bytes, and {inputSectors} sectors are less. Give it {neededSectors} or more.");
        }

        ulong? outputSectors = outputBytes is { } bytes ? SectorsOf(bytes) : null;
        if (outputSector > MostSectors || outputSectors > MostSectors - outputSector || statusSector > MostSectors)
        {
            throw new DiskOpenException("These sizes are more than a disk can have. Give it smaller ones.");
        }

        if (statusSector is { } status)
        {
            ulong firstFree = outputSector + (outputSectors ?? 0);
            if (status < firstFree)
            {
                throw new DiskOpenException(
                    $"The status sector, {status}, lies inside {(status < outputSector ? "the input" : "the output")}, which ends at sector {(status < outputSector ? outputSector : firstFree)}. Put it there or behind.");
            }

            outputSectors ??= status - outputSector;
        }

        ulong capacitySectors = outputSectors ?? Math.Min(SectorsOf(DefaultOutputBytes), MostSectors - outputSector);
        ulong where = statusSector ?? RoundToPage(outputSector + capacitySectors);
        return new ExchangeLayout(inputBytes, outputSector, capacitySectors * SectorBytes, where, RoundToPage(where + 1));
    }

    /// <summary>Writes what the guest finds in the status sector.</summary>
    /// <param name="sector">512 bytes.</param>
    public void WriteHeader(Span<byte> sector)
    {
        sector = sector[..SectorBytes];
        sector.Clear();
        Magic.CopyTo(sector);
        Put(sector, VersionOffset, Version);
        Put(sector, StateOffset, Running);
        Put(sector, InputBytesOffset, InputBytes);
        Put(sector, OutputSectorOffset, OutputSector);
        Put(sector, OutputCapacityOffset, OutputCapacityBytes);
        Put(sector, StatusSectorOffset, StatusSector);
    }

    /// <summary>Judges what a guest wants to write to the status sector.</summary>
    /// <param name="sector">512 bytes, which nobody changes meanwhile.</param>
    /// <param name="mark">A mark, if it is one; null if it is the header as it was.</param>
    /// <param name="problem">Otherwise: what is wrong with it, as a sentence.</param>
    public bool TryRead(ReadOnlySpan<byte> sector, out ExchangeMark? mark, out string problem)
    {
        sector = sector[..SectorBytes];
        mark = null;
        problem = "";
        Span<byte> header = stackalloc byte[SectorBytes];
        WriteHeader(header);
        // A write through the guest's page cache may carry it along.
        if (sector.SequenceEqual(header))
        {
            return true;
        }

        if (!sector.StartsWith(Magic))
        {
            problem = $"The status sector begins with {Convert.ToHexStringLower(sector[..Magic.Length])}, not with VBLKEXCH.";
            return false;
        }

        ulong version = Get(sector, VersionOffset);
        ulong state = Get(sector, StateOffset);
        ulong outputBytes = Get(sector, OutputBytesOffset);
        ulong exitCode = Get(sector, ExitCodeOffset);
        problem = 0 switch
        {
            _ when version != Version => $"The mark has version {version}, not {Version}.",
            _ when state is not (Done or Failed) => $"The mark has state {state}, which is neither {Done}, done, nor {Failed}, failed.",
            _ when outputBytes > OutputCapacityBytes => $"The mark says {outputBytes} bytes of output, and the output area holds {OutputCapacityBytes}.",
            _ when exitCode > MostExitCode => $"The mark has exit code {exitCode}, and the largest is {MostExitCode}.",
            _ when state == Done && exitCode != 0 => $"The mark says done, with exit code {exitCode}.",
            _ => "",
        };
        if (problem.Length == 0)
        {
            mark = new ExchangeMark(state == Done, outputBytes, (int)exitCode, TextOf(sector[MessageOffset..]));
        }

        return mark != null;
    }

    private static ulong SectorsOf(ulong bytes) => (bytes / SectorBytes) + (bytes % SectorBytes == 0 ? 0UL : 1);

    private static ulong RoundToPage(ulong sectors) => (sectors + PageSectors - 1) / PageSectors * PageSectors;

    private static ulong Get(ReadOnlySpan<byte> sector, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(sector[offset..]);

    private static void Put(Span<byte> sector, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(sector[offset..], value);

    // Up to the first NUL. It is the guest's, and goes to somebody's terminal.
    private static string TextOf(ReadOnlySpan<byte> field)
    {
        int end = field.IndexOf((byte)0);
        string text = Encoding.UTF8.GetString(end < 0 ? field : field[..end]).Trim();
        return string.Concat(text.Select(character => char.IsControl(character) ? '?' : character));
    }
}

/// <summary>How a guest says that it has ended.</summary>
/// <param name="IsDone">Whether the output is complete; otherwise the guest reports a failure.</param>
/// <param name="OutputBytes">Length of the output, at most its capacity.</param>
/// <param name="ExitCode">What the guest's program ended with, 0 to 255.</param>
/// <param name="Message">What the guest says about it; may be empty. Without control characters.</param>
public sealed record ExchangeMark(bool IsDone, ulong OutputBytes, int ExitCode, string Message);
