namespace VirtioBlkFlow.Disks.File;

/// <summary>How to open a raw image.</summary>
/// <param name="Path">The image.</param>
/// <param name="ReadOnly">Open it for reading only.</param>
/// <param name="Direct">Bypass the page cache (O_DIRECT).</param>
/// <param name="Lock">Refuse an image that another process writes; see fcntl(2), "Open file description locks".</param>
/// <param name="Health">Watch how a block device fares, where it tells.</param>
/// <param name="InlineWrites">
/// Let the queue's thread do writes into the page cache that need not be durable, where io_uring would hand them to a worker thread.
/// </param>
public sealed record FileDiskOptions(
    string Path, bool ReadOnly = false, bool Direct = false, bool Lock = true, bool Health = true, bool InlineWrites = false);
