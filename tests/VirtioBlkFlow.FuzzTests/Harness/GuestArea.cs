using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>The area at some moment.</summary>
/// <param name="Bytes">All of it.</param>
/// <param name="Allowed">Ranges the device may write, as offsets.</param>
internal sealed record AreaSnapshot(byte[] Bytes, IReadOnlyList<(int Offset, int LengthBytes)> Allowed);

/// <summary>
/// The hostile guest's memory: three regions in one file, none of which begins or ends at a page, with a pattern in all bytes between them.
/// What the device has mapped therefore reaches over the regions on both sides, and a write there is seen. Owned by one thread.
/// </summary>
/// <remarks>
/// The first two regions touch in guest addresses and not in the file, so that a buffer may straddle them. A case says what the device
/// may write; everything else must stay as it was when the case was published.
/// </remarks>
internal sealed unsafe class GuestArea : IDisposable
{
    private const int BackingBytes = 0x30000;
    private const int PageBytes = 4096;

    // The front-end's addresses need not be true ones: the device only computes with them.
    private const ulong UserBase = 0x7e00_0000_0000;

    private static readonly MemoryRegion[] s_regions =
    [
        At(guest: 0x1_0000, lengthBytes: 0x1_a5c0, offset: 0x1240),
        At(guest: 0x2_a5c0, lengthBytes: 0xb033, offset: 0x1_e0c3),
        At(guest: 0x8_0000, lengthBytes: 777, offset: 0x2_c007),
    ];

    private readonly SharedRegion _backing = new(new SharedRegionOptions(0, BackingBytes));
    private readonly byte[] _expected = new byte[BackingBytes];
    private readonly bool[] _mayChange = new bool[BackingBytes];
    private readonly List<(int Offset, int LengthBytes)> _allowed = [];
    private readonly List<int> _alwaysAllowed = [];

    public GuestArea(FuzzRandom random)
    {
        random.Fill(All);
        All.CopyTo(_expected);
    }

    /// <summary>The regions as the wire has them.</summary>
    public static IReadOnlyList<MemoryRegion> Regions => s_regions;

    /// <summary>The file of every region.</summary>
    public SafeFileHandle Handle => _backing.Handle;

    /// <summary>Where rings and tables are: the first region.</summary>
    public static ulong Start => s_regions[0].GuestAddress;

    /// <summary>Where the first region ends and the second begins.</summary>
    public static ulong Seam => s_regions[1].GuestAddress;

    /// <summary>Where the second region ends, and nothing follows.</summary>
    public static ulong End => s_regions[1].GuestAddress + s_regions[1].LengthBytes;

    /// <summary>The small region.</summary>
    public static ulong Island => s_regions[2].GuestAddress;

    private Span<byte> All => new(_backing.Host, BackingBytes);

    /// <summary>What SET_VRING_ADDR calls a guest address.</summary>
    public static ulong UserAddressOf(ulong guestAddress) => UserBase + guestAddress;

    /// <summary>Where a range within one region is in this process.</summary>
    public byte* Host(ulong guestAddress)
    {
        foreach (MemoryRegion region in s_regions)
        {
            if (guestAddress - region.GuestAddress < region.LengthBytes)
            {
                return _backing.Host + region.MmapOffset + (guestAddress - region.GuestAddress);
            }
        }

        throw new ArgumentOutOfRangeException(nameof(guestAddress), $"0x{guestAddress:x} is in no region.");
    }

    /// <summary>Copies from the driver's own buffers, which may straddle regions.</summary>
    public void Read(ulong guestAddress, Span<byte> destination)
    {
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = *Host(guestAddress + (ulong)i);
        }
    }

    /// <summary>Copies into the driver's own buffers, which may straddle regions.</summary>
    public void Write(ulong guestAddress, ReadOnlySpan<byte> source)
    {
        for (int i = 0; i < source.Length; i++)
        {
            *Host(guestAddress + (ulong)i) = source[i];
        }
    }

    /// <summary>A case begins: nothing may have changed since the last one ended.</summary>
    public void BeginCase() => Verify("after the end of the case before");

    /// <summary>The device may write these guest addresses until the end of the case, as far as they are memory at all.</summary>
    public void Allow(ulong guestAddress, ulong lengthBytes)
    {
        foreach (MemoryRegion region in s_regions)
        {
            UInt128 first = UInt128.Max(guestAddress, region.GuestAddress);
            UInt128 end = UInt128.Min((UInt128)guestAddress + lengthBytes, (UInt128)region.GuestAddress + region.LengthBytes);
            if (first < end)
            {
                int offset = (int)(region.MmapOffset + (ulong)(first - region.GuestAddress));
                _allowed.Add((offset, (int)(end - first)));
            }
        }
    }

    /// <summary>These words the device may write at any time: its wishes for kicks.</summary>
    public void AllowAlways(params ReadOnlySpan<ulong> guestAddresses)
    {
        _alwaysAllowed.Clear();
        foreach (ulong address in guestAddresses)
        {
            _alwaysAllowed.Add((int)(Host(address) - _backing.Host));
        }
    }

    /// <summary>The driver has written all it wants: from now on only the device writes.</summary>
    public void Publish()
    {
        All.CopyTo(_expected);
        foreach ((int offset, int lengthBytes) in _allowed)
        {
            _mayChange.AsSpan(offset, lengthBytes).Fill(true);
        }
    }

    /// <summary>The driver is about to write this after all.</summary>
    public void Expect(ulong guestAddress, ushort value) =>
        MemoryMarshal.Write(_expected.AsSpan((int)(Host(guestAddress) - _backing.Host)), value);

    /// <summary>A case has ended, and the device has nothing in flight.</summary>
    public void EndCase()
    {
        Verify("by the device");
        foreach ((int offset, int lengthBytes) in _allowed)
        {
            All.Slice(offset, lengthBytes).CopyTo(_expected.AsSpan(offset, lengthBytes));
            _mayChange.AsSpan(offset, lengthBytes).Clear();
        }

        _allowed.Clear();
    }

    /// <summary>Looks at what the device has written so far.</summary>
    public void VerifyNow() => Verify("by the device");

    /// <summary>Takes down all bytes, and what the device may write.</summary>
    public AreaSnapshot TakeSnapshot() => new(All.ToArray(), [.. _allowed]);

    /// <summary>Puts everything back; nobody else may use the area meanwhile. <see cref="Publish"/> has to follow.</summary>
    public void Restore(AreaSnapshot snapshot)
    {
        AcceptAll();
        snapshot.Bytes.CopyTo(All);
        _allowed.AddRange(snapshot.Allowed);
    }

    /// <summary>The device may write anything that is guest memory, and still nothing between.</summary>
    public void AllowRegions()
    {
        foreach (MemoryRegion region in s_regions)
        {
            Allow(region.GuestAddress, region.LengthBytes);
        }
    }

    /// <summary>Whatever was written was right, because the device was told to.</summary>
    public void AcceptAll()
    {
        All.CopyTo(_expected);
        _mayChange.AsSpan().Clear();
        _allowed.Clear();
    }

    public void Dispose() => _backing.Dispose();

    private void Verify(string by)
    {
        for (int page = 0; page < BackingBytes; page += PageBytes)
        {
            ReadOnlySpan<byte> now = All.Slice(page, PageBytes);
            ReadOnlySpan<byte> expected = _expected.AsSpan(page, PageBytes);
            if (now.SequenceEqual(expected))
            {
                continue;
            }

            for (int i = 0; i < PageBytes; i++)
            {
                if (now[i] != expected[i] && !_mayChange[page + i] && !IsAlwaysAllowed(page + i))
                {
                    throw new FindingException(
                        FindingKind.MemoryTouched, $"The byte at {Describe(page + i)} was written {by}: 0x{expected[i]:x2} became 0x{now[i]:x2}.");
                }
            }
        }
    }

    private bool IsAlwaysAllowed(int offset) => _alwaysAllowed.Exists(word => offset - word is >= 0 and < sizeof(ushort));

    private static string Describe(int offset)
    {
        foreach (MemoryRegion region in s_regions)
        {
            if ((ulong)offset - region.MmapOffset < region.LengthBytes)
            {
                return $"guest address 0x{region.GuestAddress + (ulong)offset - region.MmapOffset:x}";
            }
        }

        return $"file offset 0x{offset:x}, outside of every region,";
    }

    private static MemoryRegion At(ulong guest, ulong lengthBytes, ulong offset) => new(guest, lengthBytes, UserBase + guest, offset);
}
