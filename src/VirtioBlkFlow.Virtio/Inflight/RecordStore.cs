namespace VirtioBlkFlow.Virtio.Inflight;

/// <summary>Hears of each store to a record. A test's observer ends the process's life there; <see cref="Unobserved"/> compiles to nothing.</summary>
internal interface IStoreObserver
{
    /// <summary>One store has just been made.</summary>
    void Stored();
}

/// <summary>The observer of a running device: none.</summary>
internal readonly struct Unobserved : IStoreObserver
{
    /// <inheritdoc/>
    public void Stored()
    {
    }
}

/// <summary>
/// The only way to write a record. Each store is a release: it is ordered after all stores before it, those to the ring and to guest memory
/// among them. That is what the record's reader needs, and it is no other thread: it is the process that maps the memory after this one was
/// killed between two instructions, and it sees what a prefix of the program's stores left. So it is the compiler that must not reorder;
/// a plain move on x86-64, a store-release on arm64.
/// </summary>
internal static unsafe class RecordStore
{
    /// <summary>Stores a byte.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write<TObserver>(byte* field, byte value, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        Volatile.Write(ref *field, value);
        observer.Stored();
    }

    /// <summary>Stores a le16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write<TObserver>(ushort* field, ushort value, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        Volatile.Write(ref *field, value);
        observer.Stored();
    }

    /// <summary>Stores a le64.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write<TObserver>(ulong* field, ulong value, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        Volatile.Write(ref *field, value);
        observer.Stored();
    }

    /// <summary>Stores both free heads at once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write<TObserver>(FreeHeads* field, FreeHeads value, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        Volatile.Write(ref *(uint*)field, Unsafe.BitCast<FreeHeads, uint>(value));
        observer.Stored();
    }

    /// <summary>Stores all used positions at once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write<TObserver>(UsedPositions* field, UsedPositions value, TObserver observer)
        where TObserver : struct, IStoreObserver
    {
        Volatile.Write(ref *(ulong*)field, Unsafe.BitCast<UsedPositions, ulong>(value));
        observer.Stored();
    }
}
