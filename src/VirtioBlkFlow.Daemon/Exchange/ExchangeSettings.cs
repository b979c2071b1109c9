using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Specs;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>What <c>vblkflow exchange</c> is asked to do, checked.</summary>
internal sealed record ExchangeSettings
{
    /// <summary>What the guest reads; null for streams.</summary>
    public string? InputPath { get; init; }

    /// <summary>What becomes of its output; null for streams.</summary>
    public string? OutputPath { get; init; }

    public ulong? InputSectors { get; init; }

    public ulong? OutputBytes { get; init; }

    public ulong? StatusSector { get; init; }

    /// <summary>Capacity of each ring of a stream.</summary>
    public ulong RingBytes { get; init; }

    /// <summary>Whether a reader of the input minds who writes it.</summary>
    public bool Lock { get; init; } = true;

    /// <summary>Where to listen; null with <see cref="SocketDescriptor"/>.</summary>
    public string? SocketPath { get; init; }

    public int SocketMode { get; init; } = SocketKeys.DefaultMode;

    /// <summary>An inherited socket, listening or connected.</summary>
    public int? SocketDescriptor { get; init; }

    /// <summary>How long the guest has to be quiet, when it is done, for its disk to go.</summary>
    public TimeSpan Linger { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Whether the first front-end is the only one.</summary>
    public bool Once { get; init; }

    public EngineChoice Engine { get; init; }

    public LogLevel LogLevel { get; init; } = LogLevel.Warning;
}
