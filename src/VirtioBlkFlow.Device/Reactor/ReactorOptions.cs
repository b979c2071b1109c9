using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Device.Reactor;

/// <summary>How a reactor works.</summary>
/// <param name="Engine">Who does its I/O.</param>
/// <param name="Polling">What it does before it sleeps.</param>
/// <param name="Processor">The one processor it may run on, as Linux numbers them; null for any.</param>
public readonly record struct ReactorOptions(IoEngineKind Engine, PollMode Polling, int? Processor);
