using IoUring;
using static VirtioBlkFlow.Disks.LibC;

namespace VirtioBlkFlow.Disks.Engine;

/// <content>Transfers over sockets: operations of the ring like all others, of which the ends go straight to who began them.</content>
internal sealed unsafe partial class UringEngine
{
    // Owned by the queue's thread.
    private readonly SocketOperations _sockets = new();

    public void Send(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token)
    {
        SubmissionEntry* entry = GetEntry();
        int number = _sockets.Begin(isSend: true, socket, message, user, token);
        // A peer that is gone is an error of this operation, not a signal to the process.
        entry->PrepareSendMessage(_sockets[number].Descriptor, message, MSG_NOSIGNAL, SocketKind | (uint)number);
    }

    public void Receive(SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token)
    {
        SubmissionEntry* entry = GetEntry();
        int number = _sockets.Begin(isSend: false, socket, message, user, token);
        entry->PrepareReceiveMessage(_sockets[number].Descriptor, message, 0, SocketKind | (uint)number);
    }

    // The kernel uses messages and the memory they name until an operation has ended, also when the ring is closed meanwhile. Nobody is left
    // to hear how it ended.
    private void EndSockets()
    {
        Span<CompletionEntry> entries = stackalloc CompletionEntry[64];
        for (int number = 0; number < _sockets.Bound && _sockets.Count > 0; number++)
        {
            if (_sockets[number].User != null)
            {
                _sockets[number].User = SilentUser.Instance;
                GetEntry()->PrepareCancel(SocketKind | (uint)number, IgnoredKind);
            }
        }

        while (_sockets.Count > 0)
        {
            while (_stash.TryDequeue(out CompletionEntry stashed))
            {
                EndIfSocket(in stashed);
            }

            if (_sockets.Count > 0)
            {
                _ring.SubmitAndWait(1, -1);
                int found = _ring.Reap(entries);
                foreach (ref readonly CompletionEntry entry in entries[..found])
                {
                    EndIfSocket(in entry);
                }
            }
        }
    }

    private void EndIfSocket(in CompletionEntry entry)
    {
        if ((entry.UserData & KindMask) == SocketKind)
        {
            _sockets.End((int)(uint)entry.UserData, entry.Result);
        }
    }

    private sealed class SilentUser : ISocketUser
    {
        public static SilentUser Instance { get; } = new();

        public void OnSocketCompleted(int token, int result)
        {
        }
    }
}
