using System.Runtime.CompilerServices;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Engine;

/// <content>
/// Transfers over sockets take no thread: they are tried without blocking by the owner itself, and what has to wait is tried again when
/// epoll(7) says that it may go on.
/// </content>
internal sealed unsafe partial class ThreadEngine
{
    // Marks the data of an event as a socket's descriptor: watches and the wake have 32 bits.
    private const ulong SocketMark = 1UL << 32;

    // Owned by the queue's thread.
    private readonly SocketOperations _sockets = new();
    private readonly Queue<int> _newSocketOperations = new();
    private readonly Queue<(int Number, int Result)> _endedSocketOperations = new();
    private readonly Dictionary<int, Waiting> _waitingSockets = [];

    public void Send(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) =>
        _newSocketOperations.Enqueue(_sockets.Begin(isSend: true, socket, message, user, token));

    public void Receive(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token) =>
        _newSocketOperations.Enqueue(_sockets.Begin(isSend: false, socket, message, user, token));

    private void SubmitSockets()
    {
        while (_newSocketOperations.TryDequeue(out int number))
        {
            if (!TrySocket(number))
            {
                int descriptor = _sockets[number].Descriptor;
                Waiting waiting = _waitingSockets.GetValueOrDefault(descriptor, Waiting.None);
                waiting = _sockets[number].IsSend ? waiting with { Send = number } : waiting with { Receive = number };
                _waitingSockets[descriptor] = waiting;
                Arm(descriptor, waiting);
            }
        }
    }

    private int ReapSockets(Span<IoCompletion> destination)
    {
        int count = 0;
        while (count < destination.Length && _endedSocketOperations.TryDequeue(out (int Number, int Result) ended))
        {
            _sockets.End(ended.Number, ended.Result);
            destination[count++] = new IoCompletion(IoCompletionKind.Signal, IIoEngine.WakeToken, 0);
        }

        return count;
    }

    // False if it would have to wait.
    private bool TrySocket(int number)
    {
        ref SocketOperations.Operation operation = ref _sockets[number];
        int errno;
        do
        {
            _systemCallCount++;
            nint result = operation.IsSend
                ? sendmsg(operation.Descriptor, operation.Message, (int)(MSG_NOSIGNAL | MSG_DONTWAIT))
                : recvmsg(operation.Descriptor, operation.Message, (int)MSG_DONTWAIT);
            if (result >= 0)
            {
                _endedSocketOperations.Enqueue((number, (int)result));
                return true;
            }

            errno = Marshal.GetLastPInvokeError();
        }
        while (errno == EINTR);
        if (errno == EAGAIN)
        {
            return false;
        }

        _endedSocketOperations.Enqueue((number, -errno));
        return true;
    }

    private void OnSocketReady(int descriptor)
    {
        // Of a socket that nobody waits for any more.
        if (!_waitingSockets.TryGetValue(descriptor, out Waiting waiting))
        {
            return;
        }

        if (waiting.Receive >= 0 && TrySocket(waiting.Receive))
        {
            waiting = waiting with { Receive = -1 };
        }

        if (waiting.Send >= 0 && TrySocket(waiting.Send))
        {
            waiting = waiting with { Send = -1 };
        }

        _waitingSockets[descriptor] = waiting;
        Arm(descriptor, waiting);
    }

    // Reported once, so that a socket nobody waits for is silent, also when its peer is gone. It stays known to epoll(7) until it is closed.
    private void Arm(int descriptor, Waiting waiting)
    {
        if (waiting == Waiting.None)
        {
            _waitingSockets.Remove(descriptor);
            return;
        }

        byte* epollEvent = stackalloc byte[16];
        *(uint*)epollEvent = EPOLLONESHOT | (waiting.Receive >= 0 ? EPOLLIN : 0) | (waiting.Send >= 0 ? EPOLLOUT : 0);
        Unsafe.WriteUnaligned(epollEvent + s_eventDataOffset, SocketMark | (uint)descriptor);
        int epoll = (int)_epoll.DangerousGetHandle();
        _systemCallCount++;
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, descriptor, epollEvent) != 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, epollEvent) != 0)
        {
            throw new IOException($"epoll_ctl(2) failed: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
    }

    // Numbers of what waits for a socket; -1 for nothing.
    private readonly record struct Waiting(int Receive, int Send)
    {
        public static Waiting None { get; } = new(-1, -1);
    }
}
