using System.Runtime.Intrinsics;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// A hostile driver rewrites a descriptor while the device reads it. Whatever the device took must be one of the two
/// descriptors that were ever there, whole: nothing is read twice, nothing is validated on one value and used with another.
/// </summary>
public sealed unsafe class DescriptorRaceTests(ITestOutputHelper output)
{
    private const int AtLeastPops = 1_000_000;
    private const int AtLeastOfEach = 100;
    private const int BudgetMs = 5_000;
    private const int DeadlineMs = 20_000;

    [Fact]
    public void A_descriptor_flipped_between_readable_and_writable_is_taken_as_one_of_them()
    {
        using var pair = new RingPair(4);
        ulong small = pair.Allocate(4096);
        ulong large = pair.Allocate(65536);
        Race(
            pair,
            new Descriptor { Address = small, LengthBytes = 512, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE },
            new Descriptor { Address = large, LengthBytes = 65536, Flags = DescriptorFlags.None },
            (chain, outcome) =>
            {
                Assert.Equal(PopOutcome.Popped, outcome);
                bool writable = chain.WritableCount == 1;
                Assert.Equal(ChainFaults.None, chain.Faults);
                Assert.Equal(1, chain.ReadableCount + chain.WritableCount);
                Assert.Equal((nint)pair.Memory.Host(writable ? small : large, 1), (nint)chain.Pieces->Base);
                Assert.Equal(writable ? 512u : 65536u, (uint)chain.Pieces->LengthBytes);
                Assert.Equal(writable ? (0u, 512u) : (65536u, 0u), (chain.ReadableBytes, chain.WritableBytes));
                return writable;
            });
    }

    [Fact]
    public void A_descriptor_flipped_between_mapped_and_unmapped_is_either_served_or_faulty()
    {
        using var pair = new RingPair(4);
        ulong good = pair.Allocate(4096);
        Race(
            pair,
            new Descriptor { Address = good, LengthBytes = 512, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE },
            new Descriptor { Address = 1UL << 40, LengthBytes = uint.MaxValue, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE },
            (chain, outcome) =>
            {
                Assert.Equal(PopOutcome.Popped, outcome);
                bool mapped = chain.Faults == ChainFaults.None;
                Assert.Equal(mapped ? 1 : 0, chain.WritableCount);
                Assert.Equal(mapped, chain.LastWritableIsMapped);
                Assert.Equal(mapped ? 512u : uint.MaxValue, chain.WritableBytes);
                if (mapped)
                {
                    Assert.Equal((nint)pair.Memory.Host(good, 1), (nint)chain.Pieces->Base);
                    Assert.Equal((nuint)512, chain.Pieces->LengthBytes);
                }

                return mapped;
            });
    }

    [Fact]
    public void A_descriptor_flipped_between_last_and_a_link_out_of_range_is_either_served_or_breaks_the_ring()
    {
        using var pair = new RingPair(4);
        ulong good = pair.Allocate(4096);
        Race(
            pair,
            new Descriptor { Address = good, LengthBytes = 512, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE, Next = 1 },
            new Descriptor { Address = good, LengthBytes = 1, Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT, Next = 0xffff },
            (chain, outcome) =>
            {
                if (outcome == PopOutcome.Broken)
                {
                    Assert.Equal(RingDefect.NextOutOfRange, pair.Device.Defect);
                    return false;
                }

                Assert.Equal((1, 0, 512u), (chain.WritableCount, chain.ReadableCount, chain.WritableBytes));
                return true;
            });
    }

    [Fact]
    public void The_length_of_an_indirect_table_flipped_under_the_walk_never_leads_beyond_it()
    {
        using var pair = new RingPair(4, VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC);
        ulong good = pair.Allocate(4096);
        // Two entries, the second lies in memory and outside the table when its length is 16.
        ulong table = pair.Allocate(32);
        pair.WriteTable(
            table,
            new Descriptor { Address = good, LengthBytes = 7, Flags = DescriptorFlags.VIRTQ_DESC_F_NEXT, Next = 1 },
            new Descriptor { Address = good, LengthBytes = 512, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE });
        Race(
            pair,
            new Descriptor { Address = table, LengthBytes = 32, Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT },
            new Descriptor { Address = table, LengthBytes = 16, Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT },
            (chain, outcome) =>
            {
                if (outcome == PopOutcome.Broken)
                {
                    Assert.Equal(RingDefect.ChainLoops, pair.Device.Defect);
                    return false;
                }

                Assert.Equal((1, 1, 7u, 512u), (chain.ReadableCount, chain.WritableCount, chain.ReadableBytes, chain.WritableBytes));
                return true;
            });
    }

    [Fact]
    public void A_header_rewritten_after_the_pop_changes_nothing_that_was_parsed()
    {
        using var pair = new RingPair(4);
        ulong header = pair.Allocate(16);
        ulong status = pair.Allocate(1);
        pair.Write(header, [1, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0]);
        pair.Offer(DriverBuffer.Readable(header, 16), DriverBuffer.Writable(status, 1));
        Assert.True(BlkRequest.TryParse(pair.Pop(), out BlkRequest request, out _));
        pair.Memory.Span(header, 16).Fill(0xff);
        Assert.Equal((BlkRequestType.VIRTIO_BLK_T_OUT, 42UL), (request.Type, request.Sector));
    }

    // Flips descriptor 0 between two values with 16-byte stores, which processors with AVX do as a whole, and pops it again and again.
    private void Race(RingPair pair, Descriptor first, Descriptor second, Func<DescriptorChain, PopOutcome, bool> checkIsFirst)
    {
        bool stop = false;
        nint place = pair.Driver.HostAddresses.DescriptorArea;
        Vector128<ulong> firstWords = Words(first);
        Vector128<ulong> secondWords = Words(second);
        firstWords.Store((ulong*)place);
        // No pause in it: two reads of one descriptor are a nanosecond apart, and the line must be lost right between them.
        var writer = new Thread(() =>
        {
            while (!Volatile.Read(ref stop))
            {
                firstWords.Store((ulong*)place);
                secondWords.Store((ulong*)place);
            }
        })
        {
            Name = "hostile driver",
        };
        writer.Start();
        int firsts = 0;
        int seconds = 0;
        try
        {
            Deadline deadline = Deadline.In(DeadlineMs);
            Deadline budget = Deadline.In(BudgetMs);
            while ((firsts + seconds < AtLeastPops && !budget.HasPassed) || firsts < AtLeastOfEach || seconds < AtLeastOfEach)
            {
                Assert.False(deadline.HasPassed, $"Only {firsts} and {seconds} of the two values were seen.");
                pair.OfferRaw((ushort)0);
                PopOutcome outcome = pair.Device.TryPop(out DescriptorChain chain);
                if (checkIsFirst(chain, outcome))
                {
                    firsts++;
                }
                else
                {
                    seconds++;
                }

                if (outcome == PopOutcome.Broken)
                {
                    pair.RestartDevice(pair.Driver.Raw.AvailableIndex);
                }
                else
                {
                    pair.Device.AddUsed(chain.Slot, 0, 0);
                    pair.Device.PublishUsed();
                }
            }
        }
        finally
        {
            Volatile.Write(ref stop, true);
            writer.Join();
        }

        output.WriteLine($"{firsts} and {seconds} of the two values were seen.");
    }

    private static Vector128<ulong> Words(Descriptor descriptor) =>
        Vector128.Create(descriptor.Address, descriptor.LengthBytes | ((ulong)descriptor.Flags << 32) | ((ulong)descriptor.Next << 48));
}
