using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.ConformanceTests.Machinery;
using VirtioBlkFlow.ConformanceTests.Rig;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.OwnFrontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Virtio.Inflight;
using InflightArea = VirtioBlkFlow.Frontend.Protocol.InflightArea;

namespace VirtioBlkFlow.ConformanceTests.Hardening;

/// <summary>Records of requests in flight that no back-end has written.</summary>
public class HostileRecordTests
{
    private const int QueueSize = 16;

    private static readonly Action<CrashSnapshot>[] s_splitDamages =
    [
        record => record.SplitHeader.Version = 2,
        record => record.SplitHeader.EntryCount = QueueSize * 2,
        record => record.SplitHeader.EntryCount = 0,
        record => record.SplitHeader.UsedIndex = unchecked((ushort)(record.Split.UsedIndex - QueueSize - 1)),
        record => { record.SplitHeader.UsedIndex--; record.SplitHeader.LastBatchHead = QueueSize; },
        record => { record.SplitHeader.UsedIndex -= 2; record.SplitHeader.LastBatchHead = 3; record.SplitEntries[3].Next = 3; },
        record => record.SplitEntries[5].Inflight = 7,
        record => { record.SplitEntries[5].Inflight = 1; record.SplitEntries[5].Counter = ulong.MaxValue; },
        record => { record.SplitEntries[5] = record.SplitEntries[6] = new SplitInflightEntry { Inflight = 1, Counter = 9 }; },
    ];

    private static readonly Action<CrashSnapshot>[] s_packedDamages =
    [
        record => record.PackedHeader.Version = 2,
        record => record.PackedHeader.EntryCount = QueueSize * 2,
        record => record.PackedHeader.Used.Offset = QueueSize,
        record => record.PackedHeader.Used.OldOffset = ushort.MaxValue,
        record => record.PackedHeader.Used.Wrap = 2,
        record => record.PackedHeader.FreeHeads.Old = ushort.MaxValue,
        record => record.PackedEntries[4].Next = 4,
        record => TakeEntry0(record) = new PackedInflightEntry { Inflight = 1, Num = ushort.MaxValue },
        record => TakeEntry0(record) = new PackedInflightEntry { Inflight = 1, Num = 2, Next = ushort.MaxValue },
        record => record.PackedEntries[9].Inflight = 255,
    ];

    [Theory, Conformance("HARD-22")]
    [InlineData(false)]
    [InlineData(true)]
    public void A_record_that_contradicts_itself_is_refused_and_left_as_it_is(bool packed)
    {
        using Sound sound = new(packed);
        foreach ((int number, Action<CrashSnapshot> damage) in (packed ? s_packedDamages : s_splitDamages).Index())
        {
            using CrashSnapshot snapshot = sound.Snapshot();
            damage(snapshot);
            byte[] before = snapshot.Record.ToArray();
            Assert.True(snapshot.Resume(sound.Device, packed ? 0x8000_8000 : 0u) != 0, $"Damage {number} is not refused.");
            Assert.Equal(before, snapshot.Record.ToArray());
        }

        sound.AssertServes();
    }

    [Theory, Conformance("HARD-22")]
    [InlineData(false)]
    [InlineData(true)]
    public void A_record_of_any_bytes_leads_nowhere_but_to_a_refusal_or_requests_that_end(bool packed)
    {
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using Sound sound = new(packed);
        int started = 0;
        for (int round = 0; round < 150; round++)
        {
            using CrashSnapshot snapshot = sound.Snapshot();
            // A few bytes at first, all of them in the end; and the version is right, or nothing would be looked at.
            for (int i = 1 << (round / 15); i > 0; i--)
            {
                snapshot.Record[random.Next(snapshot.Record.Length)] = (byte)random.Next(random.Next(2) == 0 ? QueueSize : 256);
            }

            if (packed)
            {
                snapshot.PackedHeader.Version = InflightLayout.Version;
            }
            else
            {
                snapshot.SplitHeader.Version = InflightLayout.Version;
            }

            if (snapshot.Resume(sound.Device, packed ? 0x8000_8000 : 0u) == 0)
            {
                started++;
                snapshot.Stop();
            }
        }

        Assert.True(started > 0, $"None was taken, seed {seed}: this tests nothing.");
        sound.AssertServes();
    }

    // The first entry is no longer of the free list: what is said of it counts.
    private static ref PackedInflightEntry TakeEntry0(CrashSnapshot record)
    {
        record.PackedHeader.FreeHeads = new FreeHeads { Current = 1, Old = 1 };
        return ref record.PackedEntries[0];
    }

    /// <summary>A device, and a record and a ring to start from that are as they should be, with nothing in flight.</summary>
    private sealed class Sound : IDisposable
    {
        private readonly ServedDevice _maker = new();
        private readonly FrontendSession _session;
        private readonly InflightArea _area;
        private readonly SafeFileHandle _file;

        public Sound(bool packed)
        {
            FrontendOptions options = packed ? PackedBench.Options(queueCount: 1) : new FrontendOptions();
            _session = _maker.Open(options with { QueueSize = QueueSize, StartQueues = false, Driver = new BlkDriverOptions { QueueDepth = 1 } });
            (_area, SafeFileHandle? file) = _session.Frontend.GetInflightFd(1, QueueSize);
            _file = file!;
            Assert.Equal(0ul, _session.Frontend.SetInflightFd(_area, _file, needReply: true));
            _session.Negotiation.StartQueues(_session.Frontend, _session.Queues[0]);
        }

        /// <summary>Whom the damaged records are shown to.</summary>
        public ServedDevice Device { get; } = new();

        public CrashSnapshot Snapshot() => new(_session, _area, _file);

        public void AssertServes()
        {
            using FrontendSession session = Device.Open();
            session.VerifyRoundTrip(Device.Image, sector: 8);
        }

        public void Dispose()
        {
            Device.Dispose();
            _session.Dispose();
            _file.Dispose();
            _maker.Dispose();
        }
    }
}
