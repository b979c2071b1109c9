using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>A hostile split ring.</summary>
internal sealed unsafe class SplitHostileQueue(GuestArea area, bool inOrder) : HostileQueue(area)
{
    private readonly int[] _claims = new int[MaxSize];
    private readonly Queue<ushort> _order = new();
    private RawSplitRing _raw = null!;
    private ushort _available;
    private ushort _used;
    private int _nextDescriptor;

    public override int OutstandingCount => (ushort)(_available - _used);

    public override uint Base => _used;

    public override uint BaseAfterCrash => _used;

    public override bool CanMix => true;

    public override bool TryPlaceChain(ReadOnlySpan<Descriptor> chain, List<ulong> places, out ushort head)
    {
        head = (ushort)_nextDescriptor;
        if (chain.Length > FreeDescriptors)
        {
            return false;
        }

        FreeDescriptors -= chain.Length;
        for (int i = 0; i < chain.Length; i++)
        {
            int index = _nextDescriptor;
            _nextDescriptor = (_nextDescriptor + 1) % Size;
            places.Add(GuestArea.Start + (ulong)(index * SplitRingLayout.DescriptorBytes));
            Write(places[^1], i == chain.Length - 1 ? chain[i] : Linked(chain[i], (ushort)_nextDescriptor));
        }

        return true;
    }

    public override Descriptor Read(ulong place) => Unsafe.ReadUnaligned<Descriptor>(Area.Host(place));

    public override (ulong First, ulong Second) Encode(ulong place, Descriptor descriptor) =>
        (descriptor.Address, descriptor.LengthBytes | ((ulong)descriptor.Flags << 32) | ((ulong)descriptor.Next << 48));

    public override bool IsHeld(ulong place) => false;

    public override ulong? MakeAvailable(ushort head)
    {
        _raw.WriteAvailableEntry(_available, head);
        Claim(head);
        _order.Enqueue(head);
        ulong place = GuestArea.Start + DriverAreaOffset + SplitRingLayout.RingOffset + (ulong)(2 * (_available & (Size - 1)));
        _available++;
        return place;
    }

    public override void Claim(ushort head)
    {
        if (head < Size)
        {
            _claims[head]++;
        }
    }

    private protected override void PrepareRing(FuzzRandom random)
    {
        Size = random.Pick(1, 2, 4, 8, 16, 16, 64, MaxSize);
        _available = _used = random.OneIn(2) ? (ushort)0 : (ushort)(ushort.MaxValue - random.Below(64));
        _nextDescriptor = 0;
        _raw = new RawSplitRing(Size, new RingAddresses((nint)Ring, (nint)(Ring + DriverAreaOffset), (nint)(Ring + DeviceAreaOffset)))
        {
            AvailableIndex = _available,
            UsedIndex = _used,
        };
        Area.AllowAlways(
            GuestArea.Start + DeviceAreaOffset + SplitRingLayout.FlagsOffset,
            GuestArea.Start + DeviceAreaOffset + (ulong)SplitRingLayout.AvailableEventOffset(Size));
    }

    private protected override void ForgetChains()
    {
        Array.Clear(_claims);
        _order.Clear();
        new Span<byte>(Ring, SplitRingLayout.DescriptorTableBytes(Size)).Clear();
    }

    private protected override void AllowReturns() => Area.Allow(GuestArea.Start + DeviceAreaOffset, (ulong)SplitRingLayout.UsedRingBytes(Size));

    private protected override void Show(int surplus)
    {
        ushort index = (ushort)(_available + surplus);
        Area.Expect(GuestArea.Start + DriverAreaOffset + SplitRingLayout.IndexOffset, index);
        _raw.AvailableIndex = index;
    }

    public override void Collect(Action<ushort, uint> onUsed)
    {
        ushort ready = (ushort)(_raw.UsedIndex - _used);
        if (ready > OutstandingCount)
        {
            throw new FindingException(FindingKind.HeadNotOurs, $"The used index is {ready} ahead, with {OutstandingCount} chains available.");
        }

        for (; ready > 0; ready--)
        {
            (uint id, uint lengthBytes) = _raw.ReadUsedElement(_used);
            if (id >= (uint)Size || _claims[id] == 0)
            {
                throw new FindingException(FindingKind.HeadNotOurs, $"Head {id} came back, which was not available (any more).");
            }

            if (inOrder && _order.Dequeue() != id)
            {
                throw new FindingException(FindingKind.HeadNotOurs, $"Head {id} came back before its turn.");
            }

            _claims[id]--;
            _used++;
            onUsed((ushort)id, lengthBytes);
        }
    }
}
