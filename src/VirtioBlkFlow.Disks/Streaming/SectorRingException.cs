namespace VirtioBlkFlow.Disks.Streaming;

/// <summary>A stream between host and guest has ended before its end. The message says whose doing it was, and what was seen.</summary>
public sealed class SectorRingException : IOException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What has happened.</param>
    /// <param name="code">What the guest gave as its exit code, if it was the guest that gave up.</param>
    public SectorRingException(string message, int? code)
        : base(message) => Code = code;

    /// <summary>Creates the exception.</summary>
    public SectorRingException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    public SectorRingException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates the exception.</summary>
    public SectorRingException()
    {
    }

    /// <summary>What the guest's program ended with, 0 to 255, if the guest gave up by itself; null if it broke the rules.</summary>
    public int? Code { get; }
}
