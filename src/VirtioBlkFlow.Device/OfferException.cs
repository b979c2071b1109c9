namespace VirtioBlkFlow.Device;

/// <summary>A device cannot offer what it was told to. The message names the cause and what to do about it.</summary>
public sealed class OfferException : Exception
{
    /// <summary>Creates the exception.</summary>
    public OfferException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    public OfferException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates the exception.</summary>
    public OfferException()
    {
    }
}
