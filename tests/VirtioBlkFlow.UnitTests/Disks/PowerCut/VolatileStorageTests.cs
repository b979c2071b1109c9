using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>The rules by which a storage loses what it was given, one by one.</summary>
public sealed class VolatileStorageTests(ITestOutputHelper output)
{
    private const int SectorBytes = 512;

    private readonly VolatileStorage _storage = new(SectorBytes);

    [Fact]
    public void What_was_written_may_be_there_or_not_and_each_sector_by_itself()
    {
        _storage.End(_storage.BeginWrite(0, Sectors(1, 1)), durable: false);
        Assert.Equal([0, 1], Possible(0));
        Assert.Equal([0, 1], Possible(1));
        var found = new HashSet<(int, int)>();
        var random = new Random(TestSeed.Take(output));
        for (int i = 0; i < 200; i++)
        {
            Dictionary<long, ReadOnlyMemory<byte>> left = _storage.Cut(random);
            found.Add((Value(left[0]), Value(left[1])));
        }

        Assert.Equal(4, found.Count);
    }

    [Fact]
    public void A_sync_covers_what_had_ended_when_it_began_and_nothing_else()
    {
        VolatileStorage.PendingWrite early = _storage.BeginWrite(0, Sectors(1));
        VolatileStorage.PendingWrite late = _storage.BeginWrite(512, Sectors(1));
        _storage.End(early, durable: false);
        long begun = _storage.BeginSync();
        _storage.End(late, durable: false);
        Assert.Equal([0, 1], Possible(0));
        _storage.EndSync(begun);
        Assert.Equal([1], Possible(0));
        Assert.Equal([0, 1], Possible(1));
    }

    [Fact]
    public void A_durable_write_covers_itself_alone()
    {
        _storage.End(_storage.BeginWrite(0, Sectors(1)), durable: false);
        _storage.End(_storage.BeginWrite(512, Sectors(2)), durable: true);
        Assert.Equal([0, 1], Possible(0));
        Assert.Equal([2], Possible(1));
    }

    [Fact]
    public void What_is_in_flight_may_be_there_already()
    {
        _storage.End(_storage.BeginWrite(0, Sectors(1)), durable: true);
        _storage.BeginWrite(0, Sectors(2));
        Assert.Equal([1, 2], Possible(0));
        _storage.EndSync(_storage.BeginSync());
        Assert.Equal([1, 2], Possible(0));
    }

    [Fact]
    public void Of_two_writes_at_the_same_time_either_may_be_the_later_one()
    {
        VolatileStorage.PendingWrite one = _storage.BeginWrite(0, Sectors(1));
        VolatileStorage.PendingWrite other = _storage.BeginWrite(0, Sectors(2));
        _storage.End(one, durable: true);
        _storage.End(other, durable: true);
        Assert.Equal([1, 2], Possible(0));
        _storage.End(_storage.BeginWrite(0, Sectors(3)), durable: false);
        Assert.Equal([1, 2, 3], Possible(0));
        _storage.EndSync(_storage.BeginSync());
        Assert.Equal([3], Possible(0));
    }

    [Fact]
    public void Older_versions_may_come_back_until_a_later_one_is_durable()
    {
        for (byte i = 1; i <= 3; i++)
        {
            _storage.End(_storage.BeginWrite(0, Sectors(i)), durable: false);
        }

        Assert.Equal([0, 1, 2, 3], Possible(0));
        long begun = _storage.BeginSync();
        _storage.End(_storage.BeginZeroes(0, SectorBytes), durable: false);
        _storage.EndSync(begun);
        Assert.Equal([3, 0], Possible(0));
    }

    [Fact]
    public void What_failed_or_was_cut_short_is_never_durable_and_may_be_there()
    {
        _storage.End(_storage.BeginWrite(0, Sectors(1, 1)), doneSectors: 1, durable: true);
        _storage.EndSync(_storage.BeginSync());
        Assert.Equal([1], Possible(0));
        Assert.Equal([0, 1], Possible(1));
    }

    [Fact]
    public void After_a_sync_that_failed_no_later_one_covers_what_was_before()
    {
        _storage.End(_storage.BeginWrite(0, Sectors(1)), durable: false);
        _storage.FailSync();
        _storage.End(_storage.BeginWrite(512, Sectors(2)), durable: false);
        _storage.EndSync(_storage.BeginSync());
        Assert.Equal([0, 1], Possible(0));
        Assert.Equal([2], Possible(1));
        _storage.End(_storage.BeginWrite(0, Sectors(3)), durable: true);
        Assert.Equal([3], Possible(0));
    }

    [Fact]
    public void What_was_loaded_is_durable_and_zeros_over_it_are_a_write()
    {
        _storage.Load(0, Sectors(7));
        Assert.Equal([7], Possible(0));
        _storage.End(_storage.BeginZeroes(0, 2 * SectorBytes), durable: false);
        Assert.Equal([7, 0], Possible(0));
        Assert.Equal([0], Possible(1));
        Assert.True(_storage.IsPossible(0, new byte[SectorBytes]));
        Assert.False(_storage.IsPossible(0, Sectors(8)));
    }

    private static byte[] Sectors(params ReadOnlySpan<byte> values)
    {
        byte[] sectors = new byte[values.Length * SectorBytes];
        for (int i = 0; i < values.Length; i++)
        {
            sectors.AsSpan(i * SectorBytes, SectorBytes).Fill(values[i]);
        }

        return sectors;
    }

    private static int Value(ReadOnlyMemory<byte> content) => content.IsEmpty ? 0 : content.Span[0];

    private int[] Possible(long sector) => [.. _storage.Possible(sector).Select(Value)];
}
