namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>What sets the pipeline going: the driver has made something available.</summary>
/// <param name="Turn">The reactor's turn that saw it.</param>
public readonly record struct QueueKick(long Turn);

/// <summary>What the pipeline reports at its end, for whoever links a target there.</summary>
/// <param name="Completions">Requests that were returned to the driver.</param>
/// <param name="Called">Whether the driver was called.</param>
public readonly record struct BurstReport(int Completions, bool Called);
