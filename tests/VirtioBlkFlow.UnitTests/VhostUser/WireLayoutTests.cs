using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>
/// Every payload byte by byte, with offsets written down from the document, because a peer built on the same structs would not notice
/// two fields that have changed places.
/// </summary>
public sealed class WireLayoutTests
{
    [Fact]
    public void Header_is_request_flags_size() =>
        Check(new MessageHeader(0x11, (MessageFlags)0x22, 0x33), MessageHeader.SizeBytes, (0, 4, 0x11), (4, 4, 0x22), (8, 4, 0x33));

    [Fact]
    public void Vring_state_is_index_num() => Check(new VringState(0x11, 0x22), VringState.SizeBytes, (0, 4, 0x11), (4, 4, 0x22));

    [Fact]
    public void Vring_address_has_the_used_ring_before_the_available_ring() =>
        Check(
            new VringAddress(Index: 0x11, Flags: 0x22, DescriptorTable: 0x33, UsedRing: 0x44, AvailableRing: 0x55, Log: 0x66),
            VringAddress.SizeBytes,
            (0, 4, 0x11), (4, 4, 0x22), (8, 8, 0x33), (16, 8, 0x44), (24, 8, 0x55), (32, 8, 0x66));

    [Fact]
    public void Memory_region_is_guest_size_user_offset() =>
        Check(
            new MemoryRegion(GuestAddress: 0x11, LengthBytes: 0x22, UserAddress: 0x33, MmapOffset: 0x44),
            MemoryRegion.SizeBytes,
            (0, 8, 0x11), (8, 8, 0x22), (16, 8, 0x33), (24, 8, 0x44));

    [Fact]
    public void Single_region_begins_after_8_bytes() =>
        Check(
            new SingleMemoryRegion(0, new MemoryRegion(0x11, 0x22, 0x33, 0x44)),
            SingleMemoryRegion.SizeBytes,
            (8, 8, 0x11), (16, 8, 0x22), (24, 8, 0x33), (32, 8, 0x44));

    [Fact]
    public void Memory_table_begins_with_its_count() => Check(new MemoryTableHeader(0x11, 0), MemoryTableHeader.SizeBytes, (0, 4, 0x11));

    [Fact]
    public void Config_is_offset_size_flags() =>
        Check(new ConfigHeader(0x11, 0x22, 0x33), ConfigHeader.SizeBytes, (0, 4, 0x11), (4, 4, 0x22), (8, 4, 0x33));

    [Fact]
    public void Log_is_size_offset() => Check(new LogDescription(0x11, 0x22), LogDescription.SizeBytes, (0, 8, 0x11), (8, 8, 0x22));

    [Fact]
    public void Inflight_is_size_offset_queues_descriptors() =>
        Check(
            new InflightDescription(0x11, 0x22, 0x33, 0x44), InflightDescription.SizeBytes,
            (0, 8, 0x11), (8, 8, 0x22), (16, 2, 0x33), (18, 2, 0x44));

    [Fact]
    public void Device_state_is_direction_phase() =>
        Check(new DeviceStateParameters((DeviceStateDirection)0x11, 0x22), DeviceStateParameters.SizeBytes, (0, 4, 0x11), (4, 4, 0x22));

    [Fact]
    public void Kick_has_the_index_in_8_bits_and_the_missing_descriptor_in_bit_8()
    {
        Assert.Equal(255, new VringDescriptorIndex(0x1ff).Index);
        Assert.True(new VringDescriptorIndex(0x1ff).SaysNoDescriptor);
        Assert.False(new VringDescriptorIndex(0xff).SaysNoDescriptor);
    }

    [Fact]
    public void A_reply_has_flags_5() => Assert.Equal(5u, (uint)MessageHeader.ReplyFlags);

    private static void Check<T>(T value, int sizeBytes, params (int Offset, int Bytes, byte Value)[] fields)
        where T : unmanaged
    {
        var expected = new byte[sizeBytes];
        foreach (var (offset, bytes, low) in fields)
        {
            expected[BitConverter.IsLittleEndian ? offset : offset + bytes - 1] = low;
        }

        Assert.Equal(expected, RawFrontend.Bytes(value));
    }
}
