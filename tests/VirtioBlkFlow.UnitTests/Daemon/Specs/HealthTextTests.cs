using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks.Health;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

/// <summary>Keys about the health of a disk, about reading it in the background, and about being ready for limits.</summary>
public sealed class HealthTextTests
{
    [Fact]
    public void A_limit_has_its_quantity_and_its_way_back()
    {
        Assert.Equal(
            [new HealthLimit(HealthQuantity.Wear, 90, 90), new(HealthQuantity.Spare, 5, 5), new(HealthQuantity.Temperature, 85, 80)],
            HealthText.TryParse("wear:90%+spare:5+temperature:85C")!);
        Assert.Equal(
            [new HealthLimit(HealthQuantity.Wear, 90, 0), new(HealthQuantity.Spare, 5, 10), new(HealthQuantity.Temperature, 85, 60)],
            HealthText.TryParse("wear:90:0+spare:5%:10%+temperature:85:60C")!);
    }

    [Theory]
    [InlineData("")]
    [InlineData("wear")]
    [InlineData("wear:")]
    [InlineData("wear:90:80:70")]
    [InlineData("wear:90+")]
    [InlineData("wear:-1")]
    [InlineData("wear:256")]
    [InlineData("wear:90C")]
    [InlineData("temperature:85%")]
    [InlineData("temperature:301")]
    [InlineData("humidity:50")]
    // A way back that is no way back.
    [InlineData("wear:90:91")]
    [InlineData("spare:5:4")]
    [InlineData("temperature:85:86")]
    public void Anything_else_is_no_limit(string text) => Assert.Null(HealthText.TryParse(text));

    [Fact]
    public void The_source_is_the_device_a_file_or_nothing()
    {
        Assert.Equal(new HealthSpec(), Read("null:1M").Health with { Warn = new HealthSpec().Warn, ReadOnly = new HealthSpec().ReadOnly });
        Assert.Equal((HealthOrigin.File, "/run/h"), (Read("null:1M,health=file:/run/h").Health.Origin, Read("null:1M,health=file:/run/h").Health.Path));
        DiskSpec off = Read("null:1M,health=off,health-warn=wear:80");
        Assert.Equal((HealthOrigin.Off, false), (off.Health.Origin, off.Health.HasPolicy));
        Assert.True(Read("null:1M,health-warn=wear:80").Health.HasPolicy);
        Assert.Equal(TimeSpan.FromMilliseconds(500), Read("null:1M,health-interval=500ms").Health.Interval);
    }

    [Theory]
    [InlineData("null:1M,health=file:", "device, off, or file:PATH")]
    [InlineData("null:1M,health=on", "device, off, or file:PATH")]
    [InlineData("null:1M,health-warn=wear", "wear:PERCENT")]
    [InlineData("null:1M,health-read-only=temperature:80:85", "come back to")]
    [InlineData("null:1M,health-interval=9ms", "10ms to an hour")]
    [InlineData("null:1M,health-interval=60", "10ms to an hour")]
    [InlineData("null:1M,refresh=0", "bytes in a second")]
    [InlineData("null:1M,refresh=fast", "bytes in a second")]
    [InlineData("null:1M,refresh=1M:now", "bytes in a second")]
    [InlineData("null:1M,refresh-rewrite", "goes with refresh")]
    [InlineData("null:1M,refresh=1M:on-demand,refresh-rewrite", "there is none with :on-demand")]
    [InlineData("null:1M,refresh=1M,refresh-rewrite,ro", "leave out ro")]
    [InlineData("file:/x,refresh=1M,refresh-rewrite,lock=off", "leave out lock=off")]
    [InlineData("file:/x,refresh=1M,refresh-rewrite,zone-size=1M", "in sequence only")]
    [InlineData("memory:1M,shm=x,refresh=1M,refresh-rewrite", "leave out shm")]
    [InlineData("memory:1M,memfd=5,refresh=1M,refresh-rewrite", "leave out memfd")]
    public void What_is_wrong_is_refused_with_what_is_right(string text, string named) =>
        Assert.Contains(named, Assert.Throws<SpecException>(() => Read(text)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_refresh_has_a_rate_and_a_time()
    {
        Assert.Equal(new RefreshSpec(4 << 20, false), Read("file:/x,refresh=4M,refresh-rewrite").Refresh);
        Assert.Equal(new RefreshSpec(4096, true), Read("null:1M,refresh=4096:on-demand").Refresh);
        Assert.Null(Read("null:1M").Refresh);
    }

    [Fact]
    public void Ready_for_limits_is_a_throttle_without_any()
    {
        Assert.Null(Read("null:1M").Throttle);
        Assert.Null(Read("null:1M,throttle=off").Throttle);
        Assert.NotNull(Read("null:1M,throttle").Throttle);
        Assert.Equal(5ul, Read("null:1M,throttle,iops=5").Throttle!.Iops);
        Assert.Equal(5ul, Read("null:1M,iops=5,throttle").Throttle!.Iops);
    }

    private static DiskSpec Read(string text) => new SpecReader(new DiskSpec()).ReadDisk(text);
}
