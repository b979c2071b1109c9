using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Specs;

namespace VirtioBlkFlow.Daemon;

/// <summary>Which engine the operator wants.</summary>
internal enum EngineChoice
{
    /// <summary>io_uring; threads, with a warning, where it is refused.</summary>
    Auto,

    /// <summary>io_uring or nothing.</summary>
    IoUring,

    /// <summary>Threads.</summary>
    Threads,
}

/// <summary>The command line, parsed.</summary>
internal sealed record DaemonOptions
{
    public const string DefaultSocketPath = "./vblkflow.sock";
    public const string DefaultImagePath = "disk.img";
    public const long DefaultImageBytes = 1L << 30;

    /// <summary>What to serve; at least one.</summary>
    public required IReadOnlyList<DiskSpec> Disks { get; init; }

    /// <summary>Whether the one disk is the default image, which is made if it is not there.</summary>
    public bool MakesDefaultImage { get; init; }

    /// <summary>The reactors of all queues; null for one each.</summary>
    public SharedReactors? Reactors { get; init; }

    public EngineChoice Engine { get; init; }

    public LogLevel LogLevel { get; init; }

    /// <summary>Where HTTP is answered; null for nowhere.</summary>
    public string? ControlPath { get; init; }
}
