namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>Which disk is under the device.</summary>
internal enum DiskKind
{
    /// <summary>An image file.</summary>
    Plain,

    /// <summary>One that is opened for reading only.</summary>
    ReadOnly,

    /// <summary>A host-managed one, conventional up to <see cref="Harness.DiskImage.ConventionalSectors"/>.</summary>
    Zoned,

    /// <summary>An image file whose requests can be held: <see cref="HeldDisk"/>.</summary>
    Held,
}
