namespace VirtioBlkFlow.Disks;

/// <summary>A disk cannot be opened as asked. The message names the cause and what to do about it.</summary>
public sealed class DiskOpenException : Exception
{
    /// <summary>Creates the exception.</summary>
    public DiskOpenException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    public DiskOpenException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates the exception.</summary>
    public DiskOpenException()
    {
    }
}
