using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Streaming;
using VirtioBlkFlow.UnitTests.Device;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Streaming;

public sealed class SectorRingDiskTests : IDisposable
{
    private readonly List<string> _refusals = [];
    private readonly SectorRingDisk _disk;
    private readonly RingGuest _guest;

    public SectorRingDiskTests()
    {
        _disk = SectorRingDisk.Open(new SectorRingOptions(new SectorRingLayout(4096, 8192), _refusals.Add));
        _guest = new RingGuest(_disk);
    }

    public void Dispose()
    {
        _guest.Dispose();
        _disk.Dispose();
    }

    [Fact]
    public void The_first_sector_says_where_everything_is()
    {
        Assert.Equal((1ul, 16ul, 32ul, 4096ul), (_guest.InProducerSector, _guest.InConsumerSector, _guest.InDataSector, _guest.InCapacity));
        Assert.Equal((24ul, 2ul, 40ul, 8192ul), (_guest.OutProducerSector, _guest.OutConsumerSector, _guest.OutDataSector, _guest.OutCapacity));
        Assert.InRange(_guest.Stream, 1ul, (ulong)long.MaxValue);
        Assert.Equal(56ul * 512, _disk.Properties.CapacityBytes);
        Assert.All(new ulong[] { 1, 2, 16, 24 }, sector => Assert.Equal(default, _guest.IndexAt(sector)));
        // Read as a whole, with the data behind.
        _disk.ToGuest.Write([1, 2, 3]);
        byte[] all = _guest.Read(0, 56);
        Assert.Equal([1, 2, 3, 0], all[16384..16388]);
        Assert.Equal(3, all[512 + 16]);
    }

    [Theory]
    [InlineData(0, 4096)]
    [InlineData(4096, 512)]
    [InlineData(4096, (1L << 32) + 4096)]
    public void A_ring_of_no_pages_or_too_many_is_refused(ulong toGuest, ulong fromGuest) =>
        Assert.Throws<DiskOpenException>(() => SectorRingDisk.Open(new SectorRingOptions(new SectorRingLayout(toGuest, fromGuest))));

    [Fact]
    public void A_full_ring_makes_the_writer_wait_and_an_empty_one_the_reader()
    {
        Task writing = _disk.ToGuest.WriteAsync(new byte[5000]).AsTask();
        Assert.False(writing.IsCompleted);
        Assert.Equal(4096ul, _guest.IndexAt(_guest.InProducerSector).Position);
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.InConsumerSector, new RingIndex(903)));
        Eventually.Holds(() => _guest.IndexAt(_guest.InProducerSector).Position == 4999, "what fits is written");
        Assert.False(writing.IsCompleted);
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.InConsumerSector, new RingIndex(904)));
        Eventually.Ends(writing, "there is room for all of it");
        Assert.Equal(5000ul, _guest.IndexAt(_guest.InProducerSector).Position);

        byte[] buffer = new byte[100];
        Task<int> reading = _disk.FromGuest.ReadAsync(buffer).AsTask();
        Assert.False(reading.IsCompleted);
        _guest.Put(0, [7, 8, 9]);
        Assert.False(reading.IsCompleted);
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.OutProducerSector, new RingIndex(3)));
        Assert.Equal(3, Eventually.Result(reading, "there are three bytes"));
        Assert.Equal([7, 8, 9], buffer[..3]);
        Assert.Equal(3ul, _guest.IndexAt(_guest.OutConsumerSector).Position);
    }

    [Fact]
    public void Each_side_says_when_it_has_ended()
    {
        _disk.ToGuest.Write([1]);
        _disk.ToGuest.Dispose();
        Assert.Equal(new RingIndex(1, RingState.Ended), _guest.IndexAt(_guest.InProducerSector));
        _guest.Put(0, [5]);
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.OutProducerSector, new RingIndex(1, RingState.Ended)));
        // Said again: a guest that was started anew may do so.
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.OutProducerSector, new RingIndex(1, RingState.Ended)));
        byte[] buffer = new byte[10];
        Assert.Equal(1, _disk.FromGuest.Read(buffer));
        Assert.Equal(0, _disk.FromGuest.Read(buffer));
        _disk.FromGuest.Dispose();
        Assert.Equal(new RingIndex(1, RingState.Ended), _guest.IndexAt(_guest.OutConsumerSector));
    }

    [Fact]
    public void A_guest_that_wants_no_more_stops_the_writer()
    {
        Task writing = _disk.ToGuest.WriteAsync(new byte[5000]).AsTask();
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.InConsumerSector, new RingIndex(10, RingState.Ended)));
        SectorRingException ended = Assert.Throws<SectorRingException>(() => Eventually.Ends(writing, "the writer is stopped"));
        Assert.Contains("after 10 bytes", ended.Message, StringComparison.Ordinal);
        Assert.Equal(0, ended.Code);
        // The other direction goes on.
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(_guest.OutProducerSector, new RingIndex(2)));
        Assert.Equal(2, _disk.FromGuest.Read(new byte[10]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_guest_that_gives_up_ends_both_directions_with_its_code(bool inProducer)
    {
        Task<int> reading = _disk.FromGuest.ReadAsync(new byte[10]).AsTask();
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(inProducer ? _guest.OutProducerSector : _guest.InConsumerSector, new RingIndex(0, RingState.Aborted, 7)));
        Assert.Equal(7, Assert.Throws<SectorRingException>(() => Eventually.Ends(reading, "the reader hears of it")).Code);
        Assert.Equal(7, Assert.Throws<SectorRingException>(() => _disk.ToGuest.Write([1])).Code);
    }

    [Fact]
    public void A_host_that_gives_up_says_so_in_both_directions()
    {
        _disk.ToGuest.Write([1, 2]);
        _disk.Abort(9);
        Assert.Equal(new RingIndex(2, RingState.Aborted, 9), _guest.IndexAt(_guest.InProducerSector));
        Assert.Equal(new RingIndex(0, RingState.Aborted, 9), _guest.IndexAt(_guest.OutConsumerSector));
        // What is final stays.
        _disk.ToGuest.Dispose();
        Assert.Equal(RingState.Aborted, _guest.IndexAt(_guest.InProducerSector).State);
    }

    public static TheoryData<string, ulong, RingIndex, string> Broken => new()
    {
        { "back", 24, new RingIndex(99), "producer index went back from 100 to 99" },
        { "too far", 24, new RingIndex(100 + 8193), "is 8293" },
        { "wrapped", 24, new RingIndex(ulong.MaxValue), "in a ring of 8192" },
        { "back", 16, new RingIndex(49), "consumer index went back from 50 to 49" },
        { "too far", 16, new RingIndex(201), "only 200 bytes were produced" },
        { "wrapped", 16, new RingIndex(ulong.MaxValue), "only 200 bytes were produced" },
        { "code", 24, new RingIndex(100, RingState.Open, 1), "has code 1" },
        { "state", 24, new RingIndex(100, (RingState)3), "has state 3" },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void An_index_that_cannot_be_ends_the_stream_and_says_what_was_seen(string what, ulong sector, RingIndex index, string words)
    {
        GoOnABit();
        Task writing = _disk.ToGuest.WriteAsync(new byte[5000]).AsTask();
        Task<int> reading = _disk.FromGuest.ReadAsync(new byte[10]).AsTask();
        if (sector == 16 && what == "too far")
        {
            // The writer has filled the ring meanwhile.
            index = new RingIndex(50 + 4097);
            words = "only 4146 bytes were produced";
        }
        else
        {
            words = words.Replace("only 200 bytes", "only 4146 bytes", StringComparison.Ordinal);
        }

        Assert.Equal(DiskOutcome.Failed, _guest.SetIndex(sector, index));
        AssertBroken(writing, reading, words);
    }

    [Fact]
    public void Garbage_and_zeros_for_an_index_end_the_stream()
    {
        GoOnABit();
        Task<int> reading = _disk.FromGuest.ReadAsync(new byte[10]).AsTask();
        byte[] garbage = new byte[512];
        new Random(5).NextBytes(garbage);
        Assert.Equal(DiskOutcome.Failed, _guest.Write(16, garbage));
        AssertBroken(null, reading, $"begins with {Convert.ToHexStringLower(garbage[..8])}");
        Assert.Equal(DiskOutcome.Failed, _guest.Write(24, new byte[512]));
    }

    [Fact]
    public void An_index_that_changes_after_its_end_ends_the_stream()
    {
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(24, new RingIndex(5, RingState.Ended)));
        Assert.Equal(DiskOutcome.Failed, _guest.SetIndex(24, new RingIndex(6)));
        AssertBroken(null, _disk.FromGuest.ReadAsync(new byte[10]).AsTask(), "5 ended became 6 open");
    }

    [Fact]
    public void Of_two_indices_in_one_write_both_count_or_none()
    {
        GoOnABit();
        byte[] both = [.. _guest.Sector(new RingIndex(60)), .. new byte[7 * 512], .. _guest.Sector(new RingIndex(101))];
        Assert.Equal(DiskOutcome.Done, _guest.Write(16, both));
        Assert.Equal((60ul, 101ul), (_guest.IndexAt(16).Position, _guest.IndexAt(24).Position));
        byte[] secondIsWrong = [.. _guest.Sector(new RingIndex(70)), .. new byte[7 * 512], .. _guest.Sector(new RingIndex(90))];
        Assert.Equal(DiskOutcome.Failed, _guest.Write(16, secondIsWrong));
        Assert.Equal((60ul, 101ul), (_guest.IndexAt(16).Position, _guest.IndexAt(24).Position));
    }

    [Fact]
    public void An_index_of_another_stream_is_refused_and_this_one_goes_on()
    {
        GoOnABit();
        Assert.Equal(DiskOutcome.Failed, _guest.Write(24, _guest.Sector(new RingIndex(3), _guest.Stream + 1)));
        Assert.Contains("another stream", Assert.Single(_refusals), StringComparison.Ordinal);
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(24, new RingIndex(101)));
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(1, 1)]
    [InlineData(2, 1)]
    [InlineData(7, 2)]
    [InlineData(15, 1)]
    [InlineData(15, 2)]
    [InlineData(17, 7)]
    [InlineData(25, 7)]
    [InlineData(31, 2)]
    [InlineData(32, 8)]
    [InlineData(39, 2)]
    public void What_is_not_the_guests_it_cannot_write(ulong sector, int count)
    {
        GoOnABit();
        byte[] before = _guest.Read(0, 56);
        Assert.Equal(DiskOutcome.Failed, _guest.Write(sector, new byte[count * 512]));
        Assert.Single(_refusals);
        Assert.Equal(before, _guest.Read(0, 56));
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(24, new RingIndex(101)));
    }

    [Fact]
    public void A_page_of_the_guests_cache_may_be_written_with_its_index()
    {
        byte[] page = [.. _guest.Sector(new RingIndex(3)), .. Enumerable.Repeat((byte)0x5a, 7 * 512)];
        Assert.Equal(DiskOutcome.Done, _guest.Write(24, page));
        Assert.Equal(3ul, _guest.IndexAt(24).Position);
        // The rest is nobody's.
        Assert.Equal(-1, _guest.Read(25, 7).AsSpan().IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void What_the_guest_changes_behind_its_index_is_other_data_and_nothing_else()
    {
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(24, new RingIndex(8192)));
        Assert.Equal(DiskOutcome.Done, _guest.Write(40, [.. Enumerable.Repeat((byte)3, 8192)]));
        byte[] buffer = new byte[9000];
        Assert.Equal(8192, _disk.FromGuest.Read(buffer));
        Assert.Equal(-1, buffer.AsSpan(0, 8192).IndexOfAnyExcept((byte)3));
    }

    [Fact]
    public void A_disk_that_is_closed_frees_whoever_waits()
    {
        Task writing = _disk.ToGuest.WriteAsync(new byte[5000]).AsTask();
        Task<int> reading = _disk.FromGuest.ReadAsync(new byte[10]).AsTask();
        _disk.Dispose();
        Assert.Throws<SectorRingException>(() => Eventually.Ends(writing, "the writer is freed"));
        Assert.Throws<SectorRingException>(() => Eventually.Ends(reading, "the reader is freed"));
        Assert.Throws<SectorRingException>(() => _disk.ToGuest.Write([1]));
    }

    [Fact]
    public void A_wait_can_be_given_up_and_begun_again()
    {
        using var stop = new CancellationTokenSource();
        Task<int> reading = _disk.FromGuest.ReadAsync(new byte[10], stop.Token).AsTask();
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => Eventually.Ends(reading, "the wait is given up"));
        reading = _disk.FromGuest.ReadAsync(new byte[10], CancellationToken.None).AsTask();
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(24, new RingIndex(4)));
        Assert.Equal(4, Eventually.Result(reading, "four bytes"));
    }

    // 200 bytes to the guest, of which it has 50; 100 from it, all taken.
    private void GoOnABit()
    {
        _disk.ToGuest.Write(new byte[200]);
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(16, new RingIndex(50)));
        Assert.Equal(DiskOutcome.Done, _guest.SetIndex(24, new RingIndex(100)));
        Assert.Equal(100, _disk.FromGuest.Read(new byte[200]));
    }

    private void AssertBroken(Task? writing, Task<int> reading, string words)
    {
        SectorRingException failure = Assert.Throws<SectorRingException>(() => Eventually.Ends(reading, "the reader hears of it"));
        Assert.Contains(words, failure.Message, StringComparison.Ordinal);
        Assert.Null(failure.Code);
        if (writing is not null)
        {
            Assert.Throws<SectorRingException>(() => Eventually.Ends(writing, "the writer hears of it"));
        }

        Assert.Contains(_refusals, refusal => refusal.Contains(words, StringComparison.Ordinal));
        // The guest sees that it is over, and that nothing counts any more.
        Assert.Equal(RingState.Aborted, _guest.IndexAt(_guest.InProducerSector).State);
        Assert.Equal(RingState.Aborted, _guest.IndexAt(_guest.OutConsumerSector).State);
        Assert.Equal(DiskOutcome.Failed, _guest.SetIndex(24, _guest.IndexAt(24)));
    }
}
