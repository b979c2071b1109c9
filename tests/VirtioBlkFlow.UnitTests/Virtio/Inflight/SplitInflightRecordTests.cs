using System.Runtime.InteropServices;
using VirtioBlkFlow.Virtio.Inflight;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>Hand-made records of a split virtqueue of 8 (vhost-user, "Inflight I/O tracking").</summary>
public sealed class SplitInflightRecordTests : IDisposable
{
    private const int QueueSize = 8;

    private readonly GuardedMemory _region = new(InflightLayout.BytesPerQueue(packed: false, QueueSize));

    private ref SplitInflightHeader Header => ref MemoryMarshal.AsRef<SplitInflightHeader>(_region.Bytes);

    private Span<SplitInflightEntry> Entries => MemoryMarshal.Cast<byte, SplitInflightEntry>(_region.Bytes[16..])[..QueueSize];

    public void Dispose() => _region.Dispose();

    [Fact]
    public void A_new_record_is_made_and_what_it_held_is_not_interpreted()
    {
        _region.Bytes.Fill(0xff);
        Header.Version = 0;
        SplitInflightRecord record = Open(usedIndex: 65535);
        Assert.Null(record.NextAvailable);
        Assert.True(record.Recovered.IsEmpty);
        Assert.Equal((1, QueueSize, 65535), (Header.Version, Header.EntryCount, Header.UsedIndex));
        Assert.Equal(0UL, Header.Features);
        Assert.All(Entries.ToArray(), entry => Assert.Equal((0, 0UL), (entry.Inflight, entry.Counter)));
    }

    [Fact]
    public void A_batch_that_was_published_is_cleared_when_the_index_lags_by_its_length()
    {
        // The batch 5, 2, 7 over the wrap of the index; 3 stays in flight.
        MakeSound(usedIndex: 65534, lastBatchHead: 5);
        SetInFlight((3, 40), (5, 41), (2, 39), (7, 42));
        Entries[5].Next = 2;
        Entries[2].Next = 7;
        Entries[7].Next = 3;
        SplitInflightRecord record = Open(usedIndex: 1);
        Assert.Equal([3], record.Recovered.ToArray().Select(head => (int)head));
        Assert.Equal((ushort)2, record.NextAvailable);
        Assert.Equal(1, Header.UsedIndex);
        Assert.Equal([3], InFlight());
    }

    [Fact]
    public void Requests_come_back_in_the_order_of_their_counters_and_new_ones_come_after()
    {
        MakeSound(usedIndex: 10, lastBatchHead: 0);
        SetInFlight((1, 30), (4, 10), (6, 20));
        // Not in flight: its counter says nothing.
        Entries[7].Counter = 1000;
        SplitInflightRecord record = Open(usedIndex: 10);
        Assert.Equal([4, 6, 1], record.Recovered.ToArray().Select(head => (int)head));
        Assert.Equal((ushort)13, record.NextAvailable);
        Assert.True(record.Take(0));
        Assert.Equal((1, 31UL), (Entries[0].Inflight, Entries[0].Counter));
    }

    [Fact]
    public void A_head_cannot_be_taken_again_before_its_batch_is_published()
    {
        SplitInflightRecord record = Open(usedIndex: 0);
        Assert.True(record.Take(3));
        Assert.False(record.Take(3));
        record.AddToBatch(3);
        Assert.False(record.Take(3));
        Assert.Equal([3], InFlight());
        record.BeforePublish();
        Assert.Equal((3, 1, 0), (Header.LastBatchHead, Entries[3].Inflight, Header.UsedIndex));
        record.AfterPublish(1);
        Assert.Equal(1, Header.UsedIndex);
        Assert.Empty(InFlight());
        Assert.True(record.Take(3));
    }

    public static TheoryData<string, InflightDefect> Damages() => new()
    {
        { "version", InflightDefect.UnknownVersion },
        { "size", InflightDefect.OtherQueueSize },
        { "flag", InflightDefect.NotAFlag },
        { "lag", InflightDefect.BatchTooLong },
        { "head", InflightDefect.BatchHeadOutOfRange },
        { "next", InflightDefect.BatchHeadOutOfRange },
        { "loop", InflightDefect.BatchLoops },
        { "counter twice", InflightDefect.CounterUnusable },
        { "counter at its end", InflightDefect.CounterUnusable },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public void A_damaged_record_is_refused_with_its_reason_and_left_as_it_was(string damage, InflightDefect expected)
    {
        MakeSound(usedIndex: 10, lastBatchHead: 2);
        SetInFlight((2, 1), (3, 2), (4, 3), (5, 4));
        Entries[2].Next = 3;
        Entries[3].Next = 4;
        switch (damage)
        {
            case "version": Header.Version = 2; break;
            case "size": Header.EntryCount = 16; break;
            case "flag": Entries[7].Inflight = 2; break;
            case "lag": Header.UsedIndex = unchecked((ushort)(13 - QueueSize - 1)); break;
            case "head": Header.LastBatchHead = QueueSize; break;
            case "next": Entries[3].Next = 65535; break;
            case "loop": Entries[3].Next = 2; break;
            case "counter twice": SetInFlight((6, 4)); break;
            case "counter at its end": SetInFlight((6, ulong.MaxValue)); break;
        }

        byte[] before = _region.Bytes.ToArray();
        Assert.Equal(expected, SplitInflightRecord.TryOpen(_region.Address, (ulong)_region.LengthBytes, QueueSize, 13, out SplitInflightRecord? record));
        Assert.Null(record);
        Assert.Equal(before, _region.Bytes.ToArray());
    }

    private SplitInflightRecord Open(ushort usedIndex)
    {
        Assert.Equal(InflightDefect.None, SplitInflightRecord.TryOpen(_region.Address, (ulong)_region.LengthBytes, QueueSize, usedIndex, out SplitInflightRecord? record));
        return record!;
    }

    private void MakeSound(ushort usedIndex, ushort lastBatchHead)
    {
        Header.Version = 1;
        Header.EntryCount = QueueSize;
        Header.UsedIndex = usedIndex;
        Header.LastBatchHead = lastBatchHead;
    }

    private void SetInFlight(params (int Head, ulong Counter)[] requests)
    {
        foreach ((int head, ulong counter) in requests)
        {
            Entries[head].Inflight = 1;
            Entries[head].Counter = counter;
        }
    }

    private int[] InFlight()
    {
        SplitInflightEntry[] entries = Entries.ToArray();
        return [.. Enumerable.Range(0, QueueSize).Where(head => entries[head].Inflight != 0)];
    }
}
