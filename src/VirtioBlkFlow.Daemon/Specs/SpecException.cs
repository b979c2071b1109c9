namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>What was asked for is written wrongly or contradicts itself. The message says where, what and what is allowed.</summary>
internal sealed class SpecException(string message) : Exception(message);
