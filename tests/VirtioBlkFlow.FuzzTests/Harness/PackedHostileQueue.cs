using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>
/// A hostile packed ring. With faults in it, where a chain ends is decided by what the device happens to read, and so is which slot the next
/// used descriptor is in. Then the device is asked for its position, and ids are only counted.
/// </summary>
internal sealed unsafe class PackedHostileQueue(GuestArea area, bool inOrder, bool faulty) : HostileQueue(area)
{
    private const int None = -1;
    private const int FlagsOffset = 14;
    private const uint WrapBit = 0x8000;

    // By id: slots a chain has (honest), or how often its id may come back (faulty).
    private readonly Dictionary<ushort, int> _chains = [];
    private readonly Dictionary<ushort, int> _mayReturn = [];
    private readonly Queue<ushort> _order = new();
    private RawPackedRing _raw = null!;
    private FuzzRandom _random = null!;
    private int _next;
    private bool _wrap;
    private int _used;
    private bool _usedWrap;
    private int _held = None;
    private ushort _heldFlags;

    // Where the case began.
    private int _first;
    private bool _firstWrap;
    private int _placedCount;

    public override int OutstandingCount => _chains.Count;

    public override uint Base => Half(_next, _wrap) | (Half(_used, _usedWrap) << 16);

    public override uint BaseAfterCrash => Half(_used, _usedWrap) | (Half(_used, _usedWrap) << 16);

    public override bool CanMix => false;

    public override bool TryPlaceChain(ReadOnlySpan<Descriptor> chain, List<ulong> places, out ushort head)
    {
        head = 0;
        if (chain.Length > FreeDescriptors)
        {
            return false;
        }

        do
        {
            // Any number, which need not be below the size.
            head = (ushort)_random.Next64();
        }
        while (_chains.ContainsKey(head));
        _chains.Add(head, chain.Length);
        FreeDescriptors -= chain.Length;
        if (_placedCount == 0)
        {
            _held = _next;
        }

        for (int i = 0; i < chain.Length; i++)
        {
            places.Add(PlaceOf(_next));
            Descriptor descriptor = i == chain.Length - 1 ? chain[i] : Linked(chain[i], 0);
            descriptor.Next = head;
            Write(places[^1], descriptor);
            if (!faulty)
            {
                AllowReturn(_next);
            }

            Advance(ref _next, ref _wrap, 1);
        }

        _placedCount += chain.Length;
        return true;
    }

    public override Descriptor Read(ulong place)
    {
        PackedSlot slot = Unsafe.ReadUnaligned<PackedSlot>(Area.Host(place));
        return new Descriptor { Address = slot.Address, LengthBytes = slot.LengthBytes, Flags = (DescriptorFlags)slot.Flags, Next = slot.Id };
    }

    public override (ulong First, ulong Second) Encode(ulong place, Descriptor descriptor)
    {
        ushort flags = (ushort)descriptor.Flags;
        ulong slot = (place - GuestArea.Start) / RawPackedRing.SlotBytes;
        if (slot < (ulong)Size)
        {
            bool wrap = (int)slot >= _first ? _firstWrap : !_firstWrap;
            flags = (ushort)((flags & ~RawPackedRing.AvailableAndUsed) | (wrap ? RawPackedRing.VIRTQ_DESC_F_AVAIL : RawPackedRing.VIRTQ_DESC_F_USED));
            if (_held == (int)slot)
            {
                // Used, in the lap before.
                _heldFlags = flags;
                flags = (ushort)((flags & ~RawPackedRing.AvailableAndUsed) | (wrap ? 0 : RawPackedRing.AvailableAndUsed));
            }
        }

        return (descriptor.Address, descriptor.LengthBytes | ((ulong)descriptor.Next << 32) | ((ulong)flags << 48));
    }

    public override bool IsHeld(ulong place) => _held != None && place == PlaceOf(_held);

    public override void AllowWhat(Descriptor descriptor)
    {
        base.AllowWhat(descriptor);
        Claim(descriptor.Next);
    }

    public override ulong? MakeAvailable(ushort head)
    {
        _order.Enqueue(head);
        return null;
    }

    public override void Claim(ushort head) => _mayReturn[head] = _mayReturn.GetValueOrDefault(head) + 1;

    /// <summary>Stops the ring again and again, until the device has passed everything; each start makes it look at the ring.</summary>
    public override RingEnd WaitForAnyEnd(VhostUserFrontend frontend, bool mustGiveUp)
    {
        Deadline deadline = Deadline.In(FuzzSession.DeadlineMs);
        while (true)
        {
            uint position = frontend.GetVringBase(Index) & ushort.MaxValue;
            if (Error.Take() > 0)
            {
                return RingEnd.GivenUp;
            }

            int passed = (int)(position & ~WrapBit) - _first + (((position & WrapBit) != 0) == _firstWrap ? 0 : Size);
            if ((passed < 0 ? passed + (2 * Size) : passed) >= _placedCount)
            {
                return RingEnd.Stopped;
            }

            if (deadline.HasPassed)
            {
                throw new FindingException(FindingKind.Hang, $"The device stays at 0x{position:x}, and does not take what is available.");
            }

            Require(TryGoOn(frontend), "start after a stop");
        }
    }

    private protected override void PrepareRing(FuzzRandom random)
    {
        _random = new FuzzRandom(random.Next64());
        Size = random.Pick(1, 2, 3, 5, 8, 16, 17, 64, 100, MaxSize);
        _first = _next = _used = random.Below(Size);
        _firstWrap = _wrap = _usedWrap = random.OneIn(2);
        _held = None;
        _placedCount = 0;
        _chains.Clear();
        _raw = new RawPackedRing(Size, new PackedRingPlaces((nint)Ring, (nint)(Ring + DriverAreaOffset), (nint)(Ring + DeviceAreaOffset)));
        for (int slot = 0; slot < Size; slot++)
        {
            bool wrap = slot < _next ? _wrap : !_wrap;
            _raw.WriteFlags(slot, wrap ? RawPackedRing.AvailableAndUsed : (ushort)0);
        }

        _raw.DriverEvent = random.Pick(
            0u, RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DISABLE), RawPackedRing.Event(RawPackedRing.RING_EVENT_FLAGS_DESC, random.Below(Size)), (uint)random.Next64());
        ulong deviceEvent = GuestArea.Start + DeviceAreaOffset;
        Area.AllowAlways(deviceEvent, deviceEvent + sizeof(ushort));
    }

    private protected override void ForgetChains()
    {
        _chains.Clear();
        _mayReturn.Clear();
        _order.Clear();
        _held = None;
        _placedCount = 0;
        (_first, _firstWrap) = (_next, _wrap);
    }

    private protected override void AllowReturns()
    {
        for (int slot = 0; faulty && slot < Size; slot++)
        {
            AllowReturn(slot);
        }
    }

    private protected override void Show(int surplus)
    {
        if (_held != None)
        {
            Area.Expect(PlaceOf(_held) + FlagsOffset, _heldFlags);
            _raw.WriteFlags(_held, _heldFlags);
            _held = None;
        }
    }

    public override void Collect(Action<ushort, uint> onUsed)
    {
        if (faulty)
        {
            CountIds();
            return;
        }

        while (_chains.Count > 0)
        {
            ushort flags = _raw.ReadFlags(_used);
            if ((flags & RawPackedRing.AvailableAndUsed) != (_usedWrap ? RawPackedRing.AvailableAndUsed : 0))
            {
                return;
            }

            PackedSlot slot = _raw.ReadSlot(_used);
            if (!_chains.Remove(slot.Id, out int slots))
            {
                throw new FindingException(FindingKind.HeadNotOurs, $"Buffer {slot.Id} came back, which was not available (any more).");
            }

            if (inOrder && _order.Dequeue() != slot.Id)
            {
                throw new FindingException(FindingKind.HeadNotOurs, $"Buffer {slot.Id} came back before its turn.");
            }

            Advance(ref _used, ref _usedWrap, slots);
            onUsed(slot.Id, (flags & RawPackedRing.VIRTQ_DESC_F_WRITE) != 0 ? slot.LengthBytes : 0);
        }
    }

    private static uint Half(int slot, bool wrap) => (uint)slot | (wrap ? WrapBit : 0);

    private static ulong PlaceOf(int slot) => GuestArea.Start + (ulong)(slot * RawPackedRing.SlotBytes);

    // Length, id and flags; the address is not the device's to write.
    private void AllowReturn(int slot) => Area.Allow(PlaceOf(slot) + sizeof(ulong), sizeof(ulong));

    private void Advance(ref int slot, ref bool wrap, int by)
    {
        slot += by;
        if (slot >= Size)
        {
            slot -= Size;
            wrap = !wrap;
        }
    }

    // When the device rests. A slot of this case that is used bears an id that some slot had. A list that a fault has made too long ends where
    // nothing was placed, or in what was used before.
    private void CountIds()
    {
        int slot = _first;
        bool wrap = _firstWrap;
        for (int i = 0; i < _placedCount; i++)
        {
            if ((_raw.ReadFlags(slot) & RawPackedRing.AvailableAndUsed) == (wrap ? RawPackedRing.AvailableAndUsed : 0))
            {
                ushort id = _raw.ReadSlot(slot).Id;
                int left = _mayReturn.TryGetValue(id, out int claims) ? claims : id == 0 ? 0 : int.MinValue;
                if (left < 0)
                {
                    throw new FindingException(FindingKind.HeadNotOurs, $"Buffer {id} came back, which was never available, or too often.");
                }

                _mayReturn[id] = left - 1;
            }

            Advance(ref slot, ref wrap, 1);
        }
    }
}
