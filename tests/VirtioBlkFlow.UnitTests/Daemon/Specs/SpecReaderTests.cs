using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Memory;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.Disks.Rbd;
using VirtioBlkFlow.UnitTests.Architecture;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

public sealed class SpecReaderTests
{
    [Fact]
    public void Every_key_reaches_its_place()
    {
        DiskSpec spec = Read(
            "file:/images/a,,b.img,ro,direct=on,lock=off,cache=writeback,serial=data,num-queues=3,parallelism=5,seg-max=7,size-max=8192,discard-max=64/2,"
            + "write-zeroes-max=128,secure-erase-max=256/4,poll=never,lint,feature.discard=off,feature.in-order=on,sectorsize=512/4096,id=x,socket=/s,,t,"
            + "socket-mode=0660");

        Assert.Equal("/images/a,b.img", spec.What);
        Assert.Equal((true, true, false), (spec.ReadOnly, spec.Direct, spec.Lock));
        Assert.Equal(("data", "x", "/s,t", 0x1b0), (spec.Serial, spec.Id, spec.SocketPath, spec.SocketMode));
        Assert.Equal(new BlockSizes(512, 4096), spec.BlockSizes);
        Assert.True(FeatureChoices.TryGetBit("discard", out ulong discard) & FeatureChoices.TryGetBit("in-order", out ulong inOrder));
        Assert.Equal(
            new BlkDeviceOptions
            {
                Cache = CacheMode.Writeback,
                QueueCount = 3,
                Parallelism = 5,
                SegMax = 7,
                SizeMax = 8192,
                Discard = new SegmentLimits(64, 2),
                WriteZeroes = new SegmentLimits(128, BlkDeviceOptions.DefaultSegments.MaxSegments),
                SecureErase = new SegmentLimits(256, 4),
                Polling = PollMode.Never,
                Lint = true,
                Features = new FeatureChoices(On: inOrder, Off: discard),
            },
            spec.Device);
    }

    [Fact]
    public void A_disk_in_memory_and_one_that_keeps_nothing_have_keys_of_their_own()
    {
        Assert.Equal(
            new MemoryDiskOptions(0, "scratch", KeepShared: true, HugePages.Transparent), Read("memory:64M,shm=scratch,keep,huge-pages=transparent").Memory);
        Assert.True(Read("null:1T,zeroes").Null.ReadZeroes);
        Assert.Contains("'direct'", Refusal("null:1G,direct"), StringComparison.Ordinal);
        Assert.Contains("'shm'", Refusal("file:a.img,shm=x"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nbd:nbd+unix:///vm1?socket=/run/nbd.sock", "nbd+unix:///vm1?socket=/run/nbd.sock")]
    [InlineData("nbd+unix:///vm1?socket=/run/nbd.sock", "nbd+unix:///vm1?socket=/run/nbd.sock")]
    [InlineData("nbd:nbd://host:1/vm1", "nbd://host:1/vm1")]
    [InlineData("nbd://host:1/vm1", "nbd://host:1/vm1")]
    public void An_export_is_named_with_and_without_its_kind(string text, string what)
    {
        DiskSpec spec = Read($"{text},connections=3,timeout=5s,reconnect=0s,server-cache=kept,range=0/8,errors=hold");
        Assert.Equal(("nbd", what, $"nbd:{what}"), (spec.Kind.Name, spec.What, spec.Label));
        Assert.Equal(
            new NbdDiskOptions { Connections = 3, Timeout = TimeSpan.FromSeconds(5), Reconnect = TimeSpan.Zero, ServerKeepsWrites = true }, spec.Nbd);
        Assert.Equal(new NbdDiskOptions(), Read(text).Nbd);
        Assert.Contains("connections takes 1 to 64", Refusal($"{text},connections=0"), StringComparison.Ordinal);
        Assert.Contains("timeout takes", Refusal($"{text},timeout=0s"), StringComparison.Ordinal);
        Assert.Contains("server-cache takes volatile or kept", Refusal($"{text},server-cache=on"), StringComparison.Ordinal);
        Assert.Contains("'direct'", Refusal($"{text},direct"), StringComparison.Ordinal);
    }

    [Fact]
    public void An_image_of_a_cluster_is_named_as_Ceph_names_it()
    {
        DiskSpec spec = Read("rbd:vms/tenant/system@monday,conf=/c,user=u,keyring=/k,timeout=120,connect-timeout=5,lock=off");

        Assert.Equal(
            new RbdDiskOptions("", "") { ConfigurationPath = "/c", User = "u", KeyringPath = "/k", TimeoutSeconds = 120, ConnectTimeoutSeconds = 5 }, spec.Rbd);
        Assert.False(spec.Lock);
        Assert.Equal("rbd:vms/tenant/system@monday", spec.Label);
    }

    [Fact]
    public void Zones_may_be_described_in_any_order()
    {
        DiskSpec spec = Read("file:a.img,zone-max-open=2,zone-size=64M,zone-conventional=1");
        Assert.Equal((64ul << 20, 2, 1), (spec.Zones!.ZoneBytes, spec.Zones.MaxOpen, spec.Zones.ConventionalZones));
        Assert.Contains("zone-size", Refusal("file:a.img,zone-max-open=2"), StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_disk_does_not_say_is_as_the_defaults_say()
    {
        DiskSpec defaults = new() { ReadOnly = true, Serial = "of all" };

        DiskSpec spec = new SpecReader(defaults).ReadDisk("null:1G,ro=off");

        Assert.False(spec.ReadOnly);
        Assert.Equal("of all", spec.Serial);
    }

    [Theory]
    [InlineData("a.img", "KIND:WHAT", "file", "memory", "null", "file:a.img")]
    [InlineData("flie:a.img", "'flie'", "file, memory, null, composite")]
    [InlineData("file:", "PATH")]
    [InlineData("memory:,shm=x", "SIZE")]
    [InlineData("memory:plenty", "'plenty'", "K, M, G or T")]
    [InlineData("null:1Q", "'1Q'")]
    [InlineData("file:a.img,colour=red", "'colour'", "cache", "sectorsize", "socket", "feature.NAME")]
    [InlineData("file:a.img,", "''", "cache")]
    [InlineData("file:a.img,feature.scsi=on", "'scsi'", "write-zeroes")]
    [InlineData("file:a.img,cache", "cache=writethrough|writeback")]
    [InlineData("file:a.img,cache=none", "writethrough or writeback", "'none'")]
    [InlineData("file:a.img,ro=maybe", "on or off", "'maybe'")]
    [InlineData("file:a.img,ro,readonly", "twice")]
    [InlineData("file:a.img,feature.mq=on,feature.mq=off", "twice")]
    [InlineData("file:a.img,num-queues=257", "1 to 256")]
    [InlineData("file:a.img,num-queues=-1", "1 to 256")]
    [InlineData("file:a.img,discard-max=8/257", "1 to 256")]
    [InlineData("file:a.img,discard-max=0", "1 or more")]
    [InlineData("file:a.img,sectorsize=1000", "powers of two")]
    [InlineData("file:a.img,sectorsize=4096/512", "not below")]
    [InlineData("file:a.img,sectorsize=131072", "65536")]
    [InlineData("file:a.img,socket-mode=888", "0660")]
    [InlineData("file:a.img,id=../up", "letters")]
    [InlineData("file:a.img,id=.hidden", "letters")]
    [InlineData("file:a.img,socket=", "a path")]
    [InlineData("file:a.img,zone-size=0", "K, M, G or T")]
    [InlineData("memory:1M,keep", "shm=NAME")]
    [InlineData("memory:1M,memfd=3,shm=x", "leave out")]
    [InlineData("memory:1M,memfd=3,huge-pages=2M", "leave out")]
    [InlineData("memory:1M,memfd=-1", "memfd takes")]
    [InlineData("memory:1M,shm=a/b", "slashes")]
    [InlineData("file:a.img,range=0/0", "START/SECTORS")]
    [InlineData("file:a.img,range=1-2", "START/SECTORS")]
    [InlineData("file:a.img,range=0/8,zone-size=1M", "range", "zones")]
    [InlineData("file:a.img,sectorsize=4096,zone-size=1M", "sectorsize", "zones")]
    [InlineData("null:1M,iops=0", "1 to ")]
    [InlineData("null:1M,bps=0", "K, M, G or T")]
    [InlineData("null:1M,burst=5", "iops")]
    [InlineData("null:1M,burst-bytes=5,iops=1", "bps")]
    [InlineData("null:1M,delay=5", "200us")]
    [InlineData("null:1M,faults=write", "nospace")]
    [InlineData("null:1M,errors=retry", "retry:N")]
    [InlineData("composite:", "FILE.json")]
    [InlineData("rbd:", "POOL/[NAMESPACE/]IMAGE[@SNAP]")]
    [InlineData("rbd:image", "'image'", "POOL/[NAMESPACE/]IMAGE[@SNAP]")]
    [InlineData("rbd:pool/", "POOL/")]
    [InlineData("rbd:/image", "POOL/")]
    [InlineData("rbd:pool//image", "POOL/")]
    [InlineData("rbd:pool/a/b/image", "POOL/")]
    [InlineData("rbd:pool/image@", "POOL/")]
    [InlineData("rbd:pool/@snap", "POOL/")]
    [InlineData("rbd:pool/image,timeout=0", "1 to 86400")]
    [InlineData("rbd:pool/image,connect-timeout=86401", "1 to 86400")]
    [InlineData("rbd:pool/image,conf=", "a path")]
    [InlineData("rbd:pool/image,direct", "'direct'", "keyring")]
    public void What_is_wrong_is_named_with_what_is_allowed(string text, params string[] words)
    {
        string refusal = Refusal(text);
        Assert.StartsWith($"--disk '{text}': ", refusal, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refusal);
        Assert.All(words, word => Assert.Contains(word, refusal, StringComparison.Ordinal));
    }

    [Fact]
    public void Every_example_works()
    {
        foreach (DiskKind kind in DiskKinds.All)
        {
            // The file of a composite disk is read at once, and has tests of its own.
            Assert.StartsWith($"{kind}:", kind.Example, StringComparison.Ordinal);
            Assert.True(kind is CompositeKind || Read(kind.Example).Kind == kind);
            foreach (SpecKey key in kind.Keys.Append(DeviceKeys.Features[0]))
            {
                // Some keys need another one beside them, which is for the kind to say; the value itself is good.
                Assert.NotNull(key.Set(new DiskSpec(), key.Example));
                Assert.EndsWith(".", key.Meaning, StringComparison.Ordinal);
            }
        }
    }

    [Theory]
    [InlineData("docs/disks.md")]
    [InlineData("docs/man/vblkflow.1")]
    public void Every_kind_and_key_is_in_the_documents(string document)
    {
        string text = File.ReadAllText(Path.Combine(SourceTree.Root, document)).Replace("\\-", "-", StringComparison.Ordinal);
        Assert.All(DiskKinds.All, kind => Assert.Matches($@"\b{kind.Name}\b", text));
        Assert.All(
            DiskKinds.All.SelectMany(kind => kind.Keys).Distinct(), key => Assert.Matches($@"(?<![\w-]){System.Text.RegularExpressions.Regex.Escape(key.Name)}(?![\w-])", text));
    }

    private static DiskSpec Read(string text) => new SpecReader(new DiskSpec()).ReadDisk(text);

    private static string Refusal(string text) => Assert.Throws<SpecException>(() => Read(text)).Message;
}
