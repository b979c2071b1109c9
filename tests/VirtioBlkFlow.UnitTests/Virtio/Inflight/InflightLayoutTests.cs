using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtioBlkFlow.UnitTests.Abi;
using VirtioBlkFlow.Virtio.Inflight;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>Layouts against a C compiler's idea of the document's structures (vhost-user, "Inflight I/O tracking"), and sizes.</summary>
public sealed class InflightLayoutTests
{
    // The fields and types of the document, in our words; the compiler decides where they stand.
    private const string Structures =
        """
        #include <stddef.h>
        #include <stdint.h>
        #include <stdio.h>
        struct split_entry { uint8_t inflight; uint8_t padding[5]; uint16_t next; uint64_t counter; };
        struct split_region { uint64_t features; uint16_t version, desc_num, last_batch_head, used_idx; struct split_entry desc[]; };
        struct packed_entry { uint8_t inflight, padding; uint16_t next, last, num; uint64_t counter; uint16_t id, flags; uint32_t len; uint64_t addr; };
        struct packed_region { uint64_t features; uint16_t version, desc_num, free_head, old_free_head, used_idx, old_used_idx;
                               uint8_t used_wrap_counter, old_used_wrap_counter, padding[7]; struct packed_entry desc[]; };
        #define SHOW(type, field) printf(#type "." #field "=%zu\n", offsetof(struct type, field))
        int main(void)
        {
            SHOW(split_region, features); SHOW(split_region, version); SHOW(split_region, desc_num);
            SHOW(split_region, last_batch_head); SHOW(split_region, used_idx); SHOW(split_region, desc);
            SHOW(split_entry, inflight); SHOW(split_entry, next); SHOW(split_entry, counter);
            SHOW(packed_region, features); SHOW(packed_region, version); SHOW(packed_region, desc_num);
            SHOW(packed_region, free_head); SHOW(packed_region, old_free_head); SHOW(packed_region, used_idx);
            SHOW(packed_region, old_used_idx); SHOW(packed_region, used_wrap_counter); SHOW(packed_region, old_used_wrap_counter);
            SHOW(packed_region, desc);
            SHOW(packed_entry, inflight); SHOW(packed_entry, next); SHOW(packed_entry, last); SHOW(packed_entry, num);
            SHOW(packed_entry, counter); SHOW(packed_entry, id); SHOW(packed_entry, flags); SHOW(packed_entry, len); SHOW(packed_entry, addr);
            printf("sizeof split_entry=%zu\n", sizeof(struct split_entry));
            printf("sizeof packed_entry=%zu\n", sizeof(struct packed_entry));
            return 0;
        }
        """;

    [Fact]
    public void Records_are_laid_out_as_a_c_compiler_lays_out_the_documents_structures()
    {
        var ours = new Dictionary<string, long>
        {
            ["split_region.features"] = Offset<SplitInflightHeader>(nameof(SplitInflightHeader.Features)),
            ["split_region.version"] = Offset<SplitInflightHeader>(nameof(SplitInflightHeader.Version)),
            ["split_region.desc_num"] = Offset<SplitInflightHeader>(nameof(SplitInflightHeader.EntryCount)),
            ["split_region.last_batch_head"] = Offset<SplitInflightHeader>(nameof(SplitInflightHeader.LastBatchHead)),
            ["split_region.used_idx"] = Offset<SplitInflightHeader>(nameof(SplitInflightHeader.UsedIndex)),
            ["split_region.desc"] = Unsafe.SizeOf<SplitInflightHeader>(),
            ["split_entry.inflight"] = Offset<SplitInflightEntry>(nameof(SplitInflightEntry.Inflight)),
            ["split_entry.next"] = Offset<SplitInflightEntry>(nameof(SplitInflightEntry.Next)),
            ["split_entry.counter"] = Offset<SplitInflightEntry>(nameof(SplitInflightEntry.Counter)),
            ["sizeof split_entry"] = Unsafe.SizeOf<SplitInflightEntry>(),
            ["packed_region.features"] = Offset<PackedInflightHeader>(nameof(PackedInflightHeader.Features)),
            ["packed_region.version"] = Offset<PackedInflightHeader>(nameof(PackedInflightHeader.Version)),
            ["packed_region.desc_num"] = Offset<PackedInflightHeader>(nameof(PackedInflightHeader.EntryCount)),
            ["packed_region.free_head"] = HeadOffset(nameof(FreeHeads.Current)),
            ["packed_region.old_free_head"] = HeadOffset(nameof(FreeHeads.Old)),
            ["packed_region.used_idx"] = UsedOffset(nameof(UsedPositions.Offset)),
            ["packed_region.old_used_idx"] = UsedOffset(nameof(UsedPositions.OldOffset)),
            ["packed_region.used_wrap_counter"] = UsedOffset(nameof(UsedPositions.Wrap)),
            ["packed_region.old_used_wrap_counter"] = UsedOffset(nameof(UsedPositions.OldWrap)),
            ["packed_region.desc"] = Unsafe.SizeOf<PackedInflightHeader>(),
            ["packed_entry.inflight"] = Offset<PackedInflightEntry>(nameof(PackedInflightEntry.Inflight)),
            ["packed_entry.next"] = Offset<PackedInflightEntry>(nameof(PackedInflightEntry.Next)),
            ["packed_entry.last"] = Offset<PackedInflightEntry>(nameof(PackedInflightEntry.Last)),
            ["packed_entry.num"] = Offset<PackedInflightEntry>(nameof(PackedInflightEntry.Num)),
            ["packed_entry.counter"] = Offset<PackedInflightEntry>(nameof(PackedInflightEntry.Counter)),
            ["packed_entry.id"] = DescriptorOffset(nameof(SavedDescriptor.Id)),
            ["packed_entry.flags"] = DescriptorOffset(nameof(SavedDescriptor.Flags)),
            ["packed_entry.len"] = DescriptorOffset(nameof(SavedDescriptor.LengthBytes)),
            ["packed_entry.addr"] = DescriptorOffset(nameof(SavedDescriptor.Address)),
            ["sizeof packed_entry"] = Unsafe.SizeOf<PackedInflightEntry>(),
        };
        Assert.Equal(CProgram.Run(Structures).OrderBy(pair => pair.Key), ours.OrderBy(pair => pair.Key));
    }

    [Theory]
    [InlineData(false, 1, 64)]
    [InlineData(false, 3, 64)]
    [InlineData(false, 4, 128)]
    [InlineData(false, 128, 2112)]
    [InlineData(false, 32768, 524352)]
    [InlineData(true, 1, 64)]
    [InlineData(true, 2, 128)]
    [InlineData(true, 128, 4160)]
    [InlineData(true, 32768, 1048640)]
    public void A_queue_takes_whole_cache_lines(bool packed, int queueSize, int expected)
    {
        Assert.Equal(expected, InflightLayout.BytesPerQueue(packed, queueSize));
        Assert.Equal(256L * expected, InflightLayout.TotalBytes(packed, queueSize, 256));
        Assert.Equal(255L * expected, InflightLayout.Offset(packed, queueSize, 255));
        // Where an unsigned 16-bit number of queues of the largest size would overflow 32 bits.
        Assert.Equal(65535L * expected, InflightLayout.TotalBytes(packed, queueSize, 65535));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(32769)]
    public void No_record_exists_for_an_impossible_queue_size(int queueSize) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => InflightLayout.BytesPerQueue(packed: true, queueSize));

    [Theory]
    [InlineData(0, -1, InflightDefect.TooShort)]
    [InlineData(4, 0, InflightDefect.Misaligned)]
    [InlineData(8, 0, InflightDefect.None)]
    public void A_record_needs_its_length_and_its_alignment(int misalignment, int moreBytes, InflightDefect expected)
    {
        using var split = new GuardedMemory(16 + (4 * 16), misalignment);
        ulong splitBytes = (ulong)(split.LengthBytes + moreBytes);
        Assert.Equal(expected, SplitInflightRecord.TryOpen(split.Address, splitBytes, 4, 0, out _));
        split.AssertGuardsUntouched();
        using var packed = new GuardedMemory(32 + (4 * 32), misalignment);
        using var ring = new GuardedMemory(4 * 16);
        ulong packedBytes = (ulong)(packed.LengthBytes + moreBytes);
        Assert.Equal(expected, PackedInflightRecord.TryOpen(packed.Address, packedBytes, 4, ring.Address, new PackedPosition(0, true), out _));
        packed.AssertGuardsUntouched();
    }

    private static long Offset<T>(string field) => typeof(T).GetField(field)!.GetCustomAttribute<FieldOffsetAttribute>()!.Value;

    private static long HeadOffset(string field) => Offset<PackedInflightHeader>(nameof(PackedInflightHeader.FreeHeads)) + Offset<FreeHeads>(field);

    private static long UsedOffset(string field) => Offset<PackedInflightHeader>(nameof(PackedInflightHeader.Used)) + Offset<UsedPositions>(field);

    private static long DescriptorOffset(string field) => Offset<PackedInflightEntry>(nameof(PackedInflightEntry.Descriptor)) + Offset<SavedDescriptor>(field);
}
