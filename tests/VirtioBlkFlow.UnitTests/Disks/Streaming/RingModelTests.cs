using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Streaming;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Disks.Streaming;

/// <summary>Both directions at once, in steps of any order and size, with guests that die between any two of theirs.</summary>
public sealed class RingModelTests(ITestOutputHelper output)
{
    // Small rings, so that they are full, empty and wrap around all the time.
    private const ulong InCapacity = 4096;
    private const ulong OutCapacity = 8192;
    private const int Total = 150_000;
    private const int Rounds = 8;

    [Fact]
    public void Nothing_is_lost_or_doubled_whatever_the_order_and_whenever_the_guest_dies()
    {
        int seed = TestSeed.Take(output);
        for (int round = 0; round < Rounds; round++)
        {
            Run(new Random(seed + round), $"seed {seed}, round {round}");
        }
    }

    private static void Run(Random random, string name)
    {
        using SectorRingDisk disk = SectorRingDisk.Open(new SectorRingOptions(new SectorRingLayout(InCapacity, OutCapacity)));
        byte[] toGuest = new byte[random.Next(1, Total)];
        byte[] fromGuest = new byte[random.Next(1, Total)];
        random.NextBytes(toGuest);
        random.NextBytes(fromGuest);

        int written = 0;
        bool hasEnded = false;
        var read = new List<byte>();
        bool isAtEnd = false;
        var kept = new List<byte>();
        RingGuest guest = new(disk);
        ulong consumed = 0;
        ulong produced = 0;
        bool isDone = false;
        // What the guest has in its memory only, and loses.
        byte[] pending = [];
        bool isPut = false;
        int putLength = 0;
        try
        {
            for (int step = 0; !(isAtEnd && isDone); step++)
            {
                Assert.True(step < 1_000_000, $"{name}: no progress");
                switch (random.Next(8))
                {
                    case 0 or 1 when written < toGuest.Length:
                        // Only as much as fits is written at once by this test, so that no step waits.
                        int room = (int)(InCapacity - ((ulong)written - guest.IndexAt(guest.InConsumerSector).Position));
                        int count = random.Next(0, Math.Min(room, toGuest.Length - written) + 1);
                        disk.ToGuest.Write(toGuest, written, count);
                        written += count;
                        break;
                    case 0 or 1 when !hasEnded:
                        disk.ToGuest.Dispose();
                        hasEnded = true;
                        break;
                    case 2 or 3 when !isAtEnd && (guest.IndexAt(guest.OutProducerSector) is { } there)
                        && (there.Position > (ulong)read.Count || there.State == RingState.Ended):
                        byte[] buffer = new byte[random.Next(1, 3000)];
                        int got = disk.FromGuest.Read(buffer);
                        isAtEnd = got == 0;
                        read.AddRange(buffer.AsSpan(0, got));
                        break;
                    case 4:
                        pending = guest.Peek(consumed, random.Next(1, 3000));
                        break;
                    case 5 when pending.Length > 0:
                        // What the guest does with it, and the index, happen together or not at all.
                        Assert.Equal(DiskOutcome.Done, guest.SetIndex(guest.InConsumerSector, new RingIndex(consumed + (ulong)pending.Length)));
                        consumed += (ulong)pending.Length;
                        kept.AddRange(pending);
                        pending = [];
                        break;
                    case 5:
                        RingIndex end = guest.IndexAt(guest.InProducerSector);
                        isDone = produced == (ulong)fromGuest.Length && end.State == RingState.Ended && end.Position == consumed
                            && guest.SetIndex(guest.OutProducerSector, new RingIndex(produced, RingState.Ended)) == DiskOutcome.Done;
                        break;
                    case 6 when !isPut && !isDone:
                        putLength = Math.Min(random.Next(0, guest.Room(produced) + 1), fromGuest.Length - (int)produced);
                        guest.Put(produced, fromGuest.AsSpan((int)produced, putLength));
                        isPut = true;
                        break;
                    case 6 when !isDone:
                        produced += (ulong)putLength;
                        Assert.Equal(DiskOutcome.Done, guest.SetIndex(guest.OutProducerSector, new RingIndex(produced)));
                        isPut = false;
                        break;
                    case 7 when random.Next(20) == 0:
                        guest.Dispose();
                        guest = new RingGuest(disk);
                        consumed = guest.IndexAt(guest.InConsumerSector).Position;
                        produced = guest.IndexAt(guest.OutProducerSector).Position;
                        pending = [];
                        isPut = false;
                        break;
                }
            }
        }
        finally
        {
            guest.Dispose();
        }

        Assert.True(kept.SequenceEqual(toGuest), $"{name}: the guest got {kept.Count} of {toGuest.Length} bytes, or others");
        Assert.True(read.SequenceEqual(fromGuest), $"{name}: the host got {read.Count} of {fromGuest.Length} bytes, or others");
    }

    [Fact]
    public void Whoever_waits_is_woken_by_the_other_side()
    {
        int seed = TestSeed.Take(output);
        using SectorRingDisk disk = SectorRingDisk.Open(new SectorRingOptions(new SectorRingLayout(InCapacity, OutCapacity)));
        byte[] sent = new byte[1_000_000];
        new Random(seed).NextBytes(sent);
        // Both of the host's ends wait nearly always: the rings are small, and the guest does one piece after the other.
        Task writing = Task.Run(async () =>
        {
            await disk.ToGuest.WriteAsync(sent);
            await disk.ToGuest.DisposeAsync();
        });
        Task<byte[]> reading = Task.Run(async () =>
        {
            using var read = new MemoryStream();
            await disk.FromGuest.CopyToAsync(read);
            return read.ToArray();
        });
        Eventually.Returns(() => Echo(disk), "the guest has sent back all it got");
        Eventually.Ends(writing, "all is written");
        Assert.True(Eventually.Result(reading, "all is read").AsSpan().SequenceEqual(sent));
    }

    private static void Echo(SectorRingDisk disk)
    {
        using var guest = new RingGuest(disk);
        ulong position = 0;
        while (true)
        {
            byte[] bytes = guest.Peek(position, guest.Room(position));
            if (bytes.Length == 0)
            {
                RingIndex producer = guest.IndexAt(guest.InProducerSector);
                if (producer.State == RingState.Ended && producer.Position == position)
                {
                    Assert.Equal(DiskOutcome.Done, guest.SetIndex(guest.OutProducerSector, new RingIndex(position, RingState.Ended)));
                    return;
                }

                Thread.Yield();
                continue;
            }

            guest.Put(position, bytes);
            position += (ulong)bytes.Length;
            // Both indices by one request: consumed and produced are one step.
            byte[] both = [.. guest.Sector(new RingIndex(position)), .. new byte[7 * 512], .. guest.Sector(new RingIndex(position))];
            Assert.Equal(guest.InConsumerSector + 8, guest.OutProducerSector);
            Assert.Equal(DiskOutcome.Done, guest.Write(guest.InConsumerSector, both));
        }
    }
}
