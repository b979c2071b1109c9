namespace VirtioBlkFlow.Virtio.Ring;

/// <summary>A chain on its way back to the driver.</summary>
/// <param name="Slot">The slot of a chain that was popped.</param>
/// <param name="WrittenBytes">Bytes written from the first writable byte on, without a gap.</param>
/// <param name="TouchedBytes">
/// Bytes from the first writable byte on among which some may have been written, the status byte apart: at least what a dirty log must mark,
/// also after a transfer that failed half-way.
/// </param>
public readonly record struct ReturnedChain(ushort Slot, uint WrittenBytes, uint TouchedBytes);
