using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Zoned;

/// <summary>The file that keeps the zones: what does not go together with an image, and what is lost.</summary>
public sealed class ZoneFileTests
{
    private const int ZoneBytes = 64 << 10;

    private static readonly ZoneGeometry s_zones = new() { ZoneBytes = ZoneBytes };

    [Fact]
    public void An_image_with_data_and_no_zone_file_is_left_alone()
    {
        using var image = new TemporaryImage(4 * ZoneBytes);
        image.Write(ZoneBytes, [1]);
        string message = Refusal(image, s_zones);
        Assert.Contains("truncate", message, StringComparison.Ordinal);
        Assert.Equal(1, image.Read(ZoneBytes, 1)[0]);
        Assert.False(File.Exists(ZoneFile.PathFor(image.Path)));
    }

    [Fact]
    public void Another_geometry_than_the_zones_were_made_with_is_refused()
    {
        using var disk = new ZonedBench(s_zones, 4 * ZoneBytes);
        disk.Reopen(() =>
        {
            Assert.Contains("made for another", Refusal(disk.Image, s_zones with { ZoneBytes = 2 * ZoneBytes }), StringComparison.Ordinal);
            Assert.Contains("made for another", Refusal(disk.Image, s_zones with { ConventionalZones = 1 }), StringComparison.Ordinal);
            Assert.Contains("made for another", Refusal(disk.Image, s_zones with { ZoneCapacityBytes = 4096 }), StringComparison.Ordinal);
        });
        // What only limits requests may change.
        using ZonedDisk other = ZonedDisk.Open(disk.Image.Open(withLock: false), s_zones with { MaxOpen = 1, MaxActive = 1 });
        Assert.Equal(1, other.Properties.Zones!.MaxOpen);
    }

    [Fact]
    public void Something_else_under_the_name_is_not_overwritten()
    {
        using var image = new TemporaryImage(4 * ZoneBytes);
        string path = ZoneFile.PathFor(image.Path);
        File.WriteAllText(path, "notes");
        try
        {
            Assert.Contains("no zone file", Refusal(image, s_zones), StringComparison.Ordinal);
            Assert.Equal("notes", File.ReadAllText(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_zone_with_both_records_damaged_is_offline_and_the_others_go_on()
    {
        using var disk = new ZonedBench(s_zones, 4 * ZoneBytes);
        Assert.Equal(DiskOutcome.Done, disk.Write(ZoneBytes, 512));
        disk.Reopen(() =>
        {
            disk.WriteRecord(0, 1, new byte[32]);
            disk.WriteRecord(1, 1, new byte[32]);
        });
        Assert.Equal(1, disk.Disk.DamagedZones);
        Assert.Equal(BlkZoneState.VIRTIO_BLK_ZS_OFFLINE, disk.StateOf(1));
        Assert.Equal(DiskOutcome.Done, disk.Write(0, 512));
        // Nothing that could still be rescued was thrown away.
        Assert.Equal(0x5a, disk.Image.Read(ZoneBytes, 1)[0]);
    }

    [Fact]
    public void What_an_interrupted_reset_or_write_left_above_the_write_pointer_is_gone_after_a_start()
    {
        using var disk = new ZonedBench(s_zones, 4 * ZoneBytes);
        Assert.Equal(DiskOutcome.Done, disk.Write(0, 512));
        disk.Reopen(() => disk.Image.Write(512, new byte[] { 1, 2, 3 }));
        Assert.Equal([0, 0, 0], disk.Image.Read(512, 3));
        Assert.Equal(0x5a, disk.Image.Read(511, 1)[0]);
    }

    [Fact]
    public void A_write_that_fails_in_the_middle_leaves_a_gap_and_one_at_the_end_can_be_repeated()
    {
        var zones = new ZoneTable(s_zones.For(new DiskProperties { CapacityBytes = 4 * ZoneBytes }, "image"), 4 * ZoneBytes);
        Assert.Equal(DiskOutcome.Done, zones.BeginWrite(0, 512, out int zone));
        Assert.Equal(DiskOutcome.Done, zones.BeginWrite(512, 512, out _));
        Assert.Equal(DiskOutcome.Done, zones.BeginWrite(1024, 512, out _));
        // In whatever order they end.
        zones.EndWrite(zone, 512, 512, succeeded: true);
        Assert.Equal((1536UL, 1024UL), (zones[zone].WritePointer, zones[zone].Written));
        Assert.Equal(DiskOutcome.ZoneInvalidCommand, zones.BeginReset(0, out _));
        zones.EndWrite(zone, 0, 512, succeeded: false);
        Assert.Equal(1536UL, zones[zone].WritePointer);
        zones.EndWrite(zone, 1024, 512, succeeded: false);
        Assert.Equal((1024UL, 1024UL), (zones[zone].WritePointer, zones[zone].Written));
        Assert.Equal(DiskOutcome.Done, zones.BeginWrite(1024, 512, out _));
        zones.EndWrite(zone, 1024, 512, succeeded: true);
        Assert.Equal(DiskOutcome.Done, zones.BeginReset(0, out _));
        Assert.Equal(DiskOutcome.ZoneInvalidCommand, zones.BeginWrite(1536, 512, out _));
        zones.EndReset(zone, succeeded: false);
        Assert.Equal(DiskOutcome.Done, zones.BeginWrite(1536, 512, out _));
    }

    [Fact]
    public void A_record_that_could_not_be_stored_never_costs_the_one_before()
    {
        using var disk = new ZonedBench(s_zones, 4 * ZoneBytes);
        Assert.Equal(DiskOutcome.Done, disk.Write(0, 512, durable: true));
        int file = (int)disk.Disk.Store.File.DangerousGetHandle();
        int kept = Mono.Unix.Native.Syscall.dup(file);
        using (SafeFileHandle unwritable = File.OpenHandle(disk.ZonePath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite))
        {
            Assert.Equal(file, Mono.Unix.Native.Syscall.dup2((int)unwritable.DangerousGetHandle(), file));
            Assert.Equal(DiskOutcome.Failed, disk.Write(512, 512));
        }

        Assert.Equal(file, Mono.Unix.Native.Syscall.dup2(kept, file));
        Assert.Equal(0, Mono.Unix.Native.Syscall.close(kept));
        // A sync says nothing about what was never stored: the record before is still all there is.
        Assert.Equal(DiskOutcome.Done, disk.Bench.Do(DiskOperation.Flush, 0));
        byte[][] before = [disk.ReadRecord(0, 0), disk.ReadRecord(1, 0)];
        int durable = WrittenOf(before[0]) == 512 ? 0 : 1;
        Assert.Equal(512u, WrittenOf(before[durable]));
        Assert.Equal(DiskOutcome.Done, disk.Write(1024, 512));
        Assert.Equal(before[durable], disk.ReadRecord(durable, 0));
        Assert.Equal(1536u, WrittenOf(disk.ReadRecord(1 - durable, 0)));
    }

    [Fact]
    public void A_reset_of_all_zones_leaves_the_reset_of_one_to_whoever_asked_for_it()
    {
        var zones = new ZoneTable(s_zones.For(new DiskProperties { CapacityBytes = 6 * ZoneBytes }, "image"), 6 * ZoneBytes);
        Write(1);
        Write(3);
        Assert.Equal(DiskOutcome.Done, zones.BeginResetAll());
        // Another queue, meanwhile: zones that are not part of it are written and reset.
        Write(4);
        Assert.Equal(DiskOutcome.Done, zones.BeginReset(4 * ZoneBytes, out _));
        Assert.Equal(1, zones.NextInResetAll(0));
        zones.EndReset(1, succeeded: true);
        Assert.Equal(3, zones.NextInResetAll(2));
        zones.EndReset(3, succeeded: true);
        Assert.Equal(zones.Count, zones.NextInResetAll(4));
        // And that one is still what it was.
        Assert.Equal(DiskOutcome.ZoneInvalidCommand, zones.BeginWrite((4 * ZoneBytes) + 512, 512, out _));
        zones.EndReset(4, succeeded: true);
        Write(4);

        void Write(int index)
        {
            Assert.Equal(DiskOutcome.Done, zones.BeginWrite((ulong)index * ZoneBytes, 512, out int zone));
            zones.EndWrite(zone, (ulong)index * ZoneBytes, 512, succeeded: true);
        }
    }

    [Theory]
    [InlineData(1000UL, 0, null, 0, 0, "zone-size")]
    [InlineData(0UL, 0, null, 0, 0, "zone-size")]
    [InlineData(65536UL, 4, null, 0, 0, "conventional")]
    [InlineData(65536UL, 0, 131072UL, 0, 0, "capacity")]
    [InlineData(65536UL, 0, null, 3, 2, "max-open")]
    public void A_geometry_that_does_not_fit_is_refused(ulong zoneBytes, int conventional, ulong? capacity, int maxOpen, int maxActive, string word)
    {
        using var image = new TemporaryImage(4 * ZoneBytes);
        ZoneGeometry geometry = new()
        {
            ZoneBytes = zoneBytes,
            ConventionalZones = conventional,
            ZoneCapacityBytes = capacity,
            MaxOpen = maxOpen,
            MaxActive = maxActive,
        };
        Assert.Contains(word, Refusal(image, geometry), StringComparison.Ordinal);
    }

    [Fact]
    public void A_durable_write_and_a_flush_sync_the_zones_too()
    {
        using var disk = new ZonedBench(s_zones, 4 * ZoneBytes);
        using var engine = new FakeEngine();
        var outcomes = new List<DiskOutcome>();
        using IDiskQueue queue = disk.Disk.OpenQueue(engine, new Completions(outcomes), 4);
        unsafe
        {
            byte* memory = stackalloc byte[512];
            var piece = new VirtioBlkFlow.Virtio.Iovec(memory, 512);
            queue.Submit(0, new DiskRequest { Operation = DiskOperation.Write, Durable = true, Pieces = &piece, PieceCount = 1, LengthBytes = 512 });
            FakeOperation write = engine.Next();
            Assert.True(write.Durable);
            queue.OnIoCompleted(0, 512);
        }

        Assert.Empty(outcomes);
        Assert.Equal(FakeCall.Fdatasync, engine.Next().Call);
        queue.OnIoCompleted(0, 0);
        Assert.Equal([DiskOutcome.Done], outcomes);

        queue.Submit(1, new DiskRequest { Operation = DiskOperation.Flush });
        Assert.Equal(FakeCall.Fdatasync, engine.Next().Call);
        queue.OnIoCompleted(1, 0);
        Assert.Single(outcomes);
        Assert.Equal(FakeCall.Fdatasync, engine.Next().Call);
        queue.OnIoCompleted(1, -5);
        Assert.Equal(DiskOutcome.Failed, outcomes[1]);
        // From now on nothing is durable.
        queue.Submit(2, new DiskRequest { Operation = DiskOperation.ZoneFinish, Durable = true });
        Assert.Equal(DiskOutcome.Failed, outcomes[2]);
    }

    private static ulong WrittenOf(byte[] record) => BitConverter.ToUInt64(record, 8);

    private static string Refusal(TemporaryImage image, ZoneGeometry geometry) =>
        Assert.Throws<DiskOpenException>(() => ZonedDisk.Open(image.Open(), geometry)).Message;

    private sealed class Completions(List<DiskOutcome> outcomes) : IDiskCompletions
    {
        public void OnCompleted(int slot, DiskOutcome outcome) => outcomes.Add(outcome);
    }
}
