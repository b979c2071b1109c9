namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>
/// What a device double does wrong in the middle of honest work. Each must be found by the checks that find nothing in the real device.
/// </summary>
internal enum Sabotage
{
    None,

    /// <summary>Returns a head that came back before, instead of the one whose turn it is.</summary>
    HeadTwice,

    /// <summary>Writes the byte behind a buffer in guest memory.</summary>
    ByteBesideBuffer,

    /// <summary>Writes the sector behind a write.</summary>
    SectorBeside,

    /// <summary>Makes the image longer.</summary>
    LongerImage,

    /// <summary>Reads, and says that it is done, without data.</summary>
    NoData,

    /// <summary>Says that a valid request failed.</summary>
    WrongStatus,

    /// <summary>Keeps a request for ever.</summary>
    LostRequest,

    /// <summary>Ends the process.</summary>
    Crash,

    /// <summary>Never returns to the session.</summary>
    SilentSession,

    /// <summary>Keeps a descriptor of each front-end.</summary>
    Descriptor,
}
