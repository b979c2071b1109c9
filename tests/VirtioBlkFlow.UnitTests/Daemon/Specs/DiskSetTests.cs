using VirtioBlkFlow.Daemon.Specs;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

public sealed class DiskSetTests
{
    private static readonly SocketPlaces s_nowhere = new(null, null, null);

    [Fact]
    public void One_disk_alone_has_the_sockets_and_the_serial_number_it_always_had()
    {
        DiskSpec alone = Assert.Single(Complete(s_nowhere, "null:1M"));
        Assert.Equal(("disk0", "./vblkflow.sock", "vblkflow"), (alone.Id, alone.SocketPath, alone.Device.Serial));
        Assert.Equal("/a", Complete(s_nowhere with { Path = "/a" }, "null:1M")[0].SocketPath);
        Assert.Equal(3, Complete(s_nowhere with { Descriptor = 3 }, "null:1M")[0].SocketDescriptor);
        Assert.Equal("/run/disk0.sock", Complete(s_nowhere with { Folder = "/run" }, "null:1M")[0].SocketPath);
    }

    [Fact]
    public void Several_have_names_and_sockets_and_serial_numbers_of_their_own()
    {
        IReadOnlyList<DiskSpec> disks = Complete(s_nowhere with { Folder = "/run" }, "null:1M", "null:1M,id=data", "null:1M,socket=/x,serial=s", "null:1M,fd=7");
        Assert.Equal(["disk0", "data", "disk2", "disk3"], disks.Select(disk => disk.Id));
        Assert.Equal(["/run/disk0.sock", "/run/data.sock", "/x", null], disks.Select(disk => disk.SocketPath));
        Assert.Equal(["disk0", "data", "s", "disk3"], disks.Select(disk => disk.Device.Serial));
        Assert.Equal(7, disks[3].SocketDescriptor);
    }

    [Theory]
    [InlineData("own socket=", "null:1M", "null:1M,socket=/b")]
    [InlineData("its id is 'a'", "null:1M,id=a,socket=/a", "null:1M,id=a,socket=/b")]
    [InlineData("its id is 'disk1'", "null:1M,id=disk1,socket=/a", "null:1M,socket=/b")]
    [InlineData("its socket is '/a'", "null:1M,socket=/a", "null:1M,socket=/a")]
    [InlineData("its socket is '/b/../a'", "null:1M,socket=/a", "null:1M,socket=/b/../a")]
    [InlineData("its fd is 3", "null:1M,fd=3", "null:1M,fd=3")]
    [InlineData("exclude each other", "null:1M,fd=3,socket=/a", "null:1M,socket=/b")]
    [InlineData("same image", "file:/no/such/image,socket=/a", "file:/no/../no/such/image,socket=/b")]
    [InlineData("same image", "memory:1M,shm=x,socket=/a", "memory:1M,shm=x,socket=/b")]
    [InlineData("same image", "file:/x,range=0/8,socket=/a", "file:/x,socket=/b")]
    [InlineData("same image", "file:/x,range=0/8,socket=/a", "file:/x,range=7/8,socket=/b")]
    [InlineData("same image", "file:/x,range=8,socket=/a", "file:/x,range=100/8,socket=/b")]
    [InlineData("same image", "rbd:p/x,socket=/a", "rbd:p/x,user=u,socket=/b")]
    [InlineData("in another way", "rbd:p/x,range=0/8,socket=/a", "rbd:p/x,range=8,user=u,socket=/b")]
    [InlineData("in another way", "file:/x,range=0/8,socket=/a", "file:/x,range=8,direct,socket=/b")]
    [InlineData("limits of group 'g'", "null:1M,group=g,socket=/a", "null:1M,group=g,socket=/b")]
    [InlineData("gives group 'g' other limits", "null:1M,group=g,iops=1,socket=/a", "null:1M,group=g,iops=2,socket=/b")]
    public void Two_that_want_the_same_are_refused_by_name(string word, string first, string second)
    {
        string refusal = Assert.Throws<SpecException>(() => Complete(s_nowhere, first, second)).Message;
        Assert.StartsWith("--disk '", refusal, StringComparison.Ordinal);
        Assert.Contains(word, refusal, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("file:/x,ro,socket=/a", "file:/x,ro,socket=/b")]
    [InlineData("file:/x,lock=off,socket=/a", "file:/x,lock=off,socket=/b")]
    [InlineData("file:/x,socket=/a", "file:/y,socket=/b")]
    [InlineData("null:1M,socket=/a", "null:1M,socket=/b")]
    [InlineData("file:/x,range=0/8,socket=/a", "file:/x,range=8/8,socket=/b")]
    [InlineData("file:/x,range=8,ro,socket=/a", "file:/x,range=0/8,socket=/b")]
    [InlineData("null:1M,group=g,iops=1,socket=/a", "null:1M,group=g,socket=/b")]
    [InlineData("rbd:p/x,socket=/a", "rbd:p/x@s,socket=/b")]
    [InlineData("rbd:p/x,socket=/a", "rbd:p/n/x,socket=/b")]
    [InlineData("rbd:p/x,conf=/one,socket=/a", "rbd:p/x,conf=/other,socket=/b")]
    [InlineData("null:1M,group=g,throttle,socket=/a", "null:1M,group=g,socket=/b")]
    [InlineData("null:1M,group=g,throttle,socket=/a", "null:1M,group=g,iops=1,socket=/b")]
    public void Readers_of_one_image_who_does_without_locks_and_separate_ranges_may_share_it(string first, string second) =>
        Assert.Equal(2, Complete(s_nowhere, first, second).Count);

    [Fact]
    public void The_socket_of_one_disk_is_for_one_disk()
    {
        Assert.Contains("--socket-path", Refusal(s_nowhere with { Path = "/a" }, "null:1M", "null:1M"), StringComparison.Ordinal);
        Assert.Contains("--fd", Refusal(s_nowhere with { Descriptor = 3 }, "null:1M", "null:1M"), StringComparison.Ordinal);
        Assert.Contains("--socket-path", Refusal(s_nowhere with { Path = "/a" }, "null:1M,socket=/b"), StringComparison.Ordinal);

        static string Refusal(SocketPlaces places, params string[] texts) => Assert.Throws<SpecException>(() => Complete(places, texts)).Message;
    }

    private static IReadOnlyList<DiskSpec> Complete(SocketPlaces places, params string[] texts)
    {
        SpecReader reader = new(new DiskSpec());
        return DiskSet.Complete([.. texts.Select(reader.ReadDisk)], places);
    }
}
