using VirtioBlkFlow.Disks;

namespace VirtioBlkFlow.Daemon;

/// <summary>The image that is served when none is named.</summary>
internal static class DefaultImage
{
    /// <summary>Makes the image, sparse, unless it is there.</summary>
    /// <exception cref="DiskOpenException">It cannot be made.</exception>
    public static void Ensure(string path)
    {
        try
        {
            using var image = new FileStream(path, FileMode.CreateNew, FileAccess.Write);
            image.SetLength(DaemonOptions.DefaultImageBytes);
        }
        catch (IOException) when (File.Exists(path))
        {
            // From an earlier run: its data is the guest's.
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new DiskOpenException($"Cannot make '{path}': {exception.Message} Name an image with --blk-file, or go to a directory that can be written.");
        }
    }
}
