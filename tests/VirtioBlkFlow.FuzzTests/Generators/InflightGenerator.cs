using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Inflight;
using VirtioBlkFlow.Virtio.Ring;
using InflightArea = VirtioBlkFlow.Frontend.Protocol.InflightArea;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// Records of requests in flight, handed to a device that follows one which was killed: memory and record are those of a moment when the first
/// device stood still. As they were, every request comes back once more and no other does; changed, they are refused or served.
/// </summary>
internal sealed class InflightGenerator : IGenerator
{
    private const int Cases = 30;
    private const int FileBytes = 0x2_0000;

    public string Name => "inflight";

    public IReadOnlyList<DiskKind> Disks { get; } = [DiskKind.Held];

    public void RunRound(FuzzTarget target, FuzzRandom random, Action<int> beginCase)
    {
        using GuestArea area = new(random);
        using SharedRegion file = new(new SharedRegionOptions(0, FileBytes));
        for (int i = 0; i < Cases; i++)
        {
            beginCase(i);
            new Case(target, area, file, random).Run();
            FuzzSession.ProveLife(target);
        }
    }

    private sealed class Case(FuzzTarget target, GuestArea area, SharedRegion file, FuzzRandom random)
    {
        private const int MostRequests = 8;

        private readonly HeldDisk _disk = target.Held ?? throw new InvalidOperationException("This disk cannot be held.");
        private readonly Dictionary<ushort, HeldRequest> _requests = [];
        private readonly NegotiationOptions _options = new()
        {
            Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC
                | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)
                | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_F_RING_PACKED)
                | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_F_IN_ORDER),
        };

        private HostileQueue _queue = null!;
        private InflightArea _place;

        private unsafe Span<byte> File => new(file.Host, FileBytes);

        private Span<byte> Records => File.Slice((int)_place.Offset, (int)_place.LengthBytes);

        // Queue 0's.
        private Span<byte> Record => Records[..InflightLayout.BytesPerQueue(_queue is PackedHostileQueue, _place.QueueSize)];

        public void Run()
        {
            AreaSnapshot memory;
            byte[] records;
            bool inOrder;
            using (FuzzSession first = FuzzSession.OpenWithoutHonestQueue(target, area, _options))
            {
                VirtioFeatures features = first.Negotiation.RingFeatures;
                inOrder = features.HasFlag(VirtioFeatures.VIRTIO_F_IN_ORDER);
                _queue = HostileQueue.Create(area, features);
                _queue.Prepare(random);
                MakePlace(first.Frontend);
                Require(first.Frontend.SetInflightFd(_place, file.Handle, needReply: true) == 0, "A valid SET_INFLIGHT_FD is refused.");
                _queue.BeginCase(random);
                _queue.FreeAllDescriptors();
                Require(_queue.TryAttach(first.Frontend, _queue.Base), "A queue with a fresh record is refused.");
                RunUntilFrozen(inOrder);
                memory = area.TakeSnapshot();
                records = File.ToArray();
                _disk.Thaw();
                if (random.OneIn(2))
                {
                    first.Frontend.GetVringBase(HostileQueue.Index);
                }
            }

            // Connected when the first one's device is gone.
            using (_queue)
            using (FuzzSession second = FuzzSession.OpenWithoutHonestQueue(target, area, _options))
            {
                _queue.RenewDescriptors();
                area.Restore(memory);
                records.CopyTo(File);
                HandOver(second.Frontend);
            }

            area.EndCase();
            target.Image.Allow(DiskImage.PlaygroundStart, DiskImage.PlaygroundEnd - DiskImage.PlaygroundStart);
            target.Image.EndCase();
        }

        private void MakePlace(VhostUserFrontend frontend)
        {
            (InflightArea place, SafeFileHandle? handle) =
                frontend.GetInflightFd((ushort)random.Between(1, FuzzTarget.QueueCount), (ushort)(random.OneIn(2) ? _queue.Size : _queue.Size + random.Below(200)));
            using (handle)
            {
                Require(handle is not null && place.LengthBytes > 0, "A valid GET_INFLIGHT_FD is refused.");
            }

            // In a file of ours, so that writes beside it are seen.
            _place = place with { Offset = (ulong)(64 * random.Below(100)) };
            random.Fill(File);
            Records.Clear();
        }

        // Some requests come back, some are kept, and the last one stops everything.
        private void RunUntilFrozen(bool inOrder)
        {
            bool[] keep = new bool[random.Below(Math.Min(MostRequests, _queue.Size))];
            for (int i = 0; i < keep.Length; i++)
            {
                keep[i] = random.OneIn(2);
                MakeAvailable(i);
            }

            _disk.Plan(keep);
            _queue.Publish();
            int firstKept = Array.IndexOf(keep, true);
            _queue.WaitUntilLeft(firstKept < 0 ? 0 : inOrder ? keep.Length - firstKept : keep.Count(isKept => isKept), Verify);
            area.VerifyNow();
            MakeAvailable(keep.Length);
            _queue.Publish();
            Require(_disk.WaitUntilFrozen(FuzzSession.DeadlineMs), "The last request does not reach the disk.", FindingKind.Hang);
        }

        private void MakeAvailable(int number)
        {
            HeldRequest request = new(area, _queue, random, DiskImage.PlaygroundStart + number);
            List<ulong> places = [];
            Require(_queue.TryPlaceChain([_queue.PlaceTable(request.Chain, places)], places, out ushort head), "The ring has no room.", FindingKind.Unexpected);
            _queue.MakeAvailable(head);
            // A buffer that came back may lend its id to another.
            _requests[head] = request;
        }

        private void HandOver(VhostUserFrontend frontend)
        {
            InflightArea place = _place;
            int kind = random.Below(8);
            switch (kind)
            {
                case < 3:
                    break;
                case 3 or 4:
                    MutateFields();
                    break;
                case 5:
                    random.Fill(Record);
                    break;
                case 6:
                    // As if the record had been lost.
                    Records.Clear();
                    break;
                default:
                    place = Wrong(place);
                    break;
            }

            bool isIntact = kind < 3;
            if (!isIntact && _queue is PackedHostileQueue)
            {
                // A packed record holds addresses.
                area.AllowRegions();
            }

            byte[] before = File.ToArray();
            area.Publish();
            bool isTaken = frontend.SetInflightFd(place, file.Handle, needReply: true) == 0;
            bool isServed = _queue.TryAttach(frontend, _queue.BaseAfterCrash);
            if (isIntact)
            {
                Require(isTaken && isServed, "A record that a device has left is refused.");
                _queue.WaitUntilLeft(0, Verify);
                Require(frontend.SetInflightFd(place, file.Handle, needReply: true) != 0, "The record is replaced under a queue that runs.");
                frontend.GetVringBase(HostileQueue.Index);
            }
            else
            {
                // Each stop waits for what is in flight, and each start takes up the record again.
                for (int i = 0; i < 2; i++)
                {
                    frontend.GetVringBase(HostileQueue.Index);
                    _queue.TryGoOn(frontend);
                }

                frontend.GetVringBase(HostileQueue.Index);
            }

            RequireUntouched(before, place, isTaken);
        }

        private void MutateFields()
        {
            for (int i = random.Between(1, 4); i > 0; i--)
            {
                int width = random.Pick(1, 2, 2, 8);
                // Often in the header or the first entries, which are the ones that mean something.
                Span<byte> part = Record[..(random.OneIn(2) ? Math.Min(Record.Length, 128) : Record.Length)];
                ulong value = random.OneIn(2) ? random.NearAnEdge() : (ulong)random.Below(_queue.Size + 2);
                MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value))[..width].CopyTo(part[(random.Below(part.Length / width) * width)..]);
            }
        }

        private InflightArea Wrong(InflightArea place) => random.Below(5) switch
        {
            0 => place with { LengthBytes = random.OneIn(2) ? (ulong)random.Below((int)place.LengthBytes) : random.NearAnEdge() },
            1 => place with { Offset = random.OneIn(2) ? place.Offset + (ulong)random.Between(1, 63) : random.NearAnEdge() },
            2 => place with { QueueCount = (ushort)random.Pick(0, FuzzTarget.QueueCount + 1, ushort.MaxValue, random.Below(FuzzTarget.QueueCount)) },
            3 => place with { QueueSize = (ushort)random.Pick(0, 1, _queue.Size - 1, 32768, 32769, ushort.MaxValue) },
            _ => new InflightArea(random.NearAnEdge(), random.NearAnEdge(), (ushort)random.Next64(), (ushort)random.Next64()),
        };

        // Outside of what was named, the file is the front-end's.
        private void RequireUntouched(byte[] before, InflightArea place, bool isTaken)
        {
            int start = isTaken ? (int)place.Offset : 0;
            int end = isTaken ? start + (int)place.LengthBytes : 0;
            Require(
                File[..start].SequenceEqual(before.AsSpan(0, start)) && File[end..].SequenceEqual(before.AsSpan(end)),
                "The record's file is written beside the record.", FindingKind.MemoryTouched);
        }

        private void Verify(ushort head, uint lengthBytes) => _requests[head].Verify(target.Image, area);

        private static void Require(bool holds, string otherwise, FindingKind kind = FindingKind.WrongAnswer)
        {
            if (!holds)
            {
                throw new FindingException(kind, otherwise);
            }
        }
    }

    /// <summary>A read or a write of one sector that no other request touches.</summary>
    private sealed class HeldRequest
    {
        private const byte NotWritten = 0xee;

        private readonly int _sector;
        private readonly bool _isWrite;
        private readonly ulong _data;
        private readonly ulong _status;
        private readonly byte[] _written = new byte[BlkRequest.SectorBytes];

        public HeldRequest(GuestArea area, HostileQueue queue, FuzzRandom random, int sector)
        {
            _sector = sector;
            _isWrite = random.OneIn(2);
            random.Fill(_written);
            Span<byte> header = stackalloc byte[BlkRequest.HeaderBytes];
            header.Clear();
            MemoryMarshal.Write(header, (uint)(_isWrite ? BlkRequestType.VIRTIO_BLK_T_OUT : BlkRequestType.VIRTIO_BLK_T_IN));
            MemoryMarshal.Write(header[8..], (ulong)sector);
            ulong headerPlace = queue.TakeData(header.Length);
            _data = queue.TakeData(BlkRequest.SectorBytes);
            _status = queue.TakeData(1);
            area.Write(headerPlace, header);
            area.Write(_data, _written);
            area.Write(_status, [NotWritten]);
            DescriptorFlags write = DescriptorFlags.VIRTQ_DESC_F_WRITE;
            Chain =
            [
                new Descriptor { Address = headerPlace, LengthBytes = BlkRequest.HeaderBytes },
                new Descriptor { Address = _data, LengthBytes = BlkRequest.SectorBytes, Flags = _isWrite ? DescriptorFlags.None : write },
                new Descriptor { Address = _status, LengthBytes = 1, Flags = write },
            ];
        }

        public Descriptor[] Chain { get; }

        public void Verify(DiskImage image, GuestArea area)
        {
            byte[] status = new byte[1];
            byte[] data = new byte[BlkRequest.SectorBytes];
            area.Read(_status, status);
            area.Read(_data, data);
            bool isRight = status[0] == 0
                && (_isWrite ? image.Current(_sector, data.Length).SequenceEqual(_written) : image.Expected(_sector, data.Length).SequenceEqual(data));
            if (!isRight)
            {
                throw new FindingException(FindingKind.WrongAnswer, $"A {(_isWrite ? "write" : "read")} of sector {_sector} ends with status {status[0]}, or wrong.");
            }
        }
    }
}
