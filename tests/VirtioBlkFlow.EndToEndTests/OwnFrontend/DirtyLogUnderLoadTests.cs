using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>
/// Marks under load, while the log is swapped to zero all the time: when a read is used, all its pages are among what was ever taken out of
/// the log. Off means off, and both ways work while the queues run.
/// </summary>
public class DirtyLogUnderLoadTests
{
    private const int QueueCount = 2;
    private const int Mebibytes = 16;
    private const int DeadlineMs = 20_000;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task No_mark_is_lost_and_off_means_off(bool packed)
    {
        int seed = RandomSeed.Take();
        using TestFolder folder = new();
        DiskImage image = folder.CreateRandomImage(Mebibytes, seed: 1);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = QueueCount });
        FrontendOptions options = new()
        {
            QueueCount = QueueCount,
            Negotiation = new NegotiationOptions
            {
                Features = new NegotiationOptions().Features | (packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0),
            },
        };
        using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, options))
        using (DirtyLog log = DirtyLog.For(session.Memory))
        {
            MarkedPages marks = new(log);
            Reader[] readers = [.. session.Drivers.Select((driver, i) => new Reader(driver, marks, seed + i))];
            Assert.Equal(0ul, session.Frontend.SetLogBase(log.Area, log.Handle));
            for (int round = 0; round < 8; round++)
            {
                // With requests in flight, each time.
                SetLogging(session, on: true);
                await Task.WhenAll(readers.Select(reader => Task.Run(() => reader.Run(300, expectMarks: true))));
                SetLogging(session, on: false);
                log.FetchAndClear();
                await Task.WhenAll(readers.Select(reader => Task.Run(() => reader.Run(100, expectMarks: false))));
                Assert.Empty(log.FetchAndClear());
            }

            // The canary: without marks the same check fails.
            Assert.Throws<MarkMissingException>(() => readers[0].Run(100, expectMarks: true));
        }

        await daemon.StopAsync();
    }

    private static void SetLogging(FrontendSession session, bool on)
    {
        ulong features = session.Negotiation.Features | (on ? ProtocolLimits.VHOST_F_LOG_ALL : 0);
        Assert.Equal(0ul, session.Frontend.SetFeatures(features, needReply: true));
        foreach (FrontendQueue queue in session.Queues)
        {
            Assert.Equal(0ul, session.Frontend.SetVringAddr(queue.Address(on ? VringAddress.LogEnabled : 0), needReply: true));
        }
    }

    private sealed class MarkMissingException(string message) : Exception(message);

    /// <summary>All that was ever taken out of a log. Any thread may use it: what one has taken, the next one finds here.</summary>
    private sealed class MarkedPages(DirtyLog log)
    {
        private readonly Lock _lock = new();
        private readonly HashSet<ulong> _pages = [];

        public void Forget(IEnumerable<ulong> pages)
        {
            lock (_lock)
            {
                _pages.ExceptWith(pages);
            }
        }

        public bool TakeAndFind(IEnumerable<ulong> pages)
        {
            lock (_lock)
            {
                _pages.UnionWith(log.FetchAndClear());
                return _pages.IsSupersetOf(pages);
            }
        }
    }

    /// <summary>Random reads, as many in flight as the driver can have. Used by one thread at a time.</summary>
    private sealed class Reader(BlkDriver driver, MarkedPages marks, int seed)
    {
        private readonly Random _random = new(seed);
        private readonly (ulong[] Pages, bool ExpectMarks)[] _pending = new (ulong[], bool)[driver.QueueDepth];

        // Leaves requests in flight; those were submitted before the next switch, and may be served on either side of it.
        public void Run(int requests, bool expectMarks)
        {
            for (int slot = 0; slot < _pending.Length; slot++)
            {
                _pending[slot].ExpectMarks = false;
            }

            for (int completed = 0; completed < requests;)
            {
                while (driver.NextSlot >= 0)
                {
                    Submit(driver.NextSlot, expectMarks);
                }

                driver.Kick();
                Assert.True(driver.WaitForCompletion(Deadline.In(DeadlineMs)), $"{driver.InFlightCount} reads do not come back (seed {seed}).");
                while (driver.TryComplete(out BlkCompletion completion))
                {
                    Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, completion.Status);
                    (ulong[] pages, bool expected) = _pending[completion.Slot];
                    if (expected && !marks.TakeAndFind(pages))
                    {
                        throw new MarkMissingException($"A read is used, and not all of the pages {string.Join(' ', pages)} were marked (seed {seed}).");
                    }

                    completed++;
                }
            }
        }

        private void Submit(int slot, bool expectMarks)
        {
            const int MostPages = 16;
            uint lengthBytes = (uint)_random.Next(1, (MostPages * 8) + 1) * BlkRequest.SectorBytes;
            ulong[] pages = [.. DirtyLog.PagesOf(driver.DataAddress(slot), lengthBytes)];
            marks.Forget(pages);
            _pending[slot] = (pages, expectMarks);
            ulong lastSector = ((ulong)Mebibytes << 11) - (lengthBytes / BlkRequest.SectorBytes);
            Assert.True(driver.TrySubmit(BlkRequestType.VIRTIO_BLK_T_IN, (ulong)_random.NextInt64((long)lastSector), lengthBytes, tag: 0));
        }
    }
}
