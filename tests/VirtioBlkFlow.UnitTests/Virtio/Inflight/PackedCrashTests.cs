using VirtioBlkFlow.Virtio.Inflight;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio.Inflight;

/// <summary>A packed virtqueue's record through crashes after every kind of store, while it is opened too.</summary>
public sealed class PackedCrashTests(ITestOutputHelper output)
{
    private const int Lives = 600;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(7)]
    [InlineData(16)]
    [InlineData(33)]
    [InlineData(64)]
    public void No_request_is_lost_or_served_twice_wherever_the_process_ends(int queueSize)
    {
        int seed = TestSeed.Take(output);
        // The model of a large ring is slow, and its lives are long anyway.
        int runs = queueSize > 32 ? 2 : 8;
        for (int run = 0; run < runs; run++)
        {
            var random = new Random(seed + run);
            var start = new PackedPosition((ushort)random.Next(queueSize), random.Next(2) == 0);
            using var world = new PackedWorld(queueSize, start, random);
            for (int life = 0; life < Lives; life++)
            {
                // Short lives end in the middle of an opening or a first batch, long ones leave large batches.
                int longest = random.Next(2) == 0 ? 12 : 150;
                world.Live(new CrashClock(random.Next(1, longest)), steps: 300);
            }

            world.Finish();
            Assert.True(world.Completed > Lives, $"Only {world.Completed} requests in {Lives} lives: this tests nothing.");
        }
    }
}
