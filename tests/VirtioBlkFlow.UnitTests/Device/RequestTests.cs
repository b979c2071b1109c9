using System.Text;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Requests through a running device with a file disk: what is answered, and what is left alone.</summary>
public sealed class RequestTests : IDisposable
{
    private const BlkRequestType In = BlkRequestType.VIRTIO_BLK_T_IN;
    private const BlkRequestType Out = BlkRequestType.VIRTIO_BLK_T_OUT;
    private const BlkRequestType Discard = BlkRequestType.VIRTIO_BLK_T_DISCARD;
    private const BlkRequestType WriteZeroes = BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES;
    private const byte Ok = (byte)BlkStatus.VIRTIO_BLK_S_OK;
    private const byte IoErr = (byte)BlkStatus.VIRTIO_BLK_S_IOERR;
    private const byte Unsupp = (byte)BlkStatus.VIRTIO_BLK_S_UNSUPP;
    private const int Sectors = 2048;
    private const string Serial = "a-serial-of-23-letters!";

    private readonly TemporaryImage _image = new(Sectors * 512);
    private DeviceRig? _rig;

    private DeviceRig Rig => _rig ??= StartRig();

    public void Dispose()
    {
        if (_rig != null)
        {
            _rig.Queue.Stop();
            _rig.Dispose();
        }

        _image.Dispose();
    }

    [Theory]
    [InlineData(0u, 1u)]
    [InlineData(5u, 6u)]
    [InlineData(20u, 21u)]
    [InlineData(4096u, 20u)]
    public void The_serial_fills_what_room_there_is(uint roomBytes, uint usedBytes)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.Data(4096).Fill(0xcc);
        DriverBuffer[] chain = area.Chain(BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, roomBytes);
        Rig.Queue.AddChain(area, chain);
        Rig.Queue.Publish();
        Answer answer = Rig.Queue.Take();
        Assert.Equal(Ok, answer.Status);
        Assert.Equal(usedBytes, answer.UsedBytes);
        int written = Math.Min((int)roomBytes, 20);
        Assert.Equal(Serial[..written], Encoding.ASCII.GetString(area.Data(written)));
        Assert.Equal(-1, area.Data(4096)[written..].IndexOfAnyExcept((byte)0xcc));
    }

    [Fact]
    public void A_short_serial_is_padded_with_zeros()
    {
        _rig = StartRig(options: new BlkDeviceOptions { Serial = "abc" });
        Answer answer = Rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_GET_ID, 0, 20);
        Assert.Equal("abc" + new string('\0', 17), Encoding.ASCII.GetString(answer.Area.Data(20)));
    }

    [Theory]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(5u)]
    [InlineData(10u)]
    [InlineData(14u)]
    [InlineData(15u)]
    [InlineData(16u)]
    [InlineData(26u)]
    [InlineData(0x8000_0000u)]
    [InlineData(0x8000_0001u)]
    [InlineData(uint.MaxValue)]
    public void A_type_nobody_offered_is_unsupported(uint type)
    {
        Answer answer = Rig.Queue.Do((BlkRequestType)type, 0, 512);
        Assert.Equal(Unsupp, answer.Status);
        Assert.Equal(1u, answer.UsedBytes);
    }

    [Fact]
    public void Data_that_was_written_is_read_again()
    {
        RequestArea area = Rig.Queue.Add(Out, 16, 8192);
        Random.Shared.NextBytes(area.Data(8192));
        byte[] written = area.Data(8192).ToArray();
        Rig.Queue.Publish();
        Answer write = Rig.Queue.Take();
        Assert.Equal((Ok, 1u), (write.Status, write.UsedBytes));
        Assert.Equal(written, _image.Read(16 * 512, 8192));

        area = Rig.Queue.Add(In, 16, 8192);
        area.Data(8192).Clear();
        Rig.Queue.Publish();
        Answer read = Rig.Queue.Take();
        Assert.Equal((Ok, 8193u), (read.Status, read.UsedBytes));
        Assert.Equal(written, read.Area.Data(8192).ToArray());
    }

    [Fact]
    public void A_flush_succeeds_with_or_without_data()
    {
        Assert.Equal((Ok, 1u), Outcome(Rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0)));
        Assert.Equal((Ok, 1u), Outcome(Rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_FLUSH, 77, 512)));
    }

    [Theory]
    [InlineData(In, Sectors, 512u)]
    [InlineData(Out, Sectors, 512u)]
    [InlineData(In, Sectors - 1, 1024u)]
    [InlineData(Out, Sectors - 1, 1024u)]
    [InlineData(In, ulong.MaxValue, 512u)]
    [InlineData(Out, ulong.MaxValue, 1024u)]
    [InlineData(In, (ulong.MaxValue / 512) + 1, 512u)]
    [InlineData(Out, (ulong.MaxValue / 512) + 1, 512u)]
    [InlineData(In, 0UL, 511u)]
    [InlineData(Out, 0UL, 513u)]
    public void A_transfer_beyond_the_end_or_of_broken_sectors_fails_and_moves_nothing(BlkRequestType type, ulong sector, uint lengthBytes)
    {
        RequestArea area = Rig.Queue.Add(type, sector, lengthBytes);
        area.Data(4096).Fill(0x77);
        Rig.Queue.Publish();
        Answer answer = Rig.Queue.Take();
        Assert.Equal(IoErr, answer.Status);
        // The status does not stand at the start of what is writable, so that a failed read has written nothing.
        Assert.Equal(type == In ? 0u : 1u, answer.UsedBytes);
        Assert.Equal(-1, area.Data(4096).IndexOfAnyExcept((byte)0x77));
        AssertUntouched();
    }

    [Theory]
    [InlineData(In, Sectors)]
    [InlineData(Out, Sectors)]
    [InlineData(In, 5UL)]
    public void A_transfer_of_nothing_succeeds(BlkRequestType type, ulong sector) =>
        Assert.Equal((Ok, 1u), Outcome(Rig.Queue.Do(type, sector)));

    [Theory]
    [InlineData(Out)]
    [InlineData(Discard)]
    [InlineData(WriteZeroes)]
    public void A_read_only_disk_stays_as_it_is(BlkRequestType type)
    {
        byte[] before = new byte[Sectors * 512];
        before.AsSpan().Fill(0x11);
        _image.Write(0, before);
        _rig = StartRig(readOnly: true);
        RequestArea area = Rig.Queue.TakeArea();
        if (type == Out)
        {
            Rig.Queue.AddChain(area, area.Chain(type, 0, 512));
        }
        else
        {
            area.WriteSegments(new BlkSegment { Sector = 0, SectorCount = 8 });
            Rig.Queue.AddChain(area, area.Chain(type, 0, BlkSegment.SizeBytes));
        }

        Rig.Queue.Publish();
        Assert.Equal(IoErr, Rig.Queue.Take().Status);
        Assert.Equal(before, _image.Read(0, before.Length));
        Assert.Equal(Ok, Rig.Queue.Do(BlkRequestType.VIRTIO_BLK_T_FLUSH, 0).Status);
    }

    [Theory]
    [InlineData(Discard, 0u, Ok)]
    [InlineData(WriteZeroes, 0u, Ok)]
    [InlineData(WriteZeroes, 1u, Ok)]
    // The unmap flag of a DISCARD is reserved, as all others are.
    [InlineData(Discard, 1u, Unsupp)]
    [InlineData(Discard, 2u, Unsupp)]
    [InlineData(WriteZeroes, 2u, Unsupp)]
    [InlineData(WriteZeroes, 0x8000_0001u, Unsupp)]
    public void The_flags_of_a_segment_are_checked(BlkRequestType type, uint flags, byte status)
    {
        FillImage(0x22);
        Assert.Equal((status, 1u), Outcome(DoSegments(type, new BlkSegment { Sector = 8, SectorCount = 8, Flags = flags })));
        if (type == WriteZeroes && status == Ok)
        {
            Assert.Equal(-1, _image.Read(8 * 512, 4096).AsSpan().IndexOfAnyExcept((byte)0));
        }

        Assert.Equal(0x22, _image.Read((8 * 512) - 1, 1)[0]);
        Assert.Equal(0x22, _image.Read(16 * 512, 1)[0]);
        if (status != Ok)
        {
            Assert.Equal(-1, _image.Read(8 * 512, 4096).AsSpan().IndexOfAnyExcept((byte)0x22));
        }
    }

    [Theory]
    [InlineData(Discard)]
    [InlineData(WriteZeroes)]
    public void All_segments_are_checked_before_any_is_acted_on(BlkRequestType type)
    {
        FillImage(0x33);
        var good = new BlkSegment { Sector = 0, SectorCount = 8 };
        Assert.Equal(IoErr, DoSegments(type, good, new BlkSegment { Sector = Sectors, SectorCount = 1 }).Status);
        Assert.Equal(IoErr, DoSegments(type, good, new BlkSegment { Sector = Sectors - 1, SectorCount = 2 }).Status);
        Assert.Equal(IoErr, DoSegments(type, good, new BlkSegment { Sector = ulong.MaxValue, SectorCount = uint.MaxValue }).Status);
        Assert.Equal(IoErr, DoSegments(type, good, new BlkSegment { Sector = 0, SectorCount = uint.MaxValue }).Status);
        // Flags come before ranges.
        Assert.Equal(Unsupp, DoSegments(type, new BlkSegment { Sector = Sectors, SectorCount = 1, Flags = 4 }).Status);
        Assert.Equal(Unsupp, DoSegments(type, new BlkSegment { Sector = Sectors, SectorCount = 1 }, new BlkSegment { Flags = 4 }).Status);
        Assert.Equal(-1, _image.Read(0, Sectors * 512).AsSpan().IndexOfAnyExcept((byte)0x33));
    }

    [Theory]
    [InlineData(Discard, 0u)]
    [InlineData(WriteZeroes, 0u)]
    [InlineData(Discard, 15u)]
    [InlineData(WriteZeroes, 17u)]
    [InlineData(Discard, 33u * BlkSegment.SizeBytes)]
    [InlineData(WriteZeroes, 33u * BlkSegment.SizeBytes)]
    public void A_list_of_the_wrong_length_fails(BlkRequestType type, uint listBytes)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.Data(RequestArea.MaxDataBytes).Clear();
        Rig.Queue.AddChain(area, area.Chain(type, 0, listBytes));
        Rig.Queue.Publish();
        Assert.Equal((IoErr, 1u), Outcome(Rig.Queue.Take()));
    }

    [Theory]
    [InlineData(Discard)]
    [InlineData(WriteZeroes)]
    public void As_many_segments_as_offered_work(BlkRequestType type)
    {
        FillImage(0x44);
        BlkSegment[] segments = [.. Enumerable.Range(0, (int)BlkDeviceOptions.DefaultSegments.MaxSegments).Select(i => new BlkSegment { Sector = (ulong)i * 16, SectorCount = i == 5 ? 0 : 8u })];
        Assert.Equal((Ok, 1u), Outcome(DoSegments(type, segments)));
        for (int i = 0; i < segments.Length; i++)
        {
            if (type == WriteZeroes)
            {
                Assert.Equal(i == 5 ? 0x44 : 0, _image.Read(i * 16 * 512, 1)[0]);
            }

            Assert.Equal(0x44, _image.Read(((i * 16) + 8) * 512, 1)[0]);
        }
    }

    [Theory]
    [InlineData(Discard)]
    [InlineData(WriteZeroes)]
    public void As_many_segments_as_can_be_work_where_they_are_offered(BlkRequestType type)
    {
        var limits = new SegmentLimits(8, BlkLimits.MaxSegments);
        _rig = StartRig(options: new BlkDeviceOptions { Discard = limits, WriteZeroes = limits });
        FillImage(0x55);
        BlkSegment[] segments = [.. Enumerable.Range(0, BlkLimits.MaxSegments).Select(i => new BlkSegment { Sector = (ulong)i * 8, SectorCount = (uint)(i % 8) })];
        Assert.Equal((Ok, 1u), Outcome(DoSegments(type, segments)));
        for (int i = 0; type == WriteZeroes && i < Sectors; i++)
        {
            Assert.Equal(i % 8 < i / 8 % 8 ? 0 : 0x55, _image.Read(i * 512, 1)[0]);
        }

        Assert.Equal(IoErr, DoSegments(type, new BlkSegment { SectorCount = 9 }).Status);
    }

    [Theory]
    [InlineData(Discard)]
    [InlineData(WriteZeroes)]
    public void A_reserved_flag_counts_even_in_a_segment_beyond_the_limit(BlkRequestType type)
    {
        FillImage(0x66);
        var segments = new BlkSegment[200];
        Array.Fill(segments, new BlkSegment { SectorCount = 8 });
        Assert.Equal(IoErr, DoSegments(type, segments).Status);
        segments[^1].Flags = 0x10;
        Assert.Equal(Unsupp, DoSegments(type, segments).Status);
        Assert.Equal(0x66, _image.Read(0, 1)[0]);
    }

    [Theory]
    [InlineData(16u)]
    [InlineData(8u)]
    public void A_chain_without_a_status_byte_comes_back_with_length_0(uint readableBytes)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteHeader(Out, 0);
        Rig.Queue.AddChain(area, [area.Header with { LengthBytes = readableBytes }]);
        Rig.Queue.Publish();
        Answer answer = Rig.Queue.Take();
        Assert.Equal(0u, answer.UsedBytes);
        Assert.Equal(RequestArea.NoStatus, answer.Status);
        AssertUntouched();
        Assert.Equal(Ok, Rig.Queue.Do(In, 0, 512).Status);
    }

    [Fact]
    public void A_header_that_is_too_short_is_an_error_of_the_driver()
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteHeader(In, 0);
        Rig.Queue.AddChain(area, [area.Header with { LengthBytes = 15 }, area.Status]);
        Rig.Queue.Publish();
        Assert.Equal((IoErr, 1u), Outcome(Rig.Queue.Take()));
    }

    [Fact]
    public void Memory_the_guest_does_not_have_is_an_error_of_the_driver()
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteHeader(In, 0);
        Rig.Queue.AddChain(area, [area.Header, DriverBuffer.Writable(DeviceRig.MemoryBytes - 256, 512), area.Status]);
        Rig.Queue.Publish();
        Assert.Equal((IoErr, 0u), Outcome(Rig.Queue.Take()));
    }

    [Fact]
    public void A_head_that_is_made_available_twice_breaks_the_queue_and_stopping_works()
    {
        using var disk = new HeldDisk();
        using var rig = new DeviceRig(disk);
        rig.Queue.Start();
        RequestArea area = rig.Queue.TakeArea();
        ushort head = rig.Queue.AddChain(area, area.Chain(In, 0, 512));
        rig.Queue.Publish();
        Eventually.Holds(() => disk.SubmittedCount == 1, "the request is in flight");
        rig.Queue.Ring.Raw.WriteAvailableEntry(1, head);
        rig.Queue.Ring.Raw.AvailableIndex = 2;
        rig.Queue.Kick.Signal();
        Assert.True(rig.Queue.Error.Wait(Deadline.In(Eventually.PatienceMs)));
        Eventually.Holds(() => rig.Broken is [0], "the queue is reported as broken");
        Task<ushort> stop = Task.Run(rig.Queue.Stop);
        rig.LetTurnsPass();
        Assert.False(stop.IsCompleted);
        rig.OnReactor(() => disk.End());
        ushort next = Eventually.Result(stop, "the queue stops");
        // The one that was sound is answered, and the next to fetch is the one that was not.
        Assert.Equal(Ok, rig.Queue.Take().Status);
        Assert.Equal(1, next);
        Assert.Equal([0], rig.Broken);
    }

    private DeviceRig StartRig(bool readOnly = false, BlkDeviceOptions? options = null)
    {
        var rig = new DeviceRig(_image.Open(readOnly), options ?? new BlkDeviceOptions { Serial = Serial });
        rig.Queue.Start();
        return rig;
    }

    private Answer DoSegments(BlkRequestType type, params ReadOnlySpan<BlkSegment> segments)
    {
        RequestArea area = Rig.Queue.TakeArea();
        area.WriteSegments(segments);
        Rig.Queue.AddChain(area, area.Chain(type, 0, (uint)(segments.Length * BlkSegment.SizeBytes)));
        Rig.Queue.Publish();
        return Rig.Queue.Take();
    }

    private void FillImage(byte value)
    {
        byte[] bytes = new byte[Sectors * 512];
        bytes.AsSpan().Fill(value);
        _image.Write(0, bytes);
    }

    private void AssertUntouched() => Assert.Equal(-1, _image.Read(0, Sectors * 512).AsSpan().IndexOfAnyExcept((byte)0));

    private static (byte Status, uint UsedBytes) Outcome(Answer answer) => (answer.Status, answer.UsedBytes);
}
