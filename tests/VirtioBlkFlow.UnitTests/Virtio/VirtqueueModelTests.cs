using System.Runtime.InteropServices;
using FsCheck.Fluent;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;
using Xunit.Abstractions;

namespace VirtioBlkFlow.UnitTests.Virtio;

/// <summary>
/// A driver and a device do legal things in random order, for many laps, with chains of random shape; a model that knows nothing of rings
/// says what each must see. PACKED-01, -02, -08, -10 to -16, -18 to -22; SPLIT-12, -20, -22, -23; CORE-18.
/// </summary>
public sealed class VirtqueueModelTests(ITestOutputHelper output)
{
    private const int ChainsPerCase = 600;

    [Theory]
    [InlineData(VirtioFeatures.None)]
    [InlineData(VirtioFeatures.VIRTIO_F_IN_ORDER)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED)]
    [InlineData(VirtioFeatures.VIRTIO_F_RING_PACKED | VirtioFeatures.VIRTIO_F_IN_ORDER)]
    public void Both_sides_agree_whatever_they_do(VirtioFeatures features) =>
        SeededProperty.Check(output, 200, Prop.ForAll(Arb.From(Gen.Choose(0, int.MaxValue)), seed => new Run(seed, features).Play()));

    private sealed class Run
    {
        private readonly Random _random;
        private readonly VirtioFeatures _features;
        private readonly int _queueSize;
        private readonly VirtqueuePair _pair;
        private readonly Queue<Chain> _added = new();
        private readonly List<Chain> _inFlight = [];
        private readonly List<Chain> _available = [];
        private readonly List<Chain> _completed = [];
        private readonly Queue<Chain> _published = new();
        private ulong _nextAddress = 0x1000;
        private int _taken;
        private bool _kickIsOwed;
        private bool _callIsOwed;

        public Run(int seed, VirtioFeatures features)
        {
            _random = new Random(seed);
            _features = features | (Chance(2) ? VirtioFeatures.VIRTIO_RING_F_EVENT_IDX : 0) | (Chance(2) ? VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC : 0);
            bool packed = (features & VirtioFeatures.VIRTIO_F_RING_PACKED) != 0;
            _queueSize = packed ? _random.Next(1, 40) : 1 << _random.Next(7);
            ushort start = packed
                ? (ushort)(_random.Next(_queueSize) | (Chance(2) ? PackedRingLayout.WrapBit : 0))
                : (ushort)_random.Next(65536 - ChainsPerCase, 65536);
            _pair = new VirtqueuePair(_queueSize, _features, start);
        }

        private bool InOrder => (_features & VirtioFeatures.VIRTIO_F_IN_ORDER) != 0;

        public bool Play()
        {
            using (_pair)
            {
                int added = 0;
                while (_taken < ChainsPerCase)
                {
                    switch (_random.Next(6))
                    {
                        case 0 when added < ChainsPerCase:
                            added += Add(Math.Min(_random.Next(1, 6), ChainsPerCase - added));
                            break;
                        case 1:
                            Pop();
                            break;
                        case 2:
                            Complete();
                            break;
                        case 3:
                            Take();
                            break;
                        case 4:
                            AskForKicks();
                            break;
                        case 5:
                            AskForCalls();
                            break;
                    }
                }

                Assert.Equal(0, _pair.Device.InFlightCount);
                Assert.False(_pair.Device.HasAvailable);
                Assert.Equal(PopOutcome.Empty, _pair.Device.TryPop(out _));
                Assert.Equal(RingDefect.None, _pair.Device.Defect);
                if (_pair.Packed != null)
                {
                    Assert.Equal(_pair.Packed.Position, _pair.Device.Position);
                }

                // Both began at the same index, in a split ring too.
                Assert.Equal(_pair.Device.Position.NextAvailable, _pair.Device.Position.NextUsed);
                return true;
            }
        }

        private bool Chance(int oneIn) => _random.Next(oneIn) == 0;

        private int Add(int count)
        {
            int done = 0;
            for (; done < count; done++)
            {
                bool indirect = (_features & VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC) != 0 && Chance(2);
                DriverBuffer[] buffers = Shape(_random.Next(1, Math.Min(indirect ? PackedTestDriver.TableEntries : _queueSize, PackedTestDriver.TableEntries) + 1));
                bool fits = indirect ? _pair.Driver.TryAddIndirect(buffers, out ushort id) : _pair.Driver.TryAdd(buffers, out id);
                if (!fits)
                {
                    break;
                }

                _added.Enqueue(new Chain(id, buffers));
            }

            bool kick = _pair.Driver.Publish();
            Assert.True(kick || !_kickIsOwed || done == 0, "The device asked for a kick and gets none.");
            _kickIsOwed &= done == 0;
            return done;
        }

        private DriverBuffer[] Shape(int length)
        {
            var buffers = new DriverBuffer[length];
            int readable = _random.Next(length + 1);
            for (int i = 0; i < length; i++)
            {
                buffers[i] = new DriverBuffer(_nextAddress, (uint)_random.Next(1, 100), DeviceWritable: i >= readable);
                _nextAddress = 0x1000 + ((_nextAddress + 128) % 0x100000);
            }

            return buffers;
        }

        // One by one, or some at once.
        private unsafe void Pop()
        {
            int room = _random.Next(1, 6);
            if (Chance(2))
            {
                Span<ushort> slots = stackalloc ushort[room];
                DescriptorChain* chains = stackalloc DescriptorChain[room];
                PopOutcome outcome = _pair.Device.Pop(slots, chains, out int count);
                Assert.Equal(_added.Count < room ? PopOutcome.Empty : PopOutcome.Popped, outcome);
                Assert.Equal(Math.Min(_added.Count, room), count);
                for (int i = 0; i < count; i++)
                {
                    Assert.Equal(slots[i], chains[i].Slot);
                    Check(in chains[i]);
                }

                return;
            }

            for (; room > 0; room--)
            {
                PopOutcome outcome = _pair.Device.TryPop(out DescriptorChain popped);
                Assert.Equal(_added.Count > 0 ? PopOutcome.Popped : PopOutcome.Empty, outcome);
                if (outcome == PopOutcome.Empty)
                {
                    return;
                }

                Check(in popped);
            }
        }

        // It is the next that the driver has made available.
        private unsafe void Check(in DescriptorChain popped)
        {
            Chain chain = _added.Dequeue();
            Assert.Equal(ChainFaults.None, popped.Faults);
            Assert.Equal(chain.Buffers.Length, popped.ReadableCount + popped.WritableCount);
            for (int i = 0; i < chain.Buffers.Length; i++)
            {
                DriverBuffer buffer = chain.Buffers[i];
                Assert.Equal((nint)_pair.Memory.Host(buffer.GuestAddress, 1), (nint)popped.Pieces[i].Base);
                Assert.Equal(buffer.LengthBytes, (uint)popped.Pieces[i].LengthBytes);
                Assert.Equal(buffer.DeviceWritable, i >= popped.ReadableCount);
            }

            ushort slot = popped.Slot;
            Assert.InRange(slot, 0, _queueSize - 1);
            Assert.DoesNotContain(_inFlight, other => other.Slot == slot);
            chain.Slot = slot;
            _inFlight.Add(chain);
            _available.Add(chain);
        }

        // Some, in any order, one by one or at once; then a publish.
        private void Complete()
        {
            List<ReturnedChain>? atOnce = Chance(2) ? [] : null;
            for (int left = _random.Next(_inFlight.Count + 1); left > 0; left--)
            {
                int which = _random.Next(_inFlight.Count);
                Chain chain = _inFlight[which];
                if (chain.IsCompleted)
                {
                    continue;
                }

                chain.IsCompleted = true;
                chain.WrittenBytes = Chance(4) ? 0 : (uint)_random.Next(1, 1000);
                if (atOnce != null)
                {
                    atOnce.Add(new ReturnedChain(chain.Slot, chain.WrittenBytes, TouchedBytes: 0));
                }
                else
                {
                    _pair.Device.AddUsed(chain.Slot, chain.WrittenBytes, 0);
                }

                _completed.Add(chain);
                if (!InOrder)
                {
                    _inFlight.RemoveAt(which);
                }
            }

            _pair.Device.AddUsed(CollectionsMarshal.AsSpan(atOnce));
            List<Chain> returned = Returned();
            Assert.Equal(_inFlight.Count, _pair.Device.InFlightCount);
            bool call = _pair.Device.PublishUsed();
            returned.ForEach(_published.Enqueue);
            Assert.True(call || !_callIsOwed || returned.Count == 0, "The driver asked for a call and gets none.");
            Assert.False(call && returned.Count == 0, "A publish of nothing calls nobody.");
            _callIsOwed &= returned.Count == 0;
        }

        // What the driver may see now, in the order it must come: of completion, or with IN_ORDER of availability.
        private List<Chain> Returned()
        {
            List<Chain> returned = InOrder ? [.. _available.TakeWhile(chain => chain.IsCompleted)] : [.. _completed];
            _completed.Clear();
            if (InOrder)
            {
                _available.RemoveRange(0, returned.Count);
                _inFlight.RemoveAll(returned.Contains);
            }

            return returned;
        }

        private void Take()
        {
            _pair.Driver.SuppressCalls();
            _callIsOwed = false;
            while (_pair.Driver.TryTakeUsed(out ushort id, out uint writtenBytes))
            {
                Chain chain = _published.Dequeue();
                Assert.Equal((chain.Id, chain.WrittenBytes), (id, writtenBytes));
                _taken++;
            }

            Assert.Empty(_published);
        }

        private void AskForKicks()
        {
            bool suppress = Chance(2);
            if (suppress)
            {
                _pair.Device.SuppressKicks();
                _kickIsOwed = false;
                return;
            }

            Assert.Equal(_added.Count > 0, _pair.Device.HasAvailable);
            bool more = _pair.Device.RequestKicks();
            Assert.Equal(_added.Count > 0, more);
            _kickIsOwed = !more;
        }

        private void AskForCalls()
        {
            bool more = _pair.Driver.RequestCalls();
            Assert.Equal(_published.Count > 0, more);
            _callIsOwed = !more;
        }
    }

    private sealed class Chain(ushort id, DriverBuffer[] buffers)
    {
        public ushort Id { get; } = id;

        public DriverBuffer[] Buffers { get; } = buffers;

        public ushort Slot { get; set; }

        public uint WrittenBytes { get; set; }

        public bool IsCompleted { get; set; }
    }
}
