namespace VirtioBlkFlow.Daemon;

/// <summary>How the program ends. Part of what scripts may rely on; documented in docs/operating.md.</summary>
internal static class ExitCode
{
    /// <summary>Ended by SIGTERM or SIGINT, or the front-end of a connected <c>--fd</c> left.</summary>
    public const int Success = 0;

    /// <summary>Could not start, or could not go on; stderr says why.</summary>
    public const int Failure = 1;

    /// <summary>The command line is wrong; stderr says where.</summary>
    public const int Usage = 2;
}
