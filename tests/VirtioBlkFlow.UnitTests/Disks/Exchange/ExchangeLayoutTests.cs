using System.Buffers.Binary;
using System.Text;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Exchange;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Exchange;

public sealed class ExchangeLayoutTests
{
    [Theory]
    [InlineData(0, 0, 2097152, 2097160)]
    [InlineData(1, 8, 2097160, 2097168)]
    [InlineData(4096, 8, 2097160, 2097168)]
    [InlineData(4097, 16, 2097168, 2097176)]
    public void Unless_told_otherwise_the_output_begins_with_a_page_and_the_status_sector_is_8_before_the_end(ulong input, ulong output, ulong status, ulong sectors)
    {
        ExchangeLayout layout = ExchangeLayout.Create(input);
        Assert.Equal(new ExchangeLayout(input, output, 1 << 30, status, sectors), layout);
        Assert.Equal(layout.SectorCount - 8, layout.StatusSector);
    }

    [Fact]
    public void Where_things_are_can_be_chosen()
    {
        Assert.Equal(new ExchangeLayout(700, 5, 1024, 8, 16), ExchangeLayout.Create(700, inputSectors: 5, outputBytes: 513));
        // The output reaches to a status sector that is given, unless it is to be smaller.
        Assert.Equal(new ExchangeLayout(700, 8, 92 * 512, 100, 104), ExchangeLayout.Create(700, statusSector: 100));
        Assert.Equal(new ExchangeLayout(700, 8, 1024, 100, 104), ExchangeLayout.Create(700, outputBytes: 1024, statusSector: 100));
        Assert.Equal(new ExchangeLayout(700, 2, 0, 2, 8), ExchangeLayout.Create(700, inputSectors: 2, outputBytes: 0, statusSector: 2));
    }

    [Theory]
    [InlineData(1025ul, 2ul, null, null, "3 or more")]
    [InlineData(1ul, null, null, 7ul, "inside the input")]
    [InlineData(1ul, null, 4096ul, 15ul, "inside the output, which ends at sector 16")]
    [InlineData(1ul, ulong.MaxValue, null, null, "more than a disk")]
    [InlineData(1ul, null, ulong.MaxValue, null, "more than a disk")]
    [InlineData(1ul, null, null, ulong.MaxValue, "more than a disk")]
    [InlineData(1ul, 18014398509481975ul, 1ul << 20, null, "more than a disk")]
    public void What_does_not_fit_is_said(ulong input, ulong? inputSectors, ulong? outputBytes, ulong? status, string words)
    {
        DiskOpenException refusal = Assert.Throws<DiskOpenException>(() => ExchangeLayout.Create(input, inputSectors, outputBytes, status));
        Assert.Contains(words, refusal.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(18014398509481975ul * 512, null)]
    [InlineData(0ul, 18014398509481975ul)]
    public void The_largest_that_fits_is_a_file_that_can_be(ulong outputBytes, ulong? status)
    {
        foreach (ulong less in Enumerable.Range(0, 24).Select(sectors => (ulong)sectors))
        {
            ExchangeLayout? layout = null;
            try
            {
                layout = ExchangeLayout.Create(0, outputBytes: outputBytes - Math.Min(outputBytes, less * 512), statusSector: status - less);
            }
            catch (DiskOpenException)
            {
                // Too much, and said so.
            }

            Assert.True(layout is null || layout.SectorCount <= long.MaxValue / 512, $"{less} less: {layout}");
            Assert.True(layout is not null || less < 16, $"{less} less is not too much.");
        }
    }

    [Fact]
    public void The_header_says_where_things_are()
    {
        byte[] sector = Header(out ExchangeLayout layout);
        Assert.Equal("VBLKEXCH", Encoding.ASCII.GetString(sector[..8]));
        ulong[] fields = [.. Enumerable.Range(1, 8).Select(i => BinaryPrimitives.ReadUInt64LittleEndian(sector.AsSpan(i * 8)))];
        Assert.Equal([1ul, 0, 0, 0, 700, 8, 4096, 16], fields);
        Assert.Equal(-1, sector.AsSpan(72).IndexOfAnyExcept((byte)0));
        Assert.True(layout.TryRead(sector, out ExchangeMark? mark, out _));
        Assert.Null(mark);
    }

    [Fact]
    public void A_mark_says_how_it_went()
    {
        ExchangeLayout layout = ExchangeLayout.Create(700, outputBytes: 4096);
        Assert.True(layout.TryRead(Mark(1, 4096, 0), out ExchangeMark? done, out _));
        Assert.Equal(new ExchangeMark(true, 4096, 0, ""), done);
        Assert.True(layout.TryRead(Mark(2, 0, 255, "no\u001b[31m space\n"), out ExchangeMark? failed, out _));
        Assert.Equal(new ExchangeMark(false, 0, 255, "no?[31m space"), failed);
        // A message that fills its field has no end.
        Assert.True(layout.TryRead(Mark(2, 0, 1, new string('x', 256)), out ExchangeMark? wordy, out _));
        Assert.Equal(new string('x', 256), wordy!.Message);
    }

    [Theory]
    [InlineData(0, 0, 0, "state 0")]
    [InlineData(3, 0, 0, "state 3")]
    [InlineData(1, 4097, 0, "4097 bytes of output")]
    [InlineData(1, 1, 1, "done, with exit code 1")]
    [InlineData(2, 1, 256, "exit code 256")]
    public void What_is_no_mark_is_said(ulong state, ulong bytes, ulong code, string words)
    {
        Assert.False(ExchangeLayout.Create(700, outputBytes: 4096).TryRead(Mark(state, bytes, code), out ExchangeMark? mark, out string problem));
        Assert.Null(mark);
        Assert.Contains(words, problem, StringComparison.Ordinal);
    }

    [Fact]
    public void A_header_of_something_else_is_no_mark()
    {
        ExchangeLayout layout = ExchangeLayout.Create(700, outputBytes: 4096);
        Assert.False(layout.TryRead(new byte[512], out _, out string zeros));
        Assert.Contains("0000000000000000", zeros, StringComparison.Ordinal);
        byte[] newer = Mark(1, 0, 0);
        newer[8] = 2;
        Assert.False(layout.TryRead(newer, out _, out string version));
        Assert.Contains("version 2", version, StringComparison.Ordinal);
        byte[] changed = Header(out _);
        changed[40]++;
        Assert.False(layout.TryRead(changed, out _, out _));
    }

    /// <summary>What a guest writes to the status sector.</summary>
    internal static byte[] Mark(ulong state, ulong bytes, ulong code, string message = "")
    {
        byte[] sector = new byte[512];
        "VBLKEXCH"u8.CopyTo(sector);
        ulong[] fields = [1, state, bytes, code];
        for (int i = 0; i < fields.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(sector.AsSpan(8 + (i * 8)), fields[i]);
        }

        Encoding.UTF8.GetBytes(message, sector.AsSpan(256));
        return sector;
    }

    private static byte[] Header(out ExchangeLayout layout)
    {
        layout = ExchangeLayout.Create(700, outputBytes: 4096);
        byte[] sector = [.. Enumerable.Repeat((byte)0xee, 512)];
        layout.WriteHeader(sector);
        return sector;
    }
}
