using System.Runtime.InteropServices;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Zoned;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;
using static VirtioBlkFlow.Virtio.Blk.BlkRequestType;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>Every rule that a driver can break over a split ring, broken once.</summary>
public sealed class DriverRuleTests
{
    private const ulong Sectors = 8192;

    private static readonly VirtioFeatures s_all = VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC
        | (VirtioFeatures)(ulong)Enum.GetValues<BlkFeatures>().Aggregate(static (all, feature) => all | feature);

    private static readonly DiskProperties s_disk = new()
    {
        CapacityBytes = Sectors * 512,
        PhysicalBlockBytes = 4096,
        CanDiscard = true,
    };

    private static readonly Dictionary<LintRule, Scene> s_scenes = new()
    {
        [LintRule.RingAvailableIndex] = new(static rig => rig.Queue.Ring.Raw.AvailableIndex = 1000),
        [LintRule.RingHeadRange] = new(static rig => OfferRaw(rig, 999)),
        [LintRule.RingHeadInFlight] = new(static rig =>
        {
            rig.Queue.Add(VIRTIO_BLK_T_FLUSH, 0, 0);
            rig.Queue.Ring.Publish();
            rig.Queue.Ring.Raw.WriteAvailableEntry(1, ReadHead(rig));
            rig.Queue.Ring.Raw.AvailableIndex = 2;
        }),
        [LintRule.RingNextRange] = new(static rig => OfferDescriptor(rig, DescriptorFlags.VIRTQ_DESC_F_NEXT, next: 999)),
        [LintRule.RingChainLoop] = new(static rig => OfferDescriptor(rig, DescriptorFlags.VIRTQ_DESC_F_NEXT, next: 0)),
        [LintRule.RingChainLength] = new(static rig => OfferTable(rig, Request(rig, VIRTIO_BLK_T_IN, dataPieces: 3))) { QueueSize = 4 },
        [LintRule.RingIndirectNegotiated] = new(static rig => OfferTable(rig, Request(rig, VIRTIO_BLK_T_IN, dataPieces: 1)))
        {
            Features = s_all & ~VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC,
        },
        [LintRule.RingIndirectNext] =
            new(static rig => OfferDescriptor(rig, DescriptorFlags.VIRTQ_DESC_F_INDIRECT | DescriptorFlags.VIRTQ_DESC_F_NEXT)),
        [LintRule.RingIndirectNested] = new(static rig => OfferTable(
            rig, [new Descriptor { Address = rig.Memory.Allocate(16), LengthBytes = 16, Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT }])),
        [LintRule.RingIndirectSize] = new(static rig => OfferDescriptor(rig, DescriptorFlags.VIRTQ_DESC_F_INDIRECT, lengthBytes: 17)),
        [LintRule.RingUnmapped] = new(static rig => Send(rig, VIRTIO_BLK_T_IN, 0, DriverBuffer.Writable(1UL << 50, 512))),
        [LintRule.RingWritableFirst] = new(static rig =>
        {
            RequestArea area = rig.Queue.TakeArea();
            area.WriteHeader(VIRTIO_BLK_T_OUT, 0);
            rig.Queue.AddChain(area, [area.Header, area.Status, DriverBuffer.Readable(area.DataAddress, 512)]);
            rig.Queue.Ring.Publish();
        }),
        [LintRule.RingEventIndex] = new(static rig =>
        {
            rig.Queue.Ring.Raw.AvailableFlags = 1;
            Send(rig, VIRTIO_BLK_T_FLUSH, 0);
        }),
        [LintRule.RingEventFlags] = new(static rig =>
        {
            rig.Queue.Ring.Raw.AvailableFlags = 2;
            Send(rig, VIRTIO_BLK_T_FLUSH, 0);
        })
        {
            Features = s_all & ~VirtioFeatures.VIRTIO_RING_F_EVENT_IDX,
        },
        [LintRule.BlkHeader] = new(static rig =>
        {
            RequestArea area = rig.Queue.TakeArea();
            rig.Queue.AddChain(area, [DriverBuffer.Readable(area.DataAddress, 15), area.Status]);
            rig.Queue.Ring.Publish();
        }),
        [LintRule.BlkStatusByte] = new(static rig =>
        {
            RequestArea area = rig.Queue.TakeArea();
            area.WriteHeader(VIRTIO_BLK_T_FLUSH, 0);
            rig.Queue.AddChain(area, [area.Header]);
            rig.Queue.Ring.Publish();
        }),
        [LintRule.BlkSegMax] = new(static rig => Send(rig, VIRTIO_BLK_T_IN, 0, Pieces(rig, 3))) { Options = new BlkDeviceOptions { SegMax = 2 } },
        [LintRule.BlkSizeMax] = new(static rig => Send(rig, VIRTIO_BLK_T_IN, 0, DriverBuffer.Writable(rig.Memory.Allocate(8192), 8192)))
        {
            Options = new BlkDeviceOptions { SizeMax = 4096 },
        },
        [LintRule.BlkCapacity] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_IN, Sectors, 512)),
        [LintRule.BlkDataLength] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_OUT, 0, 511)),
        [LintRule.BlkBlockAlignment] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_IN, 1, 4096))
        {
            Disk = s_disk with { LogicalBlockBytes = 4096 },
        },
        [LintRule.BlkReadOnly] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_OUT, 0, 512)) { Disk = s_disk with { ReadOnly = true } },
        [LintRule.BlkNotNegotiated] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_FLUSH, 0, 0))
        {
            Features = s_all & ~(VirtioFeatures)(ulong)BlkFeatures.VIRTIO_BLK_F_FLUSH,
        },
        [LintRule.BlkFlushSector] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_FLUSH, 5, 0)),
        [LintRule.BlkFlushData] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_FLUSH, 0, 512)),
        [LintRule.BlkIdLength] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_GET_ID, 0, 21)),
        [LintRule.BlkSegmentList] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_DISCARD, 0, 15)),
        [LintRule.BlkSegmentCount] = new(static rig => SendSegments(rig, Segment(0, 8), Segment(8, 8)))
        {
            Options = new BlkDeviceOptions { Discard = new SegmentLimits(8, 1) },
        },
        [LintRule.BlkSegmentSectors] = new(static rig => SendSegments(rig, Segment(0, 9)))
        {
            Options = new BlkDeviceOptions { Discard = new SegmentLimits(8, 1) },
        },
        [LintRule.BlkSegmentFlags] = new(static rig => SendSegments(rig, Segment(0, 8, flags: 4))),
        [LintRule.BlkDiscardUnmap] = new(static rig => SendSegments(rig, Segment(0, 8, flags: 1))),
        [LintRule.BlkDiscardAlignment] = new(static rig => SendSegments(rig, Segment(1, 8))),
        [LintRule.BlkResetAllSector] = new(static rig => SendPlain(rig, VIRTIO_BLK_T_ZONE_RESET_ALL, 1, 0))
        {
            Disk = new DiskProperties
            {
                CapacityBytes = Sectors * 512,
                Zones = new ZoneGeometry { ZoneBytes = 1 << 20, MaxAppendBytes = 4096, WriteGranularityBytes = 512 },
            },
        },
    };

    public static TheoryData<LintRule> Rules => [.. s_scenes.Keys];

    [Theory]
    [MemberData(nameof(Rules))]
    public void A_rule_that_is_broken_once_is_counted_once_and_no_other_with_it(LintRule rule)
    {
        Scene scene = s_scenes[rule];
        Assert.Equal([(rule, 1L)], Play(scene, lint: true));
    }

    [Theory]
    [InlineData(LintRule.RingHeadRange)]
    [InlineData(LintRule.BlkCapacity)]
    [InlineData(LintRule.BlkHeader)]
    [InlineData(LintRule.BlkSegmentFlags)]
    public void What_is_refused_is_counted_without_being_asked_for(LintRule rule) =>
        Assert.Equal([(rule, 1L)], Play(s_scenes[rule], lint: false));

    [Fact]
    public void A_type_that_is_not_even_offered_counts_as_not_negotiated() => Assert.Equal(
        [(LintRule.BlkNotNegotiated, 1L)],
        Play(
            new Scene(static rig => SendPlain(rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16))
            {
                Features = s_all & ~(VirtioFeatures)(ulong)BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES,
            },
            lint: true));

    [Fact]
    public void A_type_nobody_knows_accuses_nobody() =>
        Assert.Empty(Play(new Scene(static rig => SendPlain(rig, (BlkRequestType)77, 0, 16)), lint: true, ends: static (disk, rig) => rig.Queue.TryTake(out Answer _)));

    [Fact]
    public void A_driver_that_did_not_take_seg_max_may_exceed_it() => Assert.Empty(Play(
        s_scenes[LintRule.BlkSegMax] with { Features = s_all & ~(VirtioFeatures)(ulong)BlkFeatures.VIRTIO_BLK_F_SEG_MAX },
        lint: true,
        ends: static (disk, _) => disk.SubmittedCount == 1));

    [Fact]
    public void Header_and_status_glued_to_the_data_are_no_segments_of_their_own() => Assert.Empty(Play(
        new Scene(static rig =>
        {
            RequestArea area = rig.Queue.TakeArea();
            area.WriteHeader(VIRTIO_BLK_T_IN, 0);
            ulong data = rig.Memory.Allocate(1025);
            rig.Queue.AddChain(
                area,
                [
                    area.Header with { LengthBytes = 4 }, area.Header with { GuestAddress = area.Header.GuestAddress + 4, LengthBytes = 12 },
                    DriverBuffer.Writable(data, 512), DriverBuffer.Writable(data + 512, 513),
                ]);
            rig.Queue.Ring.Publish();
        })
        {
            Options = new BlkDeviceOptions { SegMax = 2 },
        },
        lint: true,
        ends: static (disk, _) => disk.SubmittedCount == 1));

    [Fact]
    public void Who_has_not_heard_that_the_disk_shrank_is_innocent()
    {
        using var image = new TemporaryImage((long)Sectors * 512);
        using var rig = new DeviceRig(image.Open(), new BlkDeviceOptions { Lint = true }, s_all);
        rig.Queue.Start();
        using (FileStream file = File.OpenWrite(image.Path))
        {
            file.SetLength((long)Sectors * 256);
        }

        rig.Device.Refresh();
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_IOERR, rig.Queue.Do(VIRTIO_BLK_T_IN, Sectors - 1, 512).Status);
        Assert.Empty(CountsOf(rig.Device.Lint));
        rig.Queue.Do(VIRTIO_BLK_T_IN, Sectors, 512);
        Assert.Equal([(LintRule.BlkCapacity, 1L)], CountsOf(rig.Device.Lint));
        rig.Queue.Stop();
    }

    private static (LintRule Rule, long Count)[] Play(Scene scene, bool lint, Func<HeldDisk, DeviceRig, bool>? ends = null)
    {
        var disk = new HeldDisk { Properties = scene.Disk ?? s_disk };
        using var rig = new DeviceRig(disk, scene.Options with { Lint = lint }, scene.Features ?? s_all, scene.QueueSize);
        rig.Queue.Start();
        scene.Act(rig);
        rig.Queue.Kick.Signal();
        Eventually.Holds(() => ends?.Invoke(disk, rig) ?? CountsOf(rig.Device.Lint).Length > 0, "the rule is counted");
        rig.LetTurnsPass();
        rig.OnReactor(disk.EndAll);
        rig.Queue.Stop();
        return CountsOf(rig.Device.Lint);
    }

    internal static (LintRule Rule, long Count)[] CountsOf(SpecLint lint) =>
        [.. LintCatalogue.Entries.Select(entry => (entry.Rule, lint.CountOf(entry.Rule))).Where(static count => count.Item2 > 0)];

    private static void OfferRaw(DeviceRig rig, ushort head)
    {
        rig.Queue.Ring.Raw.WriteAvailableEntry(0, head);
        rig.Queue.Ring.Raw.AvailableIndex = 1;
    }

    private static ushort ReadHead(DeviceRig rig) =>
        MemoryMarshal.Read<ushort>(rig.Memory.Span(rig.Queue.Ring.AvailableRingAddress + 4, sizeof(ushort)));

    private static void OfferDescriptor(DeviceRig rig, DescriptorFlags flags, ushort next = 0, uint lengthBytes = 16)
    {
        rig.Queue.Ring.Raw.WriteDescriptor(0, new Descriptor { Address = rig.Memory.Allocate(64), LengthBytes = lengthBytes, Flags = flags, Next = next });
        OfferRaw(rig, 0);
    }

    private static void OfferTable(DeviceRig rig, Descriptor[] table)
    {
        ulong address = rig.Memory.Allocate((ulong)table.Length * 16);
        MemoryMarshal.AsBytes(table.AsSpan()).CopyTo(rig.Memory.Span(address, table.Length * 16));
        rig.Queue.Ring.Raw.WriteDescriptor(
            0, new Descriptor { Address = address, LengthBytes = (uint)table.Length * 16, Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT });
        OfferRaw(rig, 0);
    }

    private static Descriptor[] Request(DeviceRig rig, BlkRequestType type, int dataPieces)
    {
        RequestArea area = rig.Queue.TakeArea();
        area.WriteHeader(type, 0);
        DriverBuffer[] buffers = [area.Header, .. Pieces(rig, dataPieces), area.Status];
        return
        [
            .. buffers.Select((buffer, i) => new Descriptor
            {
                Address = buffer.GuestAddress,
                LengthBytes = buffer.LengthBytes,
                Flags = (buffer.DeviceWritable ? DescriptorFlags.VIRTQ_DESC_F_WRITE : DescriptorFlags.None)
                    | (i < buffers.Length - 1 ? DescriptorFlags.VIRTQ_DESC_F_NEXT : DescriptorFlags.None),
                Next = (ushort)(i + 1),
            }),
        ];
    }

    private static DriverBuffer[] Pieces(DeviceRig rig, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => DriverBuffer.Writable(rig.Memory.Allocate(512), 512))];

    private static void Send(DeviceRig rig, BlkRequestType type, ulong sector, params DriverBuffer[] data)
    {
        RequestArea area = rig.Queue.TakeArea();
        area.WriteHeader(type, sector);
        rig.Queue.AddChain(area, [area.Header, .. data, area.Status]);
        rig.Queue.Ring.Publish();
    }

    private static void SendPlain(DeviceRig rig, BlkRequestType type, ulong sector, uint dataBytes)
    {
        rig.Queue.Add(type, sector, dataBytes);
        rig.Queue.Ring.Publish();
    }

    private static BlkSegment Segment(ulong sector, uint sectors, uint flags = 0) => new() { Sector = sector, SectorCount = sectors, Flags = flags };

    private static void SendSegments(DeviceRig rig, params BlkSegment[] segments)
    {
        RequestArea area = rig.Queue.TakeArea();
        area.WriteSegments(segments);
        rig.Queue.AddChain(area, area.Chain(VIRTIO_BLK_T_DISCARD, 0, (uint)(segments.Length * BlkSegment.SizeBytes)));
        rig.Queue.Ring.Publish();
    }

    private sealed record Scene(Action<DeviceRig> Act)
    {
        public DiskProperties? Disk { get; init; }

        public VirtioFeatures? Features { get; init; }

        public int QueueSize { get; init; } = 16;

        public BlkDeviceOptions Options { get; init; } = new();
    }
}
