using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// The two places where a store must be seen before a load, as litmus tests: both sides meet at the same moment, round after round. One
/// of the two must notice the other; if both look too early, a wake-up is lost. <see cref="WakeUpRaceTests"/> has real sleeps, and hits
/// these windows of a few nanoseconds too rarely.
/// </summary>
public sealed class StoreLoadRaceTests(ITestOutputHelper output)
{
    private const int Rounds = 300_000;

    // On a busy machine two threads seldom run at once: then there are fewer rounds.
    private const int BudgetMs = 10_000;

    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    public void Either_the_driver_kicks_or_the_device_sees_the_chain(VirtioFeatures features)
    {
        using var pair = new VirtqueuePair(256, features);
        bool kicked = false;
        bool seen = false;
        int lost = Meet(
            prepare: () =>
            {
                pair.Device.SuppressKicks();
                Assert.True(pair.Driver.TryAdd([DriverBuffer.Writable(0, 1)], out _));
            },
            first: () => kicked = pair.Driver.Publish(),
            second: () => seen = pair.Device.RequestKicks(),
            isLost: () =>
            {
                pair.Device.AddUsed(pair.Pop().Slot, 1, 0);
                pair.Device.PublishUsed();
                Assert.True(pair.Driver.TryTakeUsed(out _, out _));
                return !kicked && !seen;
            });
        Assert.Equal(0, lost);
    }

    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)]
    public void Either_the_device_calls_or_the_driver_sees_the_used_chain(VirtioFeatures features)
    {
        using var pair = new VirtqueuePair(256, features);
        bool called = false;
        bool seen = false;
        int lost = Meet(
            prepare: () =>
            {
                pair.Driver.SuppressCalls();
                pair.Offer(DriverBuffer.Writable(0, 1));
                pair.Device.AddUsed(pair.Pop().Slot, 1, 0);
            },
            first: () => called = pair.Device.PublishUsed(),
            second: () => seen = pair.Driver.RequestCalls(),
            isLost: () =>
            {
                Assert.True(pair.Driver.TryTakeUsed(out _, out _));
                return !called && !seen;
            });
        Assert.Equal(0, lost);
    }

    // Two threads spin for the number of the round, then do their step at once. Preparation and judgement happen between the rounds.
    private int Meet(Action prepare, Action first, Action second, Func<bool> isLost)
    {
        int round = 0;
        int done = 0;
        int lost = 0;
        var random = new Random(1);
        var secondThread = new Thread(() =>
        {
            for (int i = 1; i <= Rounds; i++)
            {
                while (Volatile.Read(ref round) < i)
                {
                    Thread.SpinWait(1);
                }

                if (Volatile.Read(ref round) == int.MaxValue)
                {
                    return;
                }

                second();
                Volatile.Write(ref done, i);
            }
        })
        {
            Name = "second side",
        };
        secondThread.Start();
        try
        {
            Deadline budget = Deadline.In(BudgetMs);
            int i = 1;
            for (; i <= Rounds && !budget.HasPassed; i++)
            {
                prepare();
                Volatile.Write(ref round, i);
                // The other side hears of the round some hundred cycles late; vary who is first.
                for (int wait = random.Next(64); wait > 0; wait--)
                {
                    _ = Volatile.Read(ref wait);
                }

                first();
                var spinner = default(SpinWait);
                while (Volatile.Read(ref done) < i)
                {
                    spinner.SpinOnce(sleep1Threshold: -1);
                }

                lost += isLost() ? 1 : 0;
            }

            output.WriteLine($"{i - 1} rounds, {lost} lost");
            return lost;
        }
        finally
        {
            Volatile.Write(ref round, int.MaxValue);
            secondThread.Join();
        }
    }
}
