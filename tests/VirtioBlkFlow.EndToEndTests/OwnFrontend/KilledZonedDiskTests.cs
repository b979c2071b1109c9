using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Recovery;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>The daemon of a zoned disk is killed under load: what it acknowledged of zones and data is still so.</summary>
public class KilledZonedDiskTests
{
    private const int ZoneCount = 16;
    private const ulong ZoneSectors = 2048;
    private const int AppendBytes = 4096;
    private const int Kills = 6;

    [Fact]
    public async Task Write_pointers_survive_kills_under_load()
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage((int)(ZoneCount * ZoneSectors / 2048));
        KnownZone[] known = [.. Enumerable.Range(0, ZoneCount).Select(i => new KnownZone((ulong)i * ZoneSectors))];
        try
        {
            for (int kill = 0; kill < Kills; kill++)
            {
                await using DaemonProcess daemon = await StartAsync(folder, image);
                using FrontendSession session = FrontendSession.Open(daemon.SocketPath);
                Check(session.Drivers[0], image, known);
                ChangeStates(session.Drivers[0], known, random);
                bool isOver = false;
                Task<int> load = Task.Run(() => AppendUntil(session.Drivers[0], known, random, () => Volatile.Read(ref isOver)));
                long enough = known.Sum(zone => Volatile.Read(ref zone.AcknowledgedCount)) + 50 + (kill * 17);
                SpinWait.SpinUntil(() => load.IsCompleted || known.Sum(zone => Volatile.Read(ref zone.AcknowledgedCount)) >= enough, 20_000);
                await daemon.KillAsync();
                Volatile.Write(ref isOver, true);
                Assert.True(await load > 0, "Nothing was appended.");
                File.Delete(daemon.SocketPath);
            }

            await using DaemonProcess last = await StartAsync(folder, image);
            using (FrontendSession session = FrontendSession.Open(last.SocketPath))
            {
                Check(session.Drivers[0], image, known);
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].ZoneResetAll());
            }

            await last.KillAsync();
            File.Delete(last.SocketPath);
            await using DaemonProcess afterReset = await StartAsync(folder, image);
            using (FrontendSession session = FrontendSession.Open(afterReset.SocketPath))
            {
                Assert.All(Report(session.Drivers[0]), zone => Assert.Equal((BlkZoneState.VIRTIO_BLK_ZS_EMPTY, zone.StartSector), (zone.State, zone.WritePointerSector)));
            }

            await afterReset.StopAsync();
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"Seed {seed}: {exception.Message}", exception);
        }
    }

    private static Task<DaemonProcess> StartAsync(TestFolder folder, DiskImage image) =>
        DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { Zoned = "zone-size=1M", Cache = "writethrough" });

    private static BlkZoneDescriptor[] Report(BlkDriver driver)
    {
        const uint BufferBytes = (1 + ZoneCount) * BlkZoneDescriptor.SizeBytes;
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneReport(0, out BlkZoneDescriptor[] zones, BufferBytes));
        Assert.Equal(ZoneCount, zones.Length);
        return zones;
    }

    // One zone begins anew, another is made full; both are acknowledged, and so must be there after the kill.
    private static void ChangeStates(BlkDriver driver, KnownZone[] known, Random random)
    {
        KnownZone empty = known[random.Next(ZoneCount)];
        Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneReset(empty.StartSector));
        empty.BeginAnew();
        KnownZone full = known[random.Next(ZoneCount)];
        if (full != empty && !full.IsFull)
        {
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.ZoneFinish(full.StartSector));
            full.IsFull = true;
        }
    }

    private static void Check(BlkDriver driver, DiskImage image, KnownZone[] known)
    {
        BlkZoneDescriptor[] zones = Report(driver);
        byte[] due = new byte[AppendBytes];
        for (int i = 0; i < ZoneCount; i++)
        {
            KnownZone zone = known[i];
            Assert.Equal(zone.StartSector, zones[i].StartSector);
            bool isFull = zones[i].State == BlkZoneState.VIRTIO_BLK_ZS_FULL;
            ulong pointer = isFull ? zone.StartSector + ZoneSectors : zones[i].WritePointerSector;
            Assert.True(!zone.IsFull || isFull, $"Zone {i} was finished, and is {zones[i].State}.");
            Assert.True(pointer >= zone.End, $"Zone {i} goes up to sector {pointer}, but was written up to {zone.End}.");
            ulong most = Math.Min(zone.End + zone.UnansweredSectors, zone.StartSector + ZoneSectors);
            Assert.True(zone.IsFull || pointer <= most, $"Zone {i} goes up to sector {pointer}, and nobody wrote beyond {most}.");
            foreach ((ulong sector, ulong stamp) in zone.Written)
            {
                DiskModel.Fill(zone.StartSector, stamp, due);
                Assert.True(due.AsSpan().SequenceEqual(image.Read((long)sector * BlkRequest.SectorBytes, AppendBytes)), $"Sector {sector} of zone {i} is lost.");
            }

            zone.Settle(pointer);
        }
    }

    private static int AppendUntil(BlkDriver driver, KnownZone[] known, Random random, Func<bool> isOver)
    {
        ulong stamp = 0;
        int appended = 0;
        (KnownZone Zone, ulong Stamp)[] pending = new (KnownZone, ulong)[driver.QueueDepth];
        while (!isOver())
        {
            while (driver.NextSlot >= 0)
            {
                int slot = driver.NextSlot;
                KnownZone zone = known[random.Next(ZoneCount)];
                pending[slot] = (zone, ++stamp);
                // Where it will be is not known yet: so the bytes are those of the first sectors of the zone.
                DiskModel.Fill(zone.StartSector, stamp, driver.Data(slot)[..AppendBytes]);
                Assert.True(driver.TrySubmitZoneAppend(zone.StartSector, AppendBytes, stamp));
                zone.UnansweredSectors += AppendBytes / BlkRequest.SectorBytes;
            }

            driver.Kick();
            // The end of the daemon is not signalled here.
            if (!driver.WaitForCompletion(Deadline.In(5)))
            {
                continue;
            }

            while (driver.TryComplete(out BlkCompletion completion))
            {
                (KnownZone zone, ulong written) = pending[completion.Slot];
                zone.UnansweredSectors -= AppendBytes / BlkRequest.SectorBytes;
                if (completion.Status == BlkStatus.VIRTIO_BLK_S_OK)
                {
                    zone.Acknowledge(driver.AppendedSector(completion.Slot), written);
                    appended++;
                }
            }
        }

        return appended;
    }

    /// <summary>What was acknowledged of a zone.</summary>
    private sealed class KnownZone
    {
        public int AcknowledgedCount;

        public KnownZone(ulong startSector) => StartSector = End = startSector;

        public ulong StartSector { get; }

        public bool IsFull { get; set; }

        /// <summary>Sector after the last one that is known to be written.</summary>
        public ulong End { get; private set; }

        public ulong UnansweredSectors { get; set; }

        public List<(ulong Sector, ulong Stamp)> Written { get; } = [];

        public void Acknowledge(ulong sector, ulong stamp)
        {
            End = Math.Max(End, sector + (AppendBytes / BlkRequest.SectorBytes));
            Written.Add((sector, stamp));
            Volatile.Write(ref AcknowledgedCount, AcknowledgedCount + 1);
        }

        public void BeginAnew()
        {
            End = StartSector;
            IsFull = false;
            Written.Clear();
        }

        /// <summary>What was unanswered is decided: it is there up to the write pointer.</summary>
        public void Settle(ulong pointer)
        {
            End = pointer;
            UnansweredSectors = 0;
        }
    }
}
