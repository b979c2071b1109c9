namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>How the operator wants a disk to be refreshed.</summary>
/// <param name="BytesPerSecond">At most.</param>
/// <param name="OnDemand">Only when it is told to.</param>
internal sealed record RefreshSpec(ulong BytesPerSecond, bool OnDemand);
