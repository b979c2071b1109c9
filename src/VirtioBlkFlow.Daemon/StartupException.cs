namespace VirtioBlkFlow.Daemon;

/// <summary>The program cannot start as asked. The message names the cause and what to do about it.</summary>
internal sealed class StartupException(string message) : Exception(message);
