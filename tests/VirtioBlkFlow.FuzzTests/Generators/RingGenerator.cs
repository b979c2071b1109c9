using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// Rings and chains with faults in them, and such that change while the device reads them. What a case must come to is not known, only
/// what it may: everything comes back or the ring is given up, and nobody else notices.
/// </summary>
internal sealed class RingGenerator : IGenerator
{
    private const int Cases = 300;
    private const int MostChains = 4;
    private const int MostDataPieces = 6;
    private const DescriptorFlags Write = DescriptorFlags.VIRTQ_DESC_F_WRITE;

    private static readonly uint[] s_lengths = [0, 1, 15, 17, 511, 513, 4095, int.MaxValue, 0x8000_0000, uint.MaxValue];

    public string Name => "rings";

    public IReadOnlyList<DiskKind> Disks { get; } = [DiskKind.Plain, DiskKind.Plain, DiskKind.ReadOnly, DiskKind.Zoned];

    public void RunRound(FuzzTarget target, FuzzRandom random, Action<int> beginCase)
    {
        using GuestArea area = new(random);
        using FuzzSession session = FuzzSession.Open(target, area, random);
        using HostileQueue queue = HostileQueue.Create(area, session.Negotiation.RingFeatures, faulty: true);
        using RacingWriter racing = new();
        queue.Start(session.Frontend, random);
        for (int i = 0; i < Cases; i++)
        {
            beginCase(i);
            RingEnd end = new Case(area, queue, random).Run(session.Frontend, racing);
            session.ProveLife();
            if (end != RingEnd.AllBack)
            {
                // In flight requests may still come back; after this, nothing.
                queue.Stop(session.Frontend, static (_, _) => { });
            }

            area.EndCase();
            target.Image.Allow(DiskImage.PlaygroundStart, DiskImage.PlaygroundEnd - DiskImage.PlaygroundStart);
            target.Image.EndCase();
            if (end != RingEnd.AllBack)
            {
                queue.RenewDescriptors();
                queue.Start(session.Frontend, random);
            }
        }

        queue.Stop(session.Frontend, static (_, _) => { });
    }

    private sealed class Case(GuestArea area, HostileQueue queue, FuzzRandom random)
    {
        private readonly List<ulong> _places = [];
        private readonly List<ulong> _headers = [];
        private readonly List<ushort> _heads = [];
        private readonly List<Face> _faces = [];
        private readonly HashSet<ulong> _racedDescriptors = [];
        private int _surplus;
        private bool _mustGiveUp;

        public RingEnd Run(VhostUserFrontend frontend, RacingWriter racing)
        {
            queue.BeginCase(random);
            queue.FreeAllDescriptors();
            int chains = random.Between(1, MostChains);
            for (int i = 0; i < chains; i++)
            {
                PlaceChain();
            }

            if (_places.Count > 0 && random.OneIn(3))
            {
                for (int faults = random.Between(1, 3); faults > 0; faults--)
                {
                    ulong place = _places[random.Below(_places.Count)];
                    queue.Write(place, Twisted(queue.Read(place)));
                }
            }

            List<ulong> entries = [.. _heads.Select(queue.MakeAvailable).OfType<ulong>()];
            bool hasEntries = queue is SplitHostileQueue;
            if (hasEntries && random.OneIn(40))
            {
                // A head beyond the table, or one that is in flight already.
                entries.Add(queue.MakeAvailable(random.OneIn(2) || _heads.Count == 0 ? (ushort)(queue.Size + random.Below(3)) : _heads[0])!.Value);
            }

            bool races = random.OneIn(2);
            if (races)
            {
                AddFaces(entries);
            }

            if (hasEntries && random.OneIn(40))
            {
                // Too far ahead, or behind, which is the same.
                _surplus = queue.Size - queue.OutstandingCount + random.Between(1, 0x7fff);
                _mustGiveUp = true;
            }

            if (races)
            {
                racing.Begin([.. _faces]);
            }

            try
            {
                queue.Publish(_surplus);
                return queue.WaitForAnyEnd(frontend, _mustGiveUp);
            }
            finally
            {
                racing.End();
            }
        }

        private void PlaceChain()
        {
            ulong header = Header();
            List<Descriptor> chain = [new Descriptor { Address = header, LengthBytes = BlkRequest.HeaderBytes }];
            bool deviceWrites = random.OneIn(2);
            for (int pieces = random.Below(MostDataPieces); pieces > 0; pieces--)
            {
                int lengthBytes = random.OneIn(3) ? random.Between(1, 2048) : 512;
                chain.Add(new Descriptor { Address = queue.TakeData(lengthBytes), LengthBytes = (uint)lengthBytes, Flags = deviceWrites ? Write : 0 });
            }

            chain.Add(new Descriptor { Address = queue.TakeData(1), LengthBytes = 1, Flags = Write });
            int direct = random.OneIn(2) ? chain.Count : queue.CanMix || random.OneIn(20) ? random.Below(2) : 0;
            List<Descriptor> main = chain[..direct];
            if (direct < chain.Count)
            {
                main.Add(queue.PlaceTable([.. chain[direct..]], _places));
            }

            if (queue.TryPlaceChain([.. main], _places, out ushort head))
            {
                _heads.Add(head);
            }
        }

        // Aligned, so that it can be rewritten in whole words.
        private ulong Header()
        {
            ulong address = (queue.TakeData(BlkRequest.HeaderBytes + 7) + 7) & ~7ul;
            Span<byte> header = stackalloc byte[BlkRequest.HeaderBytes];
            MemoryMarshal.Write(header, AnyType());
            MemoryMarshal.Write(header[8..], AnySector());
            area.Write(address, header);
            _headers.Add(address);
            return address;
        }

        // With something in the reserved word: taken for a segment, a header then names a sector that no disk has.
        private ulong AnyType() => random.Pick<ulong>(0, 0, 0, 1, 1, 1, 4, 8, 11, 13, 14, 15, 16, 18, 24, 99) | 1ul << 63 | random.Next64() << 32;

        // All that the chains of a case can write from there stays within the playground: 4 chains, 5 pieces of 2 KiB.
        private ulong AnySector() => random.OneIn(6) ? ulong.MaxValue - (ulong)random.Below(3) : (ulong)random.Between(DiskImage.PlaygroundStart, DiskImage.PlaygroundStart + 200);

        private Descriptor Twisted(Descriptor descriptor)
        {
            switch (random.Below(9))
            {
                case 0:
                    descriptor.Flags |= DescriptorFlags.VIRTQ_DESC_F_NEXT;
                    descriptor.Next = (ushort)random.Below(queue.Size + 2);
                    break;
                case 1:
                    descriptor.Flags ^= DescriptorFlags.VIRTQ_DESC_F_NEXT;
                    break;
                case 2:
                    descriptor.Flags ^= Write;
                    break;
                case 3:
                    descriptor.Flags ^= DescriptorFlags.VIRTQ_DESC_F_INDIRECT;
                    break;
                case 4:
                    descriptor.Flags = (DescriptorFlags)random.Next64();
                    break;
                case 5 or 6:
                    descriptor.LengthBytes = random.Pick(s_lengths);
                    break;
                default:
                    descriptor.Address = random.Below(4) switch
                    {
                        0 => GuestArea.End - (ulong)random.Below(20),
                        1 => GuestArea.Island + (ulong)random.Between(-8, 800),
                        2 => ulong.MaxValue - (ulong)random.Below(600),
                        _ => random.NearAnEdge() | 0x1_0000_0000_0000,
                    };
                    break;
            }

            return descriptor;
        }

        private void AddFaces(List<ulong> entries)
        {
            for (int i = random.Between(1, 4); i > 0; i--)
            {
                switch (random.Below(8))
                {
                    case 0 when _headers.Count > 0:
                        ulong header = _headers[random.Below(_headers.Count)];
                        AddWord(header, AnyType());
                        break;
                    case 1 when _headers.Count > 0:
                        AddWord(_headers[random.Below(_headers.Count)] + 8, AnySector());
                        break;
                    case 2 when entries.Count > 0 && _heads.Count > 0:
                        ushort other = _heads[random.Below(_heads.Count)];
                        queue.Claim(other);
                        ulong entry = entries[random.Below(entries.Count)];
                        Add(entry, ReadShort(entry), other, isShort: true);
                        break;
                    case > 2 when _places.Count > 0:
                        AddDescriptor(_places[random.Below(_places.Count)]);
                        break;
                }
            }
        }

        private void AddDescriptor(ulong place)
        {
            // With a third face the device could see words of the second and the third mixed, which nobody allowed.
            if (!_racedDescriptors.Add(place))
            {
                return;
            }

            Descriptor first = queue.Read(place);
            Descriptor second = Twisted(first);
            // The device may see the words of both mixed.
            queue.AllowWhat(second);
            queue.AllowWhat(first with { Flags = second.Flags, LengthBytes = second.LengthBytes });
            queue.AllowWhat(second with { Flags = first.Flags, LengthBytes = first.LengthBytes });
            (ulong firstWord, ulong secondWord) = queue.Encode(place, second);
            AddWord(place, firstWord);
            if (!queue.IsHeld(place))
            {
                AddWord(place + 8, secondWord);
            }
        }

        private void AddWord(ulong place, ulong second)
        {
            Span<byte> first = stackalloc byte[sizeof(ulong)];
            area.Read(place, first);
            Add(place, MemoryMarshal.Read<ulong>(first), second, isShort: false);
        }

        private ushort ReadShort(ulong place)
        {
            Span<byte> bytes = stackalloc byte[sizeof(ushort)];
            area.Read(place, bytes);
            return MemoryMarshal.Read<ushort>(bytes);
        }

        private unsafe void Add(ulong place, ulong first, ulong second, bool isShort)
        {
            area.Allow(place, isShort ? 2u : 8u);
            _faces.Add(new Face((nint)area.Host(place), first, second, isShort));
        }
    }
}
