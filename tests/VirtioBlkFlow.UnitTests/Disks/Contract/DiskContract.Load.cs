using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Contract;

/// <content>Many requests at once, with and without errors below, and the end of a queue.</content>
public abstract partial class DiskContract
{
    private const int RegionBytes = 4096;
    private const int MostInFlight = 64;

    [Theory]
    [MemberData(nameof(Engines))]
    public void Every_request_under_load_ends_once_and_as_it_should(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        using var bench = new DiskBench(disk, engine);
        var load = new Load(this, disk, bench, new Random(TestSeed.Take(output)));
        load.Run(3000);
        load.Drain();
        Assert.Equal(0, load.Failures);
        load.RequireModel();
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void After_a_drain_under_load_nothing_is_in_flight_and_the_next_queue_finds_what_was_written(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        var random = new Random(TestSeed.Take(output));
        byte[]? before = null;
        for (int round = 0; round < 4; round++)
        {
            using var bench = new DiskBench(disk, engine);
            var load = new Load(this, disk, bench, random, before);
            load.RequireModel();
            load.Run(300);
            load.Drain();
            Assert.Equal(0, load.InFlight);
            before = load.Model;
        }

        Assert.Equal(DiskOutcome.Done, disk.Flush());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Errors_below_fail_requests_and_never_pass_for_success(IoEngineKind engine)
    {
        using IDisk disk = OpenDisk();
        var random = new Random(TestSeed.Take(output));
        byte[] model;
        bool[] unknown;
        var faulty = new FaultyEngine(IoEngines.Create(engine, 64), random);
        using (var bench = new DiskBench(disk, faulty))
        {
            var load = new Load(this, disk, bench, random);
            load.Run(2000);
            load.Drain();
            Assert.True(load.Failures <= faulty.Failures + (disk.Flush() == DiskOutcome.Done ? 0 : load.Durables), "Only errors below make requests fail.");
            (model, unknown) = (load.Model, load.Unknown);
        }

        using var after = new DiskBench(disk, engine);
        new Load(this, disk, after, random, model, unknown).RequireModel();
    }

    [Fact]
    public void A_disk_and_its_queues_are_disposed_twice_without_harm()
    {
        IDisk disk = OpenDisk();
        var engine = new FakeEngine();
        IDiskQueue queue = disk.OpenQueue(engine, new NoCompletions(), 16);
        queue.Dispose();
        queue.Dispose();
        disk.Dispose();
        disk.Dispose();
    }

    private sealed class NoCompletions : IDiskCompletions
    {
        public void OnCompleted(int slot, DiskOutcome outcome) => Assert.Fail($"Slot {slot} ended without having begun.");
    }

    /// <summary>Random requests to regions of the disk that no other one works on, and what should be there afterwards.</summary>
    private sealed class Load
    {
        private readonly DiskContract _contract;
        private readonly IDisk _disk;
        private readonly DiskBench _bench;
        private readonly Random _random;
        private readonly bool[] _busy;
        private readonly Dictionary<int, Request> _requests = [];
        private readonly Stack<int> _freeSlots = new(Enumerable.Range(0, MostInFlight));
        private byte _nextValue = 1;

        private sealed record Request(DiskOperation Operation, int First, int Count, byte Value);

        public Load(DiskContract contract, IDisk disk, DiskBench bench, Random random, byte[]? model = null, bool[]? unknown = null)
        {
            _contract = contract;
            _disk = disk;
            _bench = bench;
            _random = random;
            Model = model ?? new byte[contract.AreaBytes / RegionBytes];
            Unknown = unknown ?? new bool[Model.Length];
            _busy = new bool[Model.Length];
        }

        /// <summary>What each region is filled with.</summary>
        public byte[] Model { get; }

        /// <summary>Regions that a failed request may have changed.</summary>
        public bool[] Unknown { get; }

        public int Failures { get; private set; }

        /// <summary>Requests that were to be durable, and flushes.</summary>
        public int Durables { get; private set; }

        public int InFlight => _requests.Count;

        public void Run(int requests)
        {
            for (int i = 0; i < requests;)
            {
                if (_freeSlots.Count > 0 && TryStart())
                {
                    i++;
                }
                else
                {
                    Settle(1);
                }

                if (_random.Next(16) == 0)
                {
                    _bench.Reap();
                    Settle(0);
                }
            }
        }

        public void Drain() => Settle(_requests.Count);

        public void RequireModel()
        {
            for (int first = 0; _contract.KeepsData && first < Model.Length; first += 64)
            {
                int count = Math.Min(64, Model.Length - first);
                Assert.Equal(DiskOutcome.Done, _bench.Transfer(DiskOperation.Read, (ulong)(first * RegionBytes), 0, 1, count * RegionBytes));
                for (int i = 0; i < count; i++)
                {
                    int wrong = _bench.Memory.Slice(i * RegionBytes, RegionBytes).IndexOfAnyExcept(Model[first + i]);
                    Assert.True(wrong < 0 || Unknown[first + i], $"Region {first + i} is all {Model[first + i]:x}, which byte {wrong} is not.");
                }
            }
        }

        private bool TryStart()
        {
            int first = _random.Next(Model.Length);
            int count = Math.Min(_random.Next(1, 9), Model.Length - first);
            if (_busy.AsSpan(first, count).Contains(true))
            {
                return false;
            }

            int slot = _freeSlots.Pop();
            bool durable = _random.Next(8) == 0;
            var request = new Request(Draw(), first, count, _nextValue);
            int memory = slot * 8 * RegionBytes;
            ulong offset = (ulong)(first * RegionBytes);
            Durables += durable || request.Operation == DiskOperation.Flush ? 1 : 0;
            _requests.Add(slot, request);
            switch (request.Operation)
            {
                case DiskOperation.Read:
                    _busy.AsSpan(first, count).Fill(true);
                    _bench.Memory.Slice(memory, count * RegionBytes).Fill(0xee);
                    _bench.Start(slot, request.Operation, offset, memory, count * 2, RegionBytes / 2);
                    break;
                case DiskOperation.Write:
                    _busy.AsSpan(first, count).Fill(true);
                    _nextValue = (byte)(_nextValue == 0xdd ? 1 : _nextValue + 1);
                    _bench.Memory.Slice(memory, count * RegionBytes).Fill(request.Value);
                    _bench.Start(slot, request.Operation, offset, memory, count, RegionBytes, durable);
                    break;
                case DiskOperation.Flush:
                    _bench.StartFlush(slot);
                    break;
                default:
                    _busy.AsSpan(first, count).Fill(true);
                    _bench.StartRanges(slot, request.Operation, durable, new DiskRange(offset, (ulong)(count * RegionBytes), _random.Next(2) == 0));
                    break;
            }

            return true;
        }

        private DiskOperation Draw() => _random.Next(10) switch
        {
            0 => DiskOperation.Flush,
            1 => DiskOperation.Discard,
            2 => DiskOperation.WriteZeroes,
            < 6 => DiskOperation.Read,
            _ => DiskOperation.Write,
        };

        private void Settle(int atLeast)
        {
            foreach ((int slot, DiskOutcome outcome) in _bench.Finish(atLeast))
            {
                Assert.True(_requests.Remove(slot, out Request? request), $"Slot {slot} ended once more than it began.");
                _freeSlots.Push(slot);
                if (request.Operation != DiskOperation.Flush)
                {
                    _busy.AsSpan(request.First, request.Count).Clear();
                }

                Settle(slot, request, outcome);
            }
        }

        private void Settle(int slot, Request request, DiskOutcome outcome)
        {
            bool able = request.Operation switch
            {
                DiskOperation.Discard => _disk.Properties.CanDiscard,
                DiskOperation.WriteZeroes => _disk.Properties.CanWriteZeroes,
                _ => true,
            };
            if (!able)
            {
                Assert.Equal(DiskOutcome.Unsupported, outcome);
                return;
            }

            Failures += outcome == DiskOutcome.Done ? 0 : 1;
            Assert.True(outcome is DiskOutcome.Done or DiskOutcome.Failed or DiskOutcome.NoSpace, $"{request.Operation} ended as {outcome}.");
            switch (request.Operation)
            {
                case DiskOperation.Flush:
                    break;
                case DiskOperation.Read:
                    for (int i = 0; outcome == DiskOutcome.Done && _contract.KeepsData && i < request.Count; i++)
                    {
                        int region = request.First + i;
                        int wrong = _bench.Memory.Slice(((slot * 8) + i) * RegionBytes, RegionBytes).IndexOfAnyExcept(Model[region]);
                        Assert.True(wrong < 0 || Unknown[region], $"Region {region} reads as {Model[region]:x}, which byte {wrong} is not.");
                    }

                    break;
                default:
                    Model.AsSpan(request.First, request.Count).Fill(request.Operation == DiskOperation.Write ? request.Value : (byte)0);
                    Unknown.AsSpan(request.First, request.Count).Fill(outcome != DiskOutcome.Done);
                    break;
            }
        }
    }
}
