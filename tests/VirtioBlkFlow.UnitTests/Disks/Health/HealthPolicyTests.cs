using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Health;
using VirtioBlkFlow.Disks.Wrapping;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Disks.Wrapping;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Health;

/// <summary>What is made of readings: warnings, and writes that fail, each once and with a way back.</summary>
public sealed class HealthPolicyTests
{
    private readonly AnsweringDisk _inner = new();
    private readonly RecordedHealth _source = new();
    private readonly List<HealthNotice> _notices = [];

    [Fact]
    public void Heat_warns_then_stops_writes_and_lets_them_go_on_only_well_below_the_limit()
    {
        using HealthDisk disk = Open([new(HealthQuantity.Temperature, 70)], [new(HealthQuantity.Temperature, 85, 75)]);
        using var bench = new WrappingBench(disk);
        (int Degrees, string? Said, bool IsReadOnly)[] course =
        [
            (69, null, false),
            (70, "WarningReached 70", false),
            (71, null, false),
            (84, null, false),
            (85, "ReadOnlyReached 85", true),
            (90, null, true),
            (84, null, true),
            (75, null, true),
            (74, "ReadOnlyLeft 74", false),
            (80, null, false),
            (70, null, false),
            (65, null, false),
            (64, "WarningLeft 64", false),
            (66, null, false),
            // Both at once.
            (99, "WarningReached 99, ReadOnlyReached 99", true),
            (20, "WarningLeft 20, ReadOnlyLeft 20", false),
        ];
        foreach ((int degrees, string? said, bool isReadOnly) in course)
        {
            Assert.Equal(said ?? "", Tell(disk, HealthReading.FromPercent(0, 100, degrees)));
            Assert.Equal(isReadOnly ? DiskOutcome.Failed : DiskOutcome.Done, OutcomeOf(bench, DiskOperation.Write));
            Assert.Equal(DiskOutcome.Done, OutcomeOf(bench, DiskOperation.Read));
        }
    }

    [Fact]
    public void Wear_and_spare_blocks_do_not_come_back_unless_the_reading_does()
    {
        using HealthDisk disk = Open([new(HealthQuantity.Wear, 80)], [new(HealthQuantity.Wear, 100), new(HealthQuantity.Spare, 5, 8)]);
        using var bench = new WrappingBench(disk);
        (int Wear, int Spare, string Said, bool IsReadOnly)[] course =
        [
            (79, 100, "", false),
            (80, 100, "WarningReached 80", false),
            (99, 6, "", false),
            (100, 6, "ReadOnlyReached 100", true),
            (130, 5, "ReadOnlyReached 5", true),
            // Another device in its place, one limit after the other.
            (10, 8, "WarningLeft 10, ReadOnlyLeft 10 still", true),
            (10, 9, "ReadOnlyLeft 9", false),
        ];
        foreach ((int wear, int spare, string said, bool isReadOnly) in course)
        {
            Assert.Equal(said, Tell(disk, HealthReading.FromPercent(wear, spare, null)));
            Assert.Equal(isReadOnly ? DiskOutcome.Failed : DiskOutcome.Done, OutcomeOf(bench, DiskOperation.Write));
        }
    }

    [Theory]
    [InlineData(DiskOperation.Read, true)]
    [InlineData(DiskOperation.Flush, true)]
    [InlineData(DiskOperation.ZoneReport, true)]
    [InlineData(DiskOperation.Write, false)]
    [InlineData(DiskOperation.Discard, false)]
    [InlineData(DiskOperation.WriteZeroes, false)]
    [InlineData(DiskOperation.SecureErase, false)]
    [InlineData(DiskOperation.Append, false)]
    [InlineData(DiskOperation.ZoneReset, false)]
    [InlineData(DiskOperation.ZoneResetAll, false)]
    [InlineData(DiskOperation.ZoneFinish, false)]
    public void What_changes_nothing_goes_on(DiskOperation operation, bool goesOn)
    {
        using HealthDisk disk = Open([], [new(HealthQuantity.Wear, 100)]);
        using var bench = new WrappingBench(disk);
        Assert.Equal(DiskOutcome.Done, OutcomeOf(bench, operation));
        Tell(disk, HealthReading.FromPercent(100, 100, 20));
        _inner.Requests.Clear();
        Assert.Equal(goesOn ? DiskOutcome.Done : DiskOutcome.Failed, OutcomeOf(bench, operation));
        Assert.Equal(goesOn ? 1 : 0, _inner.Requests.Count);
    }

    [Fact]
    public void What_cannot_be_read_changes_nothing_and_is_said_once()
    {
        using HealthDisk disk = Open([], [new(HealthQuantity.Temperature, 85)]);
        Assert.Equal("ReadOnlyReached 90", Tell(disk, HealthReading.FromPercent(3, 100, 90)));
        Assert.Equal("Unreadable 0 still", Tell(disk, new HealthReading { Obstacle = "It has gone." }));
        Assert.Equal("It has gone.", _notices[^1].Obstacle);
        Assert.Equal("", Tell(disk, new HealthReading { Obstacle = "It has gone." }));
        Assert.Equal(90, disk.Health.Latest.TemperatureCelsius);
        Assert.Equal("ReadableAgain 0 still", Tell(disk, HealthReading.FromPercent(3, 100, 90)));
        // Nothing of the temperature: it is still as hot.
        Assert.Equal("", Tell(disk, HealthReading.FromPercent(3, 100, null)));
        Assert.Equal("ReadOnlyLeft 20", Tell(disk, HealthReading.FromPercent(3, 100, 20)));
    }

    [Fact]
    public void A_disk_that_is_beyond_a_limit_when_it_is_opened_begins_so()
    {
        _source.Next = HealthReading.FromPercent(101, 100, 20);
        using HealthDisk disk = Open([new(HealthQuantity.Wear, 80)], [new(HealthQuantity.Wear, 100)]);
        Assert.Equal("WarningReached 101, ReadOnlyReached 101", Said());
        using var bench = new WrappingBench(disk);
        Assert.Equal(DiskOutcome.Failed, OutcomeOf(bench, DiskOperation.Write));
    }

    [Fact]
    public void Disks_are_judged_each_by_its_own_readings_and_ranges_of_one_together()
    {
        using HealthDisk one = Open([], [new(HealthQuantity.Wear, 100)]);
        var otherSource = new RecordedHealth();
        var other = HealthDisk.Open(new AnsweringDisk(), new HealthMonitor(otherSource, Timeout.InfiniteTimeSpan), Policy([], [new(HealthQuantity.Wear, 50)]));
        // On the other one's monitor, as a second range of its image: with limits of its own.
        var second = HealthDisk.Open(new RangeOf(other), other.Health, Policy([], [new(HealthQuantity.Wear, 60)]));
        using var benchOne = new WrappingBench(one);
        using var benchOther = new WrappingBench(other);
        using var benchSecond = new WrappingBench(second);
        otherSource.Next = HealthReading.FromPercent(55, null, null);
        other.Health.ReadNow();
        Assert.Equal(DiskOutcome.Done, OutcomeOf(benchOne, DiskOperation.Write));
        Assert.Equal(DiskOutcome.Failed, OutcomeOf(benchOther, DiskOperation.Write));
        Assert.Equal(DiskOutcome.Done, OutcomeOf(benchSecond, DiskOperation.Write));
        // The monitor belongs to the other one, and goes on when this one has gone.
        second.Dispose();
        otherSource.Next = HealthReading.FromPercent(10, null, null);
        other.Health.ReadNow();
        Assert.Equal(DiskOutcome.Done, OutcomeOf(benchOther, DiskOperation.Write));
        other.Dispose();
        otherSource.Next = HealthReading.FromPercent(99, null, null);
        other.Health.ReadNow();
        Assert.Equal(10, other.Health.Latest.WearPercent);
    }

    [Fact]
    public void It_tells_the_lifetime_of_its_own_source_and_keeps_that_when_the_size_changes()
    {
        _source.Next = HealthReading.FromPercent(42, 100, 20);
        using var disk = HealthDisk.Open(_inner, new HealthMonitor(_source, Timeout.InfiniteTimeSpan), null);
        Assert.True(disk.Properties.HasLifetime);
        Assert.Equal((1, 5), (disk.Lifetime!.Payload.PreEolInfo, disk.Lifetime.Payload.EstimateA));
        _inner.NewCapacityBytes = 1 << 20;
        disk.Refresh();
        Assert.Equal((true, 1ul << 20), (disk.Properties.HasLifetime, disk.Properties.CapacityBytes));
        // Without a policy nothing stands in the way of requests.
        using var bench = new WrappingBench(disk);
        Assert.Equal(DiskOutcome.Done, OutcomeOf(bench, DiskOperation.Write));
    }

    [Fact]
    public void A_lifetime_that_becomes_known_later_is_not_offered_in_the_middle()
    {
        _source.Next = HealthReading.FromPercent(null, null, 20);
        using HealthDisk disk = Open([new(HealthQuantity.Temperature, 70)], []);
        Tell(disk, HealthReading.FromPercent(42, 100, 20));
        _inner.NewCapacityBytes = 1 << 20;
        disk.Refresh();
        Assert.Equal((false, 1ul << 20), (disk.Properties.HasLifetime, disk.Properties.CapacityBytes));
    }

    [Fact]
    public void A_temperature_alone_is_no_lifetime()
    {
        _source.Next = HealthReading.FromPercent(null, null, 20);
        using HealthDisk disk = Open([new(HealthQuantity.Temperature, 70)], []);
        Assert.False(disk.Properties.HasLifetime);
    }

    [Fact]
    public void A_limit_of_what_is_not_told_is_refused_with_both_disposed()
    {
        _source.Next = HealthReading.FromPercent(1, 1, null);
        DiskOpenException refused = Assert.Throws<DiskOpenException>(() => Open([new(HealthQuantity.Temperature, 70)], []));
        Assert.Contains("temperature", refused.Message, StringComparison.Ordinal);
        Assert.Equal(1, _inner.DisposeCount);
        _source.Next = new HealthReading { Obstacle = "It is not there." };
        refused = Assert.Throws<DiskOpenException>(() => Open([new(HealthQuantity.Wear, 70)], []));
        Assert.Contains("It is not there.", refused.Message, StringComparison.Ordinal);
        Assert.Throws<DiskOpenException>(() => Policy([new(HealthQuantity.Wear, 70, 71)], []));
        Assert.Throws<DiskOpenException>(() => Policy([], [new(HealthQuantity.Spare, 5, 4)]));
    }

    [Fact]
    public void A_monitor_asks_by_itself_as_often_as_who_wants_it_most()
    {
        using var monitor = new HealthMonitor(_source, Timeout.InfiniteTimeSpan);
        monitor.ReadEvery(TimeSpan.FromHours(1));
        monitor.ReadEvery(TimeSpan.FromMilliseconds(1));
        monitor.ReadEvery(TimeSpan.FromMinutes(1));
        _source.Next = HealthReading.FromPercent(7, null, null);
        Eventually.Holds(() => monitor.Latest.WearPercent == 7, "the new value is seen");
    }

    private HealthDisk Open(IReadOnlyList<HealthLimit> warn, IReadOnlyList<HealthLimit> readOnly) =>
        HealthDisk.Open(_inner, new HealthMonitor(_source, Timeout.InfiniteTimeSpan), Policy(warn, readOnly));

    private HealthPolicy Policy(IReadOnlyList<HealthLimit> warn, IReadOnlyList<HealthLimit> readOnly) =>
        new(new HealthPolicyOptions(warn, readOnly, _notices.Add));

    private string Tell(HealthDisk disk, HealthReading reading)
    {
        _notices.Clear();
        _source.Next = reading;
        disk.Health.ReadNow();
        return Said();
    }

    private string Said() => string.Join(", ", _notices.Select(notice =>
        $"{notice.Kind} {notice.Value}{(notice.IsReadOnly && notice.Kind != HealthNoticeKind.ReadOnlyReached && notice.Kind != HealthNoticeKind.WarningReached && notice.Kind != HealthNoticeKind.WarningLeft ? " still" : "")}"));

    private static DiskOutcome OutcomeOf(WrappingBench bench, DiskOperation operation)
    {
        bench.Submit(0, operation);
        return Assert.Single(bench.Take()).Outcome;
    }

    // Another way to the same storage, whose health it has and does not close.
    private sealed class RangeOf(IDisk disk) : IDisk
    {
        public DiskProperties Properties => disk.Properties;

        public HealthMonitor? Health => disk.Health;

        public IDiskQueue OpenQueue(VirtioBlkFlow.Disks.Engine.IIoEngine engine, IDiskCompletions completions, int slotCount) =>
            new AnsweringDisk().OpenQueue(engine, completions, slotCount);

        public DiskOutcome Flush() => DiskOutcome.Done;

        public void Dispose()
        {
        }
    }
}
