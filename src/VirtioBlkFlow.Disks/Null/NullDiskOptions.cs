using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Disks.Null;

/// <summary>What a null disk is like.</summary>
/// <param name="SizeBytes">Its size; a multiple of 512.</param>
/// <param name="ReadZeroes">Whether a read fills the memory with zeros; without it the memory keeps what was there.</param>
/// <param name="Delay">How long each request takes; null for no time at all.</param>
/// <param name="Seed">Where the delays come from.</param>
public sealed record NullDiskOptions(ulong SizeBytes, bool ReadZeroes = false, DelayDistribution? Delay = null, int Seed = 0);
