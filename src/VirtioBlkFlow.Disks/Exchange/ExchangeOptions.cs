namespace VirtioBlkFlow.Disks.Exchange;

/// <summary>What is exchanged with a guest, and where it is on the disk.</summary>
/// <param name="InputPath">A file of any length, a block device, or a pipe, which is read to its end first.</param>
/// <param name="OutputPath">The file that the output becomes. One that is there is replaced when the guest is done, and not before.</param>
public sealed record ExchangeOptions(string InputPath, string OutputPath)
{
    /// <summary>Sectors for the input, where the output begins; null for what it takes. See <see cref="ExchangeLayout.Create"/>.</summary>
    public ulong? InputSectors { get; init; }

    /// <summary>What the output may have at most, in bytes; null for all there is.</summary>
    public ulong? OutputBytes { get; init; }

    /// <summary>Where the status sector is; null for behind the output area.</summary>
    public ulong? StatusSector { get; init; }

    /// <summary>Refuse an input that another process writes.</summary>
    public bool Lock { get; init; } = true;

    /// <summary>
    /// Hears, as a sentence, what a guest wrote to the status sector and why that does not count. On the thread of a queue; a guest can provoke any number.
    /// </summary>
    public Action<string>? Refused { get; init; }
}
