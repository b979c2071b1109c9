using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>How a case on a ring ended.</summary>
internal enum RingEnd
{
    /// <summary>Everything that was made available has come back.</summary>
    AllBack,

    /// <summary>The device has given the ring up, and said so on its error descriptor.</summary>
    GivenUp,

    /// <summary>The device was asked to stop when it had taken everything, and has finished that.</summary>
    Stopped,
}

/// <summary>
/// Queue 0 in the hostile area: places chains without any rule, and counts what may come back. Generators only know chains, heads and
/// tables; what is special about a kind of ring is in the classes derived. Owned by one thread.
/// </summary>
internal abstract unsafe class HostileQueue(GuestArea area) : IDisposable
{
    /// <summary>Number of the queue.</summary>
    public const uint Index = 0;

    private protected const int MaxSize = 256;
    private protected const ulong DriverAreaOffset = 0x1000;
    private protected const ulong DeviceAreaOffset = 0x1400;
    private const ulong TablesOffset = 0x2000;
    private const ulong DataOffset = 0x4000;
    private const int TableEntries = (int)(DataOffset - TablesOffset) / SplitRingLayout.DescriptorBytes;

    private EventDescriptor _kick = new();
    private EventDescriptor _call = new();
    private EventDescriptor _error = new();
    private int _nextTableEntry;
    private ulong _nextData;
    private int _takenCount;

    /// <summary>Entries of the ring.</summary>
    public int Size { get; private protected set; }

    /// <summary>Chains the device has and may return.</summary>
    public abstract int OutstandingCount { get; }

    /// <summary>What SET_VRING_BASE says of a ring in which nothing is in flight.</summary>
    public abstract uint Base { get; }

    /// <summary>What it says to the device that follows one that crashed: the first chain that was not returned.</summary>
    public abstract uint BaseAfterCrash { get; }

    /// <summary>Whether a chain may begin in the ring and go on in a table.</summary>
    public abstract bool CanMix { get; }

    /// <summary>First guest address for data.</summary>
    public static ulong DataStart => GuestArea.Start + DataOffset;

    /// <summary>What SET_VRING_ADDR says.</summary>
    public static VringAddress Address => new(
        Index, 0, GuestArea.UserAddressOf(GuestArea.Start), GuestArea.UserAddressOf(GuestArea.Start + DeviceAreaOffset),
        GuestArea.UserAddressOf(GuestArea.Start + DriverAreaOffset), 0);

    /// <summary>The same, and what the device writes there is to be logged.</summary>
    public static VringAddress LoggedAddress => Address with { Flags = VringAddress.LogEnabled, Log = GuestArea.Start + DeviceAreaOffset };

    /// <summary>Driver to device.</summary>
    public EventDescriptor Kick => _kick;

    /// <summary>Device to driver.</summary>
    public EventDescriptor Call => _call;

    /// <summary>Signalled by the device when it gives the ring up.</summary>
    public EventDescriptor Error => _error;

    /// <summary>Descriptors of the ring this case has not used.</summary>
    public int FreeDescriptors { get; private protected set; }

    private protected GuestArea Area => area;

    private protected byte* Ring => area.Host(GuestArea.Start);

    /// <summary>A queue for what was negotiated.</summary>
    /// <param name="area">Where it is.</param>
    /// <param name="features">Decide about the kind, and about the order.</param>
    /// <param name="faulty">Whether chains may be other than they were placed: then less is known of what comes back.</param>
    public static HostileQueue Create(GuestArea area, VirtioFeatures features, bool faulty = false)
    {
        bool inOrder = features.HasFlag(VirtioFeatures.VIRTIO_F_IN_ORDER) && !faulty;
        return features.HasFlag(VirtioFeatures.VIRTIO_F_RING_PACKED)
            ? new PackedHostileQueue(area, inOrder, faulty)
            : new SplitHostileQueue(area, inOrder);
    }

    /// <summary>A fresh ring, and the device begins to serve it.</summary>
    public void Start(VhostUserFrontend frontend, FuzzRandom random)
    {
        Prepare(random);
        AllowReturns();
        area.Publish();
        Require(TryAttach(frontend, Base), "start of the queue");
        area.EndCase();
    }

    /// <summary>A device begins to serve the ring as it is.</summary>
    /// <param name="frontend">The connection.</param>
    /// <param name="nextAvailable">What SET_VRING_BASE says.</param>
    /// <returns>False when it refuses a step; then it does not serve it.</returns>
    public bool TryAttach(VhostUserFrontend frontend, uint nextAvailable) =>
        frontend.SetVringNum(Index, (uint)Size, needReply: true) == 0
        && frontend.SetVringBase(Index, nextAvailable, needReply: true) == 0
        && frontend.SetVringAddr(Address, needReply: true) == 0
        && frontend.SetVringErr(Index, _error, needReply: true) == 0
        && frontend.SetVringEnable(Index, enable: true, needReply: true) == 0
        && TryGoOn(frontend);

    /// <summary>The device serves the ring again after a stop, which has dropped call and kick.</summary>
    /// <returns>False when it refuses.</returns>
    public bool TryGoOn(VhostUserFrontend frontend) =>
        frontend.SetVringCall(Index, _call, needReply: true) == 0 && frontend.SetVringKick(Index, _kick, needReply: true) == 0;

    /// <summary>A fresh ring, of which the device knows nothing yet.</summary>
    public void Prepare(FuzzRandom random)
    {
        area.BeginCase();
        new Span<byte>(Ring, (int)TablesOffset).Clear();
        PrepareRing(random);
        area.Publish();
        area.EndCase();
    }

    /// <summary>The device finishes what it has, and lets go of the ring; what comes back is counted.</summary>
    public void Stop(VhostUserFrontend frontend, Action<ushort, uint> onUsed)
    {
        frontend.GetVringBase(Index);
        Collect(onUsed);
    }

    /// <summary>A case begins: no chain is left, tables are empty.</summary>
    public void BeginCase(FuzzRandom random)
    {
        area.BeginCase();
        ForgetChains();
        new Span<byte>(Ring + TablesOffset, TableEntries * SplitRingLayout.DescriptorBytes).Clear();
        _nextTableEntry = 0;
        _takenCount = 0;
        // Often across the seam of two regions, sometimes up to the end of memory.
        _nextData = random.Below(4) switch
        {
            0 => GuestArea.Seam - (ulong)random.Below(4096),
            _ => DataStart + (ulong)random.Below(0xa000),
        };
        AllowReturns();
    }

    /// <summary>Guest memory that nothing else in this case uses, until all of it was given away once.</summary>
    public ulong TakeData(int lengthBytes)
    {
        if (_nextData + (ulong)lengthBytes > GuestArea.End)
        {
            _nextData = DataStart;
        }

        ulong address = _nextData;
        // Mostly a byte between, to see who writes beside; sometimes none, as adjacent buffers may be taken together.
        _takenCount++;
        _nextData += (ulong)lengthBytes + (_takenCount % 4 == 0 ? 0u : 1u);
        return address;
    }

    /// <summary>All descriptors of the ring are free again.</summary>
    public void FreeAllDescriptors() => FreeDescriptors = Size;

    /// <summary>Places a chain in the ring. NEXT is set where a descriptor follows; all else is the caller's.</summary>
    /// <param name="chain">What it consists of.</param>
    /// <param name="places">Where they were written to is added.</param>
    /// <param name="head">Names the chain when it comes back.</param>
    /// <returns>False, with nothing done, when there is no room.</returns>
    public abstract bool TryPlaceChain(ReadOnlySpan<Descriptor> chain, List<ulong> places, out ushort head);

    /// <summary>Links descriptors in an indirect table.</summary>
    public Descriptor PlaceTable(ReadOnlySpan<Descriptor> chain, List<ulong> places)
    {
        if (_nextTableEntry + chain.Length > TableEntries)
        {
            _nextTableEntry = 0;
        }

        ulong table = GuestArea.Start + TablesOffset + (ulong)(_nextTableEntry * SplitRingLayout.DescriptorBytes);
        _nextTableEntry += chain.Length;
        for (int i = 0; i < chain.Length; i++)
        {
            places.Add(table + (ulong)(i * SplitRingLayout.DescriptorBytes));
            Write(places[^1], i == chain.Length - 1 ? chain[i] : Linked(chain[i], (ushort)(i + 1)));
        }

        return new Descriptor
        {
            Address = table,
            LengthBytes = (uint)(chain.Length * SplitRingLayout.DescriptorBytes),
            Flags = DescriptorFlags.VIRTQ_DESC_F_INDIRECT,
        };
    }

    /// <summary>Writes a descriptor, and allows the device what it then may do.</summary>
    public void Write(ulong place, Descriptor descriptor)
    {
        AllowWhat(descriptor);
        (ulong first, ulong second) = Encode(place, descriptor);
        ulong* words = (ulong*)area.Host(place);
        words[0] = first;
        words[1] = second;
    }

    /// <summary>Reads a descriptor. In a packed ring the id is in the field for the next one.</summary>
    public abstract Descriptor Read(ulong place);

    /// <summary>A descriptor as the two words it has in memory at that place.</summary>
    public abstract (ulong First, ulong Second) Encode(ulong place, Descriptor descriptor);

    /// <summary>Whether a descriptor's second word is not to be touched before <see cref="Publish"/>: it shows the device all of them.</summary>
    public abstract bool IsHeld(ulong place);

    /// <summary>What a descriptor lets the device do.</summary>
    public virtual void AllowWhat(Descriptor descriptor)
    {
        if ((descriptor.Flags & DescriptorFlags.VIRTQ_DESC_F_WRITE) != 0)
        {
            area.Allow(descriptor.Address, descriptor.LengthBytes);
        }
    }

    /// <summary>Makes a chain available, in the order they were placed; the device sees it with <see cref="Publish"/>.</summary>
    /// <returns>Where the entry is that names it; null if there is no such thing.</returns>
    public abstract ulong? MakeAvailable(ushort head);

    /// <summary>The device may return this head once more.</summary>
    public abstract void Claim(ushort head);

    /// <summary>Shows the device what was made available, and kicks it. From now on only the device writes.</summary>
    /// <param name="surplus">Split: how much too large, or with a wrap too small, the index is.</param>
    public void Publish(int surplus = 0)
    {
        area.Publish();
        Show(surplus);
        _kick.Signal();
    }

    /// <summary>Takes what came back.</summary>
    public abstract void Collect(Action<ushort, uint> onUsed);

    /// <summary>Waits until only so many chains have not come back.</summary>
    public void WaitUntilLeft(int outstanding, Action<ushort, uint> onUsed)
    {
        Deadline deadline = Deadline.In(FuzzSession.DeadlineMs);
        SpinWait spinner = default;
        for (Collect(onUsed); OutstandingCount > outstanding; Collect(onUsed))
        {
            spinner.SpinOnce(sleep1Threshold: -1);
            if (deadline.HasPassed)
            {
                throw new FindingException(FindingKind.Hang, $"{OutstandingCount} chains do not come back, where {outstanding} are held.");
            }
        }
    }

    /// <summary>Waits until the device has returned everything, or given the ring up.</summary>
    public RingEnd WaitForEnd(Action<ushort, uint> onUsed, bool mustGiveUp = false)
    {
        Deadline deadline = Deadline.In(FuzzSession.DeadlineMs);
        SpinWait spinner = default;
        while (true)
        {
            Collect(onUsed);
            if (OutstandingCount == 0 && !mustGiveUp)
            {
                return RingEnd.AllBack;
            }

            spinner.SpinOnce(sleep1Threshold: -1);
            if (!spinner.NextSpinWillYield)
            {
                continue;
            }

            if (_error.Take() > 0)
            {
                return RingEnd.GivenUp;
            }

            if (deadline.HasPassed)
            {
                throw new FindingException(
                    FindingKind.Hang, $"{OutstandingCount} chains do not come back, and the queue was not given up{(mustGiveUp ? " although it must be" : "")}.");
            }
        }
    }

    /// <summary>The same for chains that may not be what was placed; the ring may have been stopped.</summary>
    public virtual RingEnd WaitForAnyEnd(VhostUserFrontend frontend, bool mustGiveUp) => WaitForEnd(static (_, _) => { }, mustGiveUp);

    /// <summary>Other descriptors for the next start: the device has closed its own.</summary>
    public void RenewDescriptors()
    {
        Dispose();
        (_kick, _call, _error) = (new EventDescriptor(), new EventDescriptor(), new EventDescriptor());
    }

    public void Dispose()
    {
        _kick.Dispose();
        _call.Dispose();
        _error.Dispose();
    }

    // Sets the size, the position, and the words of the ring that are not zero.
    private protected abstract void PrepareRing(FuzzRandom random);

    private protected abstract void ForgetChains();

    // Where the device may write to return chains.
    private protected abstract void AllowReturns();

    private protected abstract void Show(int surplus);

    private protected static Descriptor Linked(Descriptor descriptor, ushort next)
    {
        descriptor.Flags |= DescriptorFlags.VIRTQ_DESC_F_NEXT;
        descriptor.Next = next;
        return descriptor;
    }

    private protected static void Require(bool isDone, string step)
    {
        if (!isDone)
        {
            throw new FindingException(FindingKind.WrongAnswer, $"A valid {step} is refused.");
        }
    }
}
