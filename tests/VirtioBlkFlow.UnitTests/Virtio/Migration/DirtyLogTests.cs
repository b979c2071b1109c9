using System.Numerics;
using VirtioBlkFlow.Virtio.Migration;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio.Migration;

/// <summary>The bitmap of written pages (vhost-user, "Migration").</summary>
public sealed unsafe class DirtyLogTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(0, 1, 0, 0x01)]
    [InlineData(4095, 1, 0, 0x01)]
    [InlineData(4095, 2, 0, 0x03)]
    [InlineData(4096, 4096, 0, 0x02)]
    [InlineData(0x9000, 1, 1, 0x02)]
    [InlineData(0x7fff, 1, 0, 0x80)]
    [InlineData(0x10_0000, 0x8000, 32, 0xff)]
    public void A_page_is_a_bit_of_the_byte_for_its_eight(ulong guestAddress, ulong lengthBytes, int index, byte expected)
    {
        using var memory = new GuardedMemory(64);
        var log = new DirtyLog(memory.Address, 64);
        Assert.Equal(DirtyOutcome.Marked, log.Mark(guestAddress, lengthBytes));
        Assert.Equal(expected, memory.Bytes[index]);
        Assert.Equal(1, memory.Bytes.ToArray().Count(value => value != 0));
    }

    [Fact]
    public void Agrees_with_a_page_by_page_model_and_never_touches_what_is_outside()
    {
        var random = new Random(TestSeed.Take(output));
        for (int i = 0; i < 20_000; i++)
        {
            int lengthBytes = random.Next(0, 40);
            using var memory = new GuardedMemory(lengthBytes, misalignment: random.Next(8));
            random.NextBytes(memory.Bytes);
            byte[] expected = memory.Bytes.ToArray();
            var log = new DirtyLog(memory.Address, (ulong)lengthBytes);
            for (int mark = 0; mark < 4; mark++)
            {
                (ulong address, ulong length) = SomeRange(random, lengthBytes);
                Assert.Equal(MarkNaively(expected, address, length), log.Mark(address, length));
                Assert.Equal(expected, memory.Bytes.ToArray());
            }

            memory.AssertGuardsUntouched();
        }
    }

    [Theory]
    [InlineData(8UL * 4096, 1)]
    [InlineData((8UL * 4096) - 1, 2)]
    [InlineData(ulong.MaxValue, 1)]
    [InlineData(ulong.MaxValue, 2)]
    [InlineData(1, ulong.MaxValue)]
    [InlineData(2, ulong.MaxValue)]
    public void What_does_not_fit_is_counted(ulong guestAddress, ulong lengthBytes)
    {
        using var memory = new GuardedMemory(1);
        var log = new DirtyLog(memory.Address, 1);
        Assert.Equal(DirtyOutcome.OutOfRange, log.Mark(guestAddress, lengthBytes));
        Assert.Equal(1, log.OutOfRangeCount);
        memory.AssertGuardsUntouched();
    }

    [Fact]
    public void No_write_is_lost_while_the_front_end_swaps_words_to_zero()
    {
        // Words, and odd bytes at the end. Each episode marks each page twice and never again, so that one lost bit is seen.
        const int LengthBytes = 67;
        const int Pages = LengthBytes * 8;
        const int Episodes = 300;
        using var memory = new GuardedMemory(LengthBytes);
        var log = new DirtyLog(memory.Address, LengthBytes);
        var written = new int[Pages];
        var copied = new int[Pages];
        int running = 0;
        int lost = 0;
        using var start = new Barrier(3, _ => running = 2);
        // Two queues on every word: the pages of even and of odd number.
        Thread[] queues = [.. Enumerable.Range(0, 2).Select(parity => new Thread(() => MarkAll(parity)) { Name = $"queue-{parity}" })];
        Array.ForEach(queues, queue => queue.Start());
        for (int episode = 1; episode <= Episodes; episode++)
        {
            start.SignalAndWait();
            bool last;
            do
            {
                last = Volatile.Read(ref running) == 0;
                Collect();
            }
            while (!last);
            lost += copied.Count(value => value != 2 * episode);
        }

        Array.ForEach(queues, queue => queue.Join());
        Assert.Equal(0, lost);
        memory.AssertGuardsUntouched();

        void MarkAll(int parity)
        {
            for (int episode = 1; episode <= Episodes; episode++)
            {
                start.SignalAndWait();
                for (int page = parity; page < Pages; page += 2)
                {
                    // The second time the bit may still be set, and may be swapped away at that very moment.
                    for (int half = 1; half >= 0; half--)
                    {
                        written[page] = (2 * episode) - half;
                        log.Mark((ulong)page * DirtyLog.PageBytes, 1);
                    }
                }

                Interlocked.Decrement(ref running);
            }
        }

        // As a front-end does: takes the bits away, then copies their pages.
        void Collect()
        {
            var bytes = (byte*)memory.Address;
            for (int offset = 0; offset < LengthBytes; offset += 8)
            {
                ulong bits = 0;
                if (offset + 8 <= LengthBytes)
                {
                    bits = Interlocked.Exchange(ref *(ulong*)(bytes + offset), 0);
                }
                else
                {
                    for (int i = 0; offset + i < LengthBytes; i++)
                    {
                        bits |= (ulong)Interlocked.Exchange(ref bytes[offset + i], (byte)0) << (8 * i);
                    }
                }

                for (; bits != 0; bits &= bits - 1)
                {
                    int page = (offset * 8) + BitOperations.TrailingZeroCount(bits);
                    copied[page] = Volatile.Read(ref written[page]);
                }
            }
        }
    }

    private static (ulong Address, ulong Length) SomeRange(Random random, int logBytes) => random.Next(8) switch
    {
        0 => ((ulong)random.NextInt64(), (ulong)random.NextInt64()),
        1 => (ulong.MaxValue - (ulong)random.Next(8192), (ulong)random.Next(16384)),
        _ => ((ulong)random.Next((logBytes * 8 * 4096) + 4096), (ulong)random.Next(random.Next(2) == 0 ? 8192 : 200 * 4096)),
    };

    private static DirtyOutcome MarkNaively(byte[] log, ulong address, ulong length)
    {
        UInt128 end = (UInt128)address + length;
        for (int page = 0; page < log.Length * 8; page++)
        {
            UInt128 start = (UInt128)page * 4096;
            if (length > 0 && start < end && start + 4096 > address)
            {
                log[page / 8] |= (byte)(1 << (page % 8));
            }
        }

        return end > (UInt128)log.Length * 8 * 4096 && length > 0 ? DirtyOutcome.OutOfRange : DirtyOutcome.Marked;
    }
}
