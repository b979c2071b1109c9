namespace VirtioBlkFlow.Disks.Engine;

/// <summary>What an engine has to report.</summary>
public enum IoCompletionKind
{
    /// <summary>An operation ended: <see cref="IoCompletion.Token"/> and <see cref="IoCompletion.Result"/> say which and how.</summary>
    Operation,

    /// <summary>A watched descriptor was signalled, <see cref="IoCompletion.Token"/> says which; or somebody woke the engine.</summary>
    Signal,
}

/// <summary>Something an engine has to report.</summary>
/// <param name="Kind">What.</param>
/// <param name="Token">The caller's token or the number of the watch; <see cref="IIoEngine.WakeToken"/> after a wake.</param>
/// <param name="Result">Bytes moved or 0, or a negated errno.</param>
public readonly record struct IoCompletion(IoCompletionKind Kind, uint Token, int Result);

/// <summary>
/// Does a queue's I/O and lets its thread sleep. Owned by one thread, which creates it and makes every call but
/// <see cref="Wake"/>. Operations are collected and handed over together by <see cref="Submit"/> or <see cref="Wait"/>.
/// </summary>
public unsafe interface IIoEngine : IDisposable
{
    /// <summary>Token of the completion that follows a <see cref="Wake"/>.</summary>
    const uint WakeToken = uint.MaxValue;

    /// <summary>
    /// Pieces one operation takes at most: UIO_MAXIOV of <c>&lt;linux/uio.h&gt;</c>. With more, the transfer is short.
    /// </summary>
    const int MaxPieces = 1024;

    /// <summary>Whether <see cref="Reap"/> would find something, without a system call where possible. Cheap enough to spin on.</summary>
    bool HasCompletions { get; }

    /// <summary>
    /// System calls made so far to start, await and end operations, those of the engine's own threads included. Signals to others are not.
    /// </summary>
    ulong SystemCallCount { get; }

    /// <summary>Calls at a time to come and from other threads; they are made inside <see cref="Reap"/>.</summary>
    EngineAgenda Agenda { get; }

    /// <summary>Makes a file known, once: it keeps its number. It stays open until the engine is disposed.</summary>
    /// <returns>Its number for the operations.</returns>
    int RegisterFile(SafeFileHandle file);

    /// <summary>
    /// Pins areas of memory, so that transfers within one cost less. What is pinned stays the same page even when its owner replaces it: not
    /// for memory of which pages are given back meanwhile. Areas may be registered several times over.
    /// </summary>
    /// <param name="areas">Addresses and lengths.</param>
    /// <param name="obstacle">If it cannot be done: why. Nothing is registered then, and all else works as before.</param>
    bool TryRegisterMemory(ReadOnlySpan<Iovec> areas, out string obstacle)
    {
        obstacle = "Only io_uring can register memory.";
        return false;
    }

    /// <summary>Takes back one <see cref="TryRegisterMemory"/> of the same areas that succeeded. No transfer within them may be in flight.</summary>
    void UnregisterMemory(ReadOnlySpan<Iovec> areas)
    {
    }

    /// <summary>Reads at an offset; pieces stay valid until the completion.</summary>
    void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token);

    /// <summary>Writes at an offset; pieces stay valid until the completion. Durable: as with RWF_DSYNC of pwritev2(2).</summary>
    void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token);

    /// <summary>fdatasync(2).</summary>
    void Fdatasync(int file, uint token);

    /// <summary>fallocate(2).</summary>
    void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token);

    /// <summary>
    /// ioctl(2), for a request that may block. Not for the hot path: an engine may make these one after the other. What is begun ends: the
    /// engine's end waits for it.
    /// </summary>
    /// <param name="file">Number of the file.</param>
    /// <param name="request">What to ask of it.</param>
    /// <param name="argument">Of that request; stays valid until the completion.</param>
    /// <param name="token">Comes back with the completion.</param>
    void Ioctl(int file, nuint request, void* argument, uint token);

    /// <summary>
    /// Discards a range of a block device, if the engine has a way that needs no thread for it. If the kernel or the device turns out not to
    /// understand it, it ends with EOPNOTSUPP or EINVAL, and BLKDISCARD is what is left.
    /// </summary>
    /// <returns>Whether it was begun.</returns>
    bool TryDiscard(int file, ulong offsetBytes, ulong lengthBytes, uint token) => false;

    /// <summary>
    /// sendmsg(2) on a connected socket that blocks. Its end does not come as a completion of a slot but goes straight to
    /// <paramref name="user"/>, inside <see cref="Reap"/>. A hung peer costs nobody else anything; shutdown(2) ends it soon.
    /// </summary>
    /// <param name="socket">Stays open until the end.</param>
    /// <param name="message">What to send; stays valid, with all it names, until the end.</param>
    /// <param name="user">Hears of the end.</param>
    /// <param name="token">Comes back with it.</param>
    void Send(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) => throw new NotSupportedException("This engine has no sockets.");

    /// <summary>recvmsg(2); otherwise as <see cref="Send"/>. It ends with the first bytes that come, and fills what there is room for.</summary>
    void Receive(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) => throw new NotSupportedException("This engine has no sockets.");

    /// <summary>
    /// Reports each signal of a descriptor (an eventfd) from now on; signals in quick succession may be reported once. If it
    /// is signalled already, that is reported too. The descriptor is never read, so whoever else reads it is not disturbed.
    /// </summary>
    /// <exception cref="IOException">It cannot be waited on, as a regular file cannot; nothing is watched.</exception>
    void Watch(int watch, SafeFileHandle descriptor);

    /// <summary>Ends a watch: nothing is reported for it any more.</summary>
    void Unwatch(int watch);

    /// <summary>Hands over what was collected, without waiting.</summary>
    void Submit();

    /// <summary>Hands over what was collected and sleeps until there is something to reap.</summary>
    /// <param name="timeoutNanoseconds">Longest sleep; negative for ever.</param>
    void Wait(long timeoutNanoseconds);

    /// <summary>Takes what there is to report. Where the <see cref="Agenda"/> had calls to make, a signal says so.</summary>
    /// <returns>How many were taken; call again if all of <paramref name="destination"/> was filled.</returns>
    int Reap(Span<IoCompletion> destination);

    /// <summary>Makes the sleeping or soon sleeping owner wake. From any thread.</summary>
    void Wake();
}
