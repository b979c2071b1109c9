using System.Diagnostics;
using IoUring;
using FcntlCommand = Mono.Unix.Native.FcntlCommand;
using OpenFlags = Mono.Unix.Native.OpenFlags;
using Syscall = Mono.Unix.Native.Syscall;

namespace VirtioBlkFlow.Disks.Engine;

/// <summary>I/O by io_uring: operations of a turn go to the kernel in one call, sleeping and submitting are one call too.</summary>
internal sealed unsafe partial class UringEngine : IIoEngine
{
    /// <summary>Operations this engine cannot do without.</summary>
    internal static readonly Opcode[] NeededOpcodes =
    [
        Opcode.IORING_OP_READ, Opcode.IORING_OP_READV, Opcode.IORING_OP_WRITE, Opcode.IORING_OP_WRITEV, Opcode.IORING_OP_FSYNC,
        Opcode.IORING_OP_FALLOCATE, Opcode.IORING_OP_POLL_ADD, Opcode.IORING_OP_POLL_REMOVE, Opcode.IORING_OP_SENDMSG, Opcode.IORING_OP_RECVMSG,
        Opcode.IORING_OP_ASYNC_CANCEL,
    ];

    // Submission entries: a full queue is handed over early, so more only saves a call. Arbitrary.
    private const int MaxSubmissionEntries = 256;

    // Operations handed over at once while a file is open for direct I/O: with more, the device waits for us to prepare the last of them.
    // Measured: docs/decisions/0028.
    private const uint MostDirectAtOnce = 4;

    // Places for registered files; beyond them plain descriptors are used. A queue has one disk. Arbitrary.
    private const int RegisteredFileCount = 16;

    // User data: what a completion is about in the top byte; below it the token, or the generation and number of a watch.
    private const int KindShift = 56;
    private const int GenerationShift = 32;
    private const ulong OperationKind = 0;
    private const ulong WatchKind = 1UL << KindShift;
    private const ulong WakeKind = 2UL << KindShift;
    private const ulong IgnoredKind = 3UL << KindShift;
    private const ulong SocketKind = 4UL << KindShift;
    private const ulong KindMask = 0xffUL << KindShift;
    private const uint GenerationMask = (1u << (KindShift - GenerationShift)) - 1;

    // Fixed at construction.
    private readonly Ring _ring;
    private readonly RingWaker _waker;
    private readonly IoctlThread _ioctls;
    private readonly RegisteredMemory _memory;
    private readonly bool _canRegisterFiles;
    private readonly bool _hasCommands;

    // Owned by the queue's thread.
    private readonly List<SafeFileHandle> _files = [];
    private readonly Dictionary<int, Watched> _watches = [];
    private readonly Queue<CompletionEntry> _stash = new();
    private uint _generation;
    private ulong _ioctlCount;
    private uint _mostAtOnce = uint.MaxValue;

    public UringEngine(int operationCount)
        : this(operationCount, LibC.ioctl)
    {
    }

    /// <param name="operationCount">Operations that may be in flight at once.</param>
    /// <param name="ioctl">What <see cref="Ioctl"/> calls.</param>
    internal UringEngine(int operationCount, IoctlCall ioctl)
    {
        _ring = Ring.Create(new RingOptions
        {
            SubmissionEntries = (uint)Math.Clamp(operationCount, 16, MaxSubmissionEntries),
            // Room for all operations and for signals; what finds no room is kept by the kernel (NODROP).
            CompletionEntries = (uint)Math.Max(2 * MaxSubmissionEntries, 2 * operationCount),
        });
        _memory = new RegisteredMemory(_ring);
        try
        {
            _waker = new RingWaker(_ring, WakeKind);
            _ioctls = new IoctlThread(ioctl, _waker.Wake);
            Agenda = new EngineAgenda(TimeProvider.System, _waker.Wake);
            _canRegisterFiles = TryRegisterFileTable();
            _hasCommands = _ring.Supports(Opcode.IORING_OP_URING_CMD);
        }
        catch
        {
            _waker?.Dispose();
            _ring.Dispose();
            throw;
        }
    }

    public EngineAgenda Agenda { get; }

    public bool HasCompletions =>
        _ring.HasCompletions || _ring.NeedsEnter || _stash.Count > 0 || _ioctls.HasCompletions || Agenda.HasDue;

    public ulong SystemCallCount => _ring.EnterCount + _ioctlCount;

    public int RegisterFile(SafeFileHandle file)
    {
        int index = _files.IndexOf(file);
        if (index >= 0)
        {
            return index;
        }

        index = _files.Count;
        bool referenced = false;
        file.DangerousAddRef(ref referenced);
        _files.Add(file);
        if (_canRegisterFiles && index < RegisteredFileCount)
        {
            _ring.UpdateFile((uint)index, (int)file.DangerousGetHandle());
        }

        if (IsDirect(file))
        {
            _mostAtOnce = MostDirectAtOnce;
        }

        return index;
    }

    public bool TryRegisterMemory(ReadOnlySpan<Iovec> areas, out string obstacle)
    {
        obstacle = "";
        for (int i = 0; i < areas.Length; i++)
        {
            try
            {
                _memory.Add(areas[i]);
            }
            catch (IoUringException exception)
            {
                obstacle = exception.Message;
                UnregisterMemory(areas[..i]);
                return false;
            }
        }

        return true;
    }

    public void UnregisterMemory(ReadOnlySpan<Iovec> areas)
    {
        foreach (Iovec area in areas)
        {
            _memory.Remove(area);
        }
    }

    public void Read(int file, Iovec* pieces, int count, ulong offsetBytes, uint token)
    {
        SubmissionEntry* entry = GetEntry();
        if (count == 1)
        {
            int buffer = _memory.IndexOf(*pieces);
            if (buffer >= 0)
            {
                entry->PrepareReadFixed(0, pieces->Base, LengthOf(pieces), offsetBytes, (ushort)buffer, OperationKind | token);
            }
            else
            {
                entry->PrepareRead(0, pieces->Base, LengthOf(pieces), offsetBytes, OperationKind | token);
            }
        }
        else
        {
            entry->PrepareReadv(0, pieces, (uint)count, offsetBytes, OperationKind | token);
        }

        SetFile(entry, file);
    }

    public void Write(int file, Iovec* pieces, int count, ulong offsetBytes, bool durable, uint token)
    {
        SubmissionEntry* entry = GetEntry();
        uint rwFlags = durable ? (uint)LibC.RWF_DSYNC : 0;
        if (count == 1)
        {
            int buffer = _memory.IndexOf(*pieces);
            if (buffer >= 0)
            {
                entry->PrepareWriteFixed(0, pieces->Base, LengthOf(pieces), offsetBytes, rwFlags, (ushort)buffer, OperationKind | token);
            }
            else
            {
                entry->PrepareWrite(0, pieces->Base, LengthOf(pieces), offsetBytes, rwFlags, OperationKind | token);
            }
        }
        else
        {
            entry->PrepareWritev(0, pieces, (uint)count, offsetBytes, rwFlags, OperationKind | token);
        }

        SetFile(entry, file);
    }

    public void Fdatasync(int file, uint token)
    {
        SubmissionEntry* entry = GetEntry();
        entry->PrepareFsync(0, dataOnly: true, OperationKind | token);
        SetFile(entry, file);
    }

    public void Fallocate(int file, int mode, ulong offsetBytes, ulong lengthBytes, uint token)
    {
        SubmissionEntry* entry = GetEntry();
        entry->PrepareFallocate(0, mode, offsetBytes, lengthBytes, OperationKind | token);
        SetFile(entry, file);
    }

    public void Ioctl(int file, nuint request, void* argument, uint token)
    {
        _ioctlCount++;
        _ioctls.Begin((int)_files[file].DangerousGetHandle(), request, argument, token);
    }

    public bool TryDiscard(int file, ulong offsetBytes, ulong lengthBytes, uint token)
    {
        if (!_hasCommands)
        {
            return false;
        }

        SubmissionEntry* entry = GetEntry();
        entry->PrepareCommand(0, LibC.BLOCK_URING_CMD_DISCARD, offsetBytes, lengthBytes, OperationKind | token);
        SetFile(entry, file);
        return true;
    }

    public void Watch(int watch, SafeFileHandle descriptor)
    {
        Debug.Assert(!_watches.ContainsKey(watch), "A watch is ended before its number is used again.");
        _generation = (_generation + 1) & GenerationMask;
        var watched = new Watched(descriptor, WatchKind | ((ulong)_generation << GenerationShift) | (uint)watch);
        bool referenced = false;
        descriptor.DangerousAddRef(ref referenced);
        _watches.Add(watch, watched);
        Arm(watched);
    }

    public void Unwatch(int watch)
    {
        if (_watches.Remove(watch, out Watched? watched))
        {
            GetEntry()->PreparePollRemove(watched.UserData, IgnoredKind);
            // The kernel holds the file itself as long as the poll lasts.
            watched.Descriptor.DangerousRelease();
        }
    }

    public void Submit() => _ring.Submit(_mostAtOnce);

    public void Wait(long timeoutNanoseconds)
    {
        // An ioctl that ends after this look wakes the ring, so that the wait ends at once.
        if (_stash.Count == 0 && !_ioctls.HasCompletions)
        {
            _ring.SubmitAndWait(1, Agenda.LimitSleep(timeoutNanoseconds));
        }
    }

    public int Reap(Span<IoCompletion> destination)
    {
        int count = 0;
        if (Agenda.HasDue)
        {
            Agenda.Run();
            destination[count++] = new IoCompletion(IoCompletionKind.Signal, IIoEngine.WakeToken, 0);
        }

        Span<CompletionEntry> entries = stackalloc CompletionEntry[64];
        int limit = Math.Min(entries.Length, destination.Length - count);
        int found = 0;
        while (_stash.Count > 0 && found < limit)
        {
            entries[found++] = _stash.Dequeue();
        }

        if (found < limit)
        {
            found += _ring.Reap(entries[found..limit]);
        }

        for (int i = 0; i < found; i++)
        {
            ref readonly CompletionEntry entry = ref entries[i];
            if ((entry.UserData & KindMask) == OperationKind)
            {
                destination[count++] = new IoCompletion(IoCompletionKind.Operation, (uint)entry.UserData, entry.Result);
            }
            else if ((entry.UserData & KindMask) == SocketKind)
            {
                _sockets.End((int)(uint)entry.UserData, entry.Result);
                destination[count++] = new IoCompletion(IoCompletionKind.Signal, IIoEngine.WakeToken, 0);
            }
            else if (TryTranslateSignal(in entry, out uint token))
            {
                destination[count++] = new IoCompletion(IoCompletionKind.Signal, token, 0);
            }
        }

        return _ioctls.HasCompletions ? count + _ioctls.Reap(destination[count..]) : count;
    }

    public void Wake() => _waker.Wake();

    /// <summary>
    /// Order: end the ioctls, which use files and wake; end transfers over sockets, which use their owners' memory; end the ring, which ends
    /// polls; then let go of what it used.
    /// </summary>
    public void Dispose()
    {
        _ioctls.Dispose();
        EndSockets();
        _ring.Dispose();
        _waker.Dispose();
        foreach (Watched watched in _watches.Values)
        {
            watched.Descriptor.DangerousRelease();
        }

        _watches.Clear();
        foreach (SafeFileHandle file in _files)
        {
            file.DangerousRelease();
        }

        _files.Clear();
    }

    private static bool IsDirect(SafeFileHandle file)
    {
        int flags = Syscall.fcntl((int)file.DangerousGetHandle(), FcntlCommand.F_GETFL);
        return flags >= 0 && (flags & (int)OpenFlags.O_DIRECT) != 0;
    }

    private static uint LengthOf(Iovec* piece) => (uint)Math.Min(piece->LengthBytes, int.MaxValue);

    private bool TryRegisterFileTable()
    {
        try
        {
            _ring.RegisterFiles(RegisteredFileCount);
            return true;
        }
        catch (IoUringException)
        {
            // Sparse tables came with Linux 5.19; plain descriptors do as well, a little slower.
            return false;
        }
    }

    private void SetFile(SubmissionEntry* entry, int file)
    {
        if (_canRegisterFiles && file < RegisteredFileCount)
        {
            entry->Flags = EntryFlags.IOSQE_FIXED_FILE;
            entry->Descriptor = file;
        }
        else
        {
            entry->Descriptor = (int)_files[file].DangerousGetHandle();
        }
    }

    private SubmissionEntry* GetEntry()
    {
        SubmissionEntry* entry;
        while (!_ring.TryGetEntry(out entry))
        {
            if (_ring.Submit() == WaitOutcome.Busy)
            {
                StashCompletions();
            }
        }

        return entry;
    }

    // The kernel takes no more before completions were reaped: put them aside until the owner asks for them.
    private void StashCompletions()
    {
        Span<CompletionEntry> entries = stackalloc CompletionEntry[64];
        int count;
        while ((count = _ring.Reap(entries)) > 0)
        {
            foreach (CompletionEntry entry in entries[..count])
            {
                _stash.Enqueue(entry);
            }
        }
    }

    private void Arm(Watched watched) =>
        GetEntry()->PreparePollAdd((int)watched.Descriptor.DangerousGetHandle(), SubmissionEntry.POLLIN, multishot: true, watched.UserData);

    private bool TryTranslateSignal(in CompletionEntry entry, out uint token)
    {
        switch (entry.UserData & KindMask)
        {
            case WakeKind:
                _waker.OnCompletion(in entry);
                token = IIoEngine.WakeToken;
                return true;
            case WatchKind:
                token = (uint)entry.UserData;
                // Of an older generation: the watch has ended meanwhile.
                if (!_watches.TryGetValue((int)token, out Watched? watched) || watched.UserData != entry.UserData)
                {
                    return false;
                }

                if ((entry.Flags & CompletionFlags.IORING_CQE_F_MORE) == 0 && entry.Result >= 0)
                {
                    Arm(watched);
                }

                return true;
            default:
                token = 0;
                return false;
        }
    }

    private sealed record Watched(SafeFileHandle Descriptor, ulong UserData);
}
