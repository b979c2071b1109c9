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

    /// <summary>exchange: the guest reports failure, or broke the rules of a stream; stderr has what it said.</summary>
    public const int GuestFailed = 3;

    /// <summary>exchange: with --once or a connected --fd, the front-end left before the guest was done.</summary>
    public const int FrontendLeft = 4;

    /// <summary>exchange: ended by a signal before the guest was done.</summary>
    public const int Interrupted = 5;
}
