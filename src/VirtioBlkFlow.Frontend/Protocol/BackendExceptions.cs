namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>The back-end closed the connection, or did so while a reply was awaited.</summary>
public sealed class BackendClosedException(string message) : IOException(message);

/// <summary>The back-end sent what the protocol does not allow: a reply to something else, of another size, with other descriptors.</summary>
public sealed class BackendProtocolException(string message) : Exception(message);

/// <summary>The back-end said no to a step that a set-up cannot do without.</summary>
public sealed class BackendRefusedException(string message) : Exception(message);
