using VirtioBlkFlow.Frontend.Load;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend.Load;

/// <summary>What a sector must hold, and which wrong contents are told apart.</summary>
public sealed class VerifiedContentsTests
{
    private const ulong First = 64;
    private const ulong Sector = First + 8;
    private const int Bytes = 4096;

    private readonly VerifiedContents _contents = new(7, First, 128, expectEarlierRun: false);

    [Fact]
    public void What_was_written_is_right_and_what_was_there_before_is_not()
    {
        byte[] first = Write(Sector);
        byte[] second = Write(Sector);

        Assert.Contains("generation 2", Read(Sector, first), StringComparison.Ordinal);
        Assert.Null(Read(Sector, second));
    }

    [Fact]
    public void A_sector_nobody_has_written_is_not_judged_but_counted()
    {
        Assert.Null(Read(Sector, new byte[Bytes]));
        Assert.Equal((0, 8), (_contents.CheckedSectors, _contents.UncheckedSectors));
    }

    [Fact]
    public void A_sector_of_another_place_is_named()
    {
        byte[] other = Write(Sector + 16);
        Write(Sector);

        string? complaint = Read(Sector, other);

        Assert.Contains($"sector {Sector} ", complaint, StringComparison.Ordinal);
        Assert.Contains($"holds sector {Sector + 16}, generation 1", complaint, StringComparison.Ordinal);
    }

    [Fact]
    public void Each_wrong_byte_is_found()
    {
        byte[] written = Write(Sector);
        for (int i = 0; i < written.Length; i += 31)
        {
            byte[] spoiled = [.. written];
            spoiled[i] ^= 0x10;

            Assert.Contains($"sector {Sector + (ulong)(i / 512)} ", Read(Sector, spoiled), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Another_seed_writes_something_else()
    {
        byte[] written = Write(Sector);
        var other = new VerifiedContents(8, First, 128, expectEarlierRun: true);

        Assert.NotNull(other.FinishRead(Sector, written));
    }

    [Fact]
    public void A_later_run_that_only_reads_accepts_any_generation_of_the_same_seed_and_nothing_else()
    {
        Write(Sector);
        byte[] second = Write(Sector);
        var later = new VerifiedContents(7, First, 128, expectEarlierRun: true);

        Assert.Null(later.FinishRead(Sector, second));
        Assert.NotNull(later.FinishRead(Sector, new byte[Bytes]));
    }

    [Fact]
    public void A_place_in_flight_is_taken_until_it_comes_back()
    {
        Assert.True(_contents.TryReserve(Sector, Bytes));
        Assert.False(_contents.TryReserve(Sector + 7, 512));
        Assert.False(_contents.TryReserve(Sector - 1, 1024));
        Assert.True(_contents.TryReserve(Sector + 8, 512));
        _contents.FinishWrite(Sector, Bytes);
        Assert.True(_contents.TryReserve(Sector + 7, 512));
    }

    [Fact]
    public void All_that_was_written_is_found_in_stretches()
    {
        Write(First);
        Write(First + 8);
        Write(First + 120);

        Assert.True(_contents.TryFindWritten(0, 12, out ulong sector, out uint count));
        Assert.Equal((First, 12u), (sector, count));
        Assert.True(_contents.TryFindWritten(First + 12, 12, out sector, out count));
        Assert.Equal((First + 12, 4u), (sector, count));
        Assert.True(_contents.TryFindWritten(First + 16, 12, out sector, out count));
        Assert.Equal((First + 120, 8u), (sector, count));
        Assert.False(_contents.TryFindWritten(First + 128, 12, out _, out _));
    }

    private byte[] Write(ulong sector)
    {
        byte[] data = new byte[Bytes];
        Assert.True(_contents.TryReserve(sector, Bytes));
        _contents.Fill(sector, data);
        _contents.FinishWrite(sector, Bytes);
        return data;
    }

    private string? Read(ulong sector, byte[] data)
    {
        Assert.True(_contents.TryReserve(sector, Bytes));
        return _contents.FinishRead(sector, data);
    }
}
