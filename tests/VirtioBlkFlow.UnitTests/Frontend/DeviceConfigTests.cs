using System.Runtime.CompilerServices;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

public sealed class DeviceConfigTests
{
    [Fact]
    public void Every_field_lies_where_the_specification_has_it()
    {
        byte[] bytes = new byte[DeviceConfig.SizeBytes];
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)(i + 1);
        }

        var config = DeviceConfig.Read(bytes);
        (ulong Value, int Offset)[] fields =
        [
            (config.CapacitySectors & 0xff, 0), (config.SizeMax, 8), (config.SegMax, 12), (config.Cylinders, 16), (config.Heads, 18),
            (config.SectorsPerTrack, 19), (config.BlkSize, 20), (config.PhysicalBlockExp, 24), (config.AlignmentOffset, 25), (config.MinIoSize, 26),
            (config.OptIoSize, 28), (config.Writeback, 32), (config.Unused0, 33), (config.NumQueues, 34), (config.MaxDiscardSectors, 36),
            (config.MaxDiscardSeg, 40), (config.DiscardSectorAlignment, 44), (config.MaxWriteZeroesSectors, 48), (config.MaxWriteZeroesSeg, 52),
            (config.WriteZeroesMayUnmap, 56), (config.MaxSecureEraseSectors, 60), (config.MaxSecureEraseSeg, 64), (config.SecureEraseSectorAlignment, 68),
            (config.ZoneSectors, 72), (config.MaxOpenZones, 76), (config.MaxActiveZones, 80), (config.MaxAppendSectors, 84),
            (config.ZonedWriteGranularityBytes, 88), (config.ZonedModel, 92),
        ];
        Assert.All(fields, field => Assert.Equal((ulong)(field.Offset + 1), field.Value & 0xff));
        Assert.Equal(DeviceConfig.SizeBytes, Unsafe.SizeOf<DeviceConfig>());
    }

    [Fact]
    public void What_a_front_end_did_not_get_counts_as_zeros()
    {
        byte[] bytes = new byte[57];
        Array.Fill(bytes, (byte)1);
        var config = DeviceConfig.Read(bytes);
        Assert.Equal((1, 0u, 0), (config.WriteZeroesMayUnmap, config.MaxSecureEraseSectors, config.ZonedModel));
    }

    [Fact]
    public void A_report_that_counts_more_zones_than_it_holds_is_the_devices_fault()
    {
        byte[] report = new byte[64 + 64 + 63];
        report[0] = 1;
        Assert.Single(ZoneList.Read(report));
        report[0] = 2;
        Assert.Throws<DeviceBrokeRingException>(() => ZoneList.Read(report));
    }
}
