using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VirtioBlkFlow.Virtio.Inflight;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>The steps of a packed virtqueue's record one by one, on a queue of 5 (vhost-user, "Inflight I/O tracking").</summary>
public sealed class PackedInflightRecordTests : IDisposable
{
    private const int QueueSize = 5;
    private const ushort AvailableInFirstLap = 1 << 7;
    private const ushort UsedInFirstLap = (1 << 7) | (1 << 15);

    private static readonly PackedPosition s_start = new(3, true);

    private readonly GuardedMemory _region = new(InflightLayout.BytesPerQueue(packed: true, QueueSize));
    private readonly GuardedMemory _ring = new(QueueSize * 16);

    private ref PackedInflightHeader Header => ref MemoryMarshal.AsRef<PackedInflightHeader>(_region.Bytes);

    private Span<PackedInflightEntry> Entries => MemoryMarshal.Cast<byte, PackedInflightEntry>(_region.Bytes[32..])[..QueueSize];

    public void Dispose()
    {
        _region.Dispose();
        _ring.Dispose();
    }

    [Fact]
    public void A_new_record_has_all_entries_free_and_begins_where_the_front_end_says()
    {
        _region.Bytes.Fill(0xff);
        Header.Version = 0;
        PackedInflightRecord record = Open(s_start);
        Assert.Null(record.NextAvailable);
        Assert.Equal(s_start, record.Used);
        Assert.Equal((1, QueueSize, 0, 0), (Header.Version, Header.EntryCount, Header.FreeHeads.Current, Header.FreeHeads.Old));
        Assert.Equal((3, 3, 1, 1), (Header.Used.Offset, Header.Used.OldOffset, Header.Used.Wrap, Header.Used.OldWrap));
        Assert.Equal([1, 2, 3, 4, 5], Entries.ToArray().Select(entry => (int)entry.Next));
        Assert.All(Entries.ToArray(), entry => Assert.Equal(0, entry.Inflight));
    }

    [Fact]
    public void A_chain_is_saved_with_its_descriptors_and_comes_back_with_them()
    {
        PackedInflightRecord record = Open(s_start);
        Take(record, slot: 4, id: 70, length: 2);
        Take(record, slot: 0, id: 71, length: 1);
        Assert.Equal((2, 1, 1), (Entries[0].Num, Entries[0].Last, Entries[0].Inflight));
        Assert.Equal((1, 2, 1), (Entries[2].Num, Entries[2].Last, Entries[2].Inflight));
        Assert.True(Entries[0].Counter < Entries[2].Counter);
        Assert.Equal((3, 3), (Header.FreeHeads.Current, Header.FreeHeads.Old));
        PackedInflightRecord next = Open(default);
        Assert.Equal(s_start, next.Used);
        // 3 slots from offset 3 in a ring of 5: over its end.
        Assert.Equal(new PackedPosition(1, false), next.NextAvailable);
        Assert.Equal([(0, 70, 2), (2, 71, 1)], next.Recovered.ToArray().Select(chain => ((int)chain.Slot, (int)chain.BufferId, chain.Descriptors.Length)));
        Assert.Equal([700UL, 701UL], next.Recovered[0].Descriptors.Select(descriptor => descriptor.Address));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_batch_of_the_whole_ring_is_committed_if_the_driver_saw_it_and_else_rolled_back(bool published)
    {
        PackedInflightRecord record = Open(s_start);
        Take(record, slot: 0, id: 7, length: 3);
        Take(record, slot: 1, id: 8, length: 2);
        record.AddToBatch(1);
        record.AddToBatch(0);
        record.BeforePublish();
        // One lap: the offset it began at, only the wrap counter tells the two positions apart.
        Assert.Equal((3, 3, 0, 1), (Header.Used.Offset, Header.Used.OldOffset, Header.Used.Wrap, Header.Used.OldWrap));
        SetFlags(3, published ? UsedInFirstLap : AvailableInFirstLap);
        PackedInflightRecord next = Open(default);
        Assert.Equal(new PackedPosition(3, false), next.NextAvailable);
        Assert.Equal(published ? new PackedPosition(3, false) : s_start, next.Used);
        Assert.Equal(published ? [] : [7, 8], next.Recovered.ToArray().Select(chain => (int)chain.BufferId));
        Assert.Equal(published ? 0 : 2, Entries.ToArray().Count(entry => entry.Inflight == 1));
    }

    [Fact]
    public void A_used_descriptor_of_a_batch_the_driver_did_not_see_is_withdrawn()
    {
        PackedInflightRecord record = Open(new PackedPosition(0, true));
        Take(record, slot: 0, id: 7, length: 1);
        Take(record, slot: 1, id: 8, length: 1);
        record.AddToBatch(0);
        record.AddToBatch(1);
        record.BeforePublish();
        SetFlags(1, UsedInFirstLap);
        SetFlags(0, AvailableInFirstLap);
        PackedInflightRecord next = Open(default);
        Assert.Equal(2, next.Recovered.Length);
        Assert.True(next.WroteRing);
        // Else the driver would take it for the completion of 8 as soon as 7 is used.
        Assert.Equal(AvailableInFirstLap, Flags(1));
        Assert.False(Open(default).WroteRing);
    }

    [Fact]
    public void A_chain_that_was_not_taken_whole_leaves_no_trace()
    {
        PackedInflightRecord record = Open(s_start);
        for (int i = 0; i < QueueSize; i++)
        {
            Assert.True(record.TrySave(default));
        }

        Assert.False(record.TrySave(default));
        record.Abandon();
        Entries[0].Inflight = 1;
        PackedInflightRecord next = Open(default);
        Assert.True(next.Recovered.IsEmpty);
        Assert.Equal(0, Entries[0].Inflight);
    }

    public static TheoryData<string, InflightDefect> Damages() => new()
    {
        { "version", InflightDefect.UnknownVersion },
        { "size", InflightDefect.OtherQueueSize },
        { "flag", InflightDefect.NotAFlag },
        { "wrap", InflightDefect.NotAFlag },
        { "used offset", InflightDefect.UsedOffsetOutOfRange },
        { "old used offset", InflightDefect.UsedOffsetOutOfRange },
        { "free head", InflightDefect.FreeListOutOfRange },
        { "free next", InflightDefect.FreeListOutOfRange },
        { "free loop", InflightDefect.FreeListLoops },
        { "free list ends early", InflightDefect.EntryLost },
        { "free list leads into a chain", InflightDefect.EntryLost },
        { "no length", InflightDefect.ChainLength },
        { "long", InflightDefect.ChainLength },
        { "chain next", InflightDefect.ChainOutOfRange },
        { "chain loop", InflightDefect.EntryTwice },
        { "chain into the free list", InflightDefect.EntryTwice },
        { "last", InflightDefect.ChainEndsElsewhere },
        { "second head", InflightDefect.EntryTwice },
        { "not in flight", InflightDefect.EntryLost },
        { "counter twice", InflightDefect.CounterUnusable },
        { "counter at its end", InflightDefect.CounterUnusable },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public void A_damaged_record_is_refused_with_its_reason_and_left_as_it_was(string damage, InflightDefect expected)
    {
        PackedInflightRecord sound = Open(s_start);
        // Entries 0 and 1, entry 2; 3 and 4 are free.
        Take(sound, slot: 0, id: 7, length: 2);
        Take(sound, slot: 1, id: 8, length: 1);
        switch (damage)
        {
            case "version": Header.Version = 2; break;
            case "size": Header.EntryCount = QueueSize + 1; break;
            case "flag": Entries[4].Inflight = 2; break;
            case "wrap": Header.Used.OldWrap = 2; break;
            case "used offset": Header.Used.Offset = QueueSize; break;
            case "old used offset": Header.Used.OldOffset = QueueSize; break;
            case "free head": Header.FreeHeads.Old = QueueSize + 1; break;
            case "free next": Entries[3].Next = 65535; break;
            case "free loop": Entries[4].Next = 3; break;
            case "free list ends early": Header.FreeHeads.Old = QueueSize; break;
            // It makes the chain's entries free, and loses nobody but the chain's head.
            case "free list leads into a chain": Header.FreeHeads.Old = 1; Entries[1].Next = 2; Entries[2].Next = 3; Entries[0].Inflight = 0; break;
            case "no length": Entries[0].Num = 0; break;
            case "long": Entries[0].Num = QueueSize + 1; break;
            case "chain next": Entries[0].Next = QueueSize; break;
            case "chain loop": Entries[0].Next = 0; break;
            case "chain into the free list": Entries[0].Next = 3; break;
            case "last": Entries[0].Last = 0; break;
            case "second head": Entries[1].Inflight = 1; Entries[1].Num = 1; Entries[1].Last = 1; break;
            case "not in flight": Entries[0].Inflight = 0; break;
            case "counter twice": Entries[2].Counter = Entries[0].Counter; break;
            case "counter at its end": Entries[2].Counter = ulong.MaxValue; break;
        }

        byte[] before = _region.Bytes.ToArray();
        Assert.Equal(
            expected,
            PackedInflightRecord.TryOpen(_region.Address, (ulong)_region.LengthBytes, QueueSize, _ring.Address, s_start, out PackedInflightRecord? record));
        Assert.Null(record);
        Assert.Equal(before, _region.Bytes.ToArray());
    }

    private PackedInflightRecord Open(PackedPosition said)
    {
        Assert.Equal(
            InflightDefect.None,
            PackedInflightRecord.TryOpen(_region.Address, (ulong)_region.LengthBytes, QueueSize, _ring.Address, said, out PackedInflightRecord? record));
        return record!;
    }

    private static void Take(PackedInflightRecord record, ushort slot, ushort id, int length)
    {
        for (int i = 0; i < length; i++)
        {
            Assert.True(record.TrySave(new SavedDescriptor { Id = id, Address = (ulong)((id * 10) + i) }));
        }

        record.Take(slot);
    }

    private void SetFlags(int offset, ushort flags) => BinaryPrimitives.WriteUInt16LittleEndian(_ring.Bytes[((offset * 16) + 14)..], flags);

    private ushort Flags(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_ring.Bytes[((offset * 16) + 14)..]);
}
