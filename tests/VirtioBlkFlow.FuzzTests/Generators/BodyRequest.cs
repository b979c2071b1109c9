using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// One request with all of its bytes, and what the specification lets the device answer, worked out here from the text and not from the
/// device's code (VIRTIO 1.4, "Block Device", "Device Operation").
/// </summary>
internal sealed class BodyRequest
{
    // GET_LIFETIME, SECURE_ERASE and the zone requests, none of them offered by a plain disk; numbers nobody has.
    private static readonly uint[] s_otherTypes = [2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 19, 20, 22, 24, 26, 27, 0x7fff_ffff, 0x8000_0000, uint.MaxValue];

    private static readonly BlkRequestType[] s_zoneTypes =
    [
        BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND, BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND, BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT,
        BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN, BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE, BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH,
        BlkRequestType.VIRTIO_BLK_T_ZONE_RESET, BlkRequestType.VIRTIO_BLK_T_ZONE_RESET_ALL,
    ];

    // 8 sectors: requests of a case have stripes of their own, and fit guest memory together.
    private const int MaxDataBytes = 4096;
    private const int MaxSegments = 300;
    private const int SectorBytes = BlkRequest.SectorBytes;

    private readonly int _stripe;
    private readonly BlkConfig _config;
    private readonly bool _readOnly;
    private readonly bool _zoned;

    public BodyRequest(FuzzRandom random, int stripeStart, Negotiation negotiation)
    {
        _stripe = stripeStart;
        _config = negotiation.Config;
        _readOnly = ((BlkFeatures)negotiation.OfferedFeatures).HasFlag(BlkFeatures.VIRTIO_BLK_F_RO);
        _zoned = ((BlkFeatures)negotiation.OfferedFeatures).HasFlag(BlkFeatures.VIRTIO_BLK_F_ZONED);
        Type = _zoned && random.OneIn(3) ? random.Pick(s_zoneTypes) : random.Below(12) switch
        {
            < 3 => BlkRequestType.VIRTIO_BLK_T_IN,
            < 6 => BlkRequestType.VIRTIO_BLK_T_OUT,
            6 => BlkRequestType.VIRTIO_BLK_T_FLUSH,
            7 => BlkRequestType.VIRTIO_BLK_T_GET_ID,
            8 => BlkRequestType.VIRTIO_BLK_T_DISCARD,
            < 11 => BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES,
            _ => (BlkRequestType)random.Pick(s_otherTypes),
        };
        bool isSegmented = Type is BlkRequestType.VIRTIO_BLK_T_DISCARD or BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES;
        // Zones are appended to at their start, and first written there.
        Sector = _zoned && random.OneIn(2) ? (ulong)_stripe
            : !random.OneIn(8) ? (ulong)(_stripe + random.Below(BodyGenerator.StripeSectors - (MaxDataBytes / SectorBytes)))
            : random.OneIn(2) ? random.NearAnEdge()
            : (ulong)(DiskImage.Sectors - random.Below(3));
        DataOut = Type == BlkRequestType.VIRTIO_BLK_T_OUT ? Bytes(random, random.Below(9) * SectorBytes)
            : isSegmented ? Segments(random)
            : Type == BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND ? Bytes(random, random.Below(6) * SectorBytes)
            : random.OneIn(6) ? Bytes(random, random.Below(600)) : [];
        DataInBytes = Type == BlkRequestType.VIRTIO_BLK_T_IN ? random.Below(9) * SectorBytes
            : Type == BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND ? sizeof(ulong)
            : Type == BlkRequestType.VIRTIO_BLK_T_ZONE_REPORT ? random.Pick(BlkZoneReportHeader.SizeBytes, 63, 700)
            : Type == BlkRequestType.VIRTIO_BLK_T_GET_ID ? random.Pick(20, 20, 0, 5, 4096)
            : random.OneIn(6) ? random.Below(600) : 0;
        if (random.OneIn(12))
        {
            DataInBytes = Math.Max(0, DataInBytes + random.Between(-20, 20));
        }

        if (random.OneIn(12))
        {
            DataOut = [.. DataOut.Take(Math.Max(0, DataOut.Length - random.Below(20)))];
        }

        HeaderBytes = random.OneIn(40) ? random.Below(BlkRequest.HeaderBytes) : BlkRequest.HeaderBytes;
        if (HeaderBytes < BlkRequest.HeaderBytes)
        {
            // Else data would make up for what the header lacks.
            DataOut = [];
        }

        HasStatus = !random.OneIn(60);
        if (!HasStatus)
        {
            DataInBytes = 0;
        }

        StayInStripe();
        byte[] header = new byte[BlkRequest.HeaderBytes];
        MemoryMarshal.Write(header, (uint)Type);
        MemoryMarshal.Write(header.AsSpan(4), (uint)random.Next64());
        MemoryMarshal.Write(header.AsSpan(8), Sector);
        Readable = [.. header.AsSpan(0, HeaderBytes), .. DataOut];
    }

    public BlkRequestType Type { get; }

    public ulong Sector { get; private set; }

    public byte[] DataOut { get; }

    public int DataInBytes { get; }

    /// <summary>Bytes of the header that are there.</summary>
    public int HeaderBytes { get; }

    /// <summary>Whether there is a status byte; without one there is no writable byte at all.</summary>
    public bool HasStatus { get; }

    /// <summary>All bytes the device reads: header and data.</summary>
    public byte[] Readable { get; }

    /// <summary>Bytes the device may write: data and status.</summary>
    public int WritableBytes => DataInBytes + (HasStatus ? 1 : 0);

    /// <summary>Ranges of the disk that the request changes if it is done: none unless all of it is valid.</summary>
    public IEnumerable<(int Sector, int Count)> Changes =>
        // Zones are emptied and written from wherever they are.
        _zoned ? [(DiskImage.PlaygroundStart, DiskImage.PlaygroundEnd - DiskImage.PlaygroundStart)]
        : !HasStatus || _readOnly || HeaderBytes < BlkRequest.HeaderBytes ? []
        : Type switch
        {
            BlkRequestType.VIRTIO_BLK_T_OUT when IsValidTransfer(DataOut.Length) => [((int)Sector, DataOut.Length / SectorBytes)],
            BlkRequestType.VIRTIO_BLK_T_DISCARD or BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES when StatusOfSegments() == BlkStatus.VIRTIO_BLK_S_OK =>
                ParseSegments().Select(segment => ((int)segment.Sector, (int)segment.SectorCount)),
            _ => [],
        };

    /// <summary>Whether what it does depends on the state of a zone: there is no model of zones here.</summary>
    public bool IsUncertain => _zoned && HeaderBytes == BlkRequest.HeaderBytes
        && (s_zoneTypes.Contains(Type)
            || (Type is BlkRequestType.VIRTIO_BLK_T_IN or BlkRequestType.VIRTIO_BLK_T_OUT && _stripe + BodyGenerator.StripeSectors > DiskImage.ConventionalSectors));

    /// <summary>The status the device must answer with; anything legal if it <see cref="IsUncertain"/>.</summary>
    public BlkStatus ExpectedStatus => HeaderBytes < BlkRequest.HeaderBytes ? BlkStatus.VIRTIO_BLK_S_IOERR : Type switch
    {
        BlkRequestType.VIRTIO_BLK_T_IN => OfTransfer(DataInBytes),
        BlkRequestType.VIRTIO_BLK_T_OUT => _readOnly ? BlkStatus.VIRTIO_BLK_S_IOERR : OfTransfer(DataOut.Length),
        BlkRequestType.VIRTIO_BLK_T_FLUSH or BlkRequestType.VIRTIO_BLK_T_GET_ID => BlkStatus.VIRTIO_BLK_S_OK,
        BlkRequestType.VIRTIO_BLK_T_DISCARD or BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES => StatusOfSegments(),
        // Nothing here can erase, and a read-only disk says so as it does for its siblings.
        BlkRequestType.VIRTIO_BLK_T_SECURE_ERASE when _readOnly => BlkStatus.VIRTIO_BLK_S_IOERR,
        _ => BlkStatus.VIRTIO_BLK_S_UNSUPP,
    };

    public bool IsExpected(BlkStatus status) => !IsUncertain ? status == ExpectedStatus : status switch
    {
        BlkStatus.VIRTIO_BLK_S_OK or BlkStatus.VIRTIO_BLK_S_IOERR or BlkStatus.VIRTIO_BLK_S_ZONE_INVALID_CMD => true,
        // Without appends.
        BlkStatus.VIRTIO_BLK_S_UNSUPP => Type == BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND && _config.MaxAppendSectors == 0,
        BlkStatus.VIRTIO_BLK_S_ZONE_UNALIGNED_WP => Type == BlkRequestType.VIRTIO_BLK_T_OUT,
        BlkStatus.VIRTIO_BLK_S_ZONE_OPEN_RESOURCE or BlkStatus.VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE =>
            Type is BlkRequestType.VIRTIO_BLK_T_OUT or BlkRequestType.VIRTIO_BLK_T_ZONE_APPEND or BlkRequestType.VIRTIO_BLK_T_ZONE_OPEN
                or BlkRequestType.VIRTIO_BLK_T_ZONE_CLOSE or BlkRequestType.VIRTIO_BLK_T_ZONE_FINISH,
        _ => false,
    };

    public override string ToString() => $"{Type} at sector {Sector}, {DataOut.Length} bytes out, {DataInBytes} bytes in, header of {HeaderBytes}";

    // Requests of a case run at once: what one writes, no other may touch.
    private void StayInStripe()
    {
        int lengthBytes = Type switch
        {
            BlkRequestType.VIRTIO_BLK_T_OUT => DataOut.Length,
            BlkRequestType.VIRTIO_BLK_T_IN => DataInBytes,
            _ => 0,
        };
        ulong end = Sector + (ulong)(lengthBytes / SectorBytes);
        if (lengthBytes > 0 && IsValidTransfer(lengthBytes) && (Sector < (ulong)_stripe || end > (ulong)(_stripe + BodyGenerator.StripeSectors)))
        {
            Sector = (ulong)_stripe;
        }
    }

    private BlkStatus OfTransfer(int lengthBytes) => IsValidTransfer(lengthBytes) ? BlkStatus.VIRTIO_BLK_S_OK : BlkStatus.VIRTIO_BLK_S_IOERR;

    private bool IsValidTransfer(int lengthBytes) =>
        lengthBytes % SectorBytes == 0 && (UInt128)Sector + (uint)(lengthBytes / SectorBytes) <= DiskImage.Sectors;

    private BlkSegment[] ParseSegments() => MemoryMarshal.Cast<byte, BlkSegment>(DataOut).ToArray();

    // "Device Requirements: Device Operation": unknown flags, and unmap of a DISCARD, are unsupported, whatever else is wrong; of more segments
    // than any limit allows the rest is not looked at. What would change a read-only disk is an error before anything else.
    private BlkStatus StatusOfSegments()
    {
        bool discard = Type == BlkRequestType.VIRTIO_BLK_T_DISCARD;
        uint maxSectors = discard ? _config.MaxDiscardSectors : _config.MaxWriteZeroesSectors;
        if (_readOnly)
        {
            return BlkStatus.VIRTIO_BLK_S_IOERR;
        }

        if (maxSectors == 0)
        {
            // Not offered.
            return BlkStatus.VIRTIO_BLK_S_UNSUPP;
        }

        BlkSegment[] segments = ParseSegments();
        if (DataOut.Length == 0 || DataOut.Length % BlkSegment.SizeBytes != 0)
        {
            return BlkStatus.VIRTIO_BLK_S_IOERR;
        }

        if (segments.Take(BlkLimits.MaxSegments).Any(segment => (segment.Flags & ~(discard ? 0 : BlkSegment.UnmapFlag)) != 0))
        {
            return BlkStatus.VIRTIO_BLK_S_UNSUPP;
        }

        return segments.Length <= (discard ? _config.MaxDiscardSeg : _config.MaxWriteZeroesSeg)
            && segments.All(segment => (UInt128)segment.Sector + segment.SectorCount <= DiskImage.Sectors && segment.SectorCount <= maxSectors)
            ? BlkStatus.VIRTIO_BLK_S_OK
            : BlkStatus.VIRTIO_BLK_S_IOERR;
    }

    private byte[] Segments(FuzzRandom random)
    {
        BlkSegment[] segments = new BlkSegment[random.OneIn(20) ? random.Below(random.OneIn(4) ? MaxSegments : 40) : random.Between(1, 4)];
        for (int i = 0; i < segments.Length; i++)
        {
            int first = random.Below(BodyGenerator.StripeSectors);
            segments[i] = new BlkSegment
            {
                Sector = random.OneIn(Math.Max(20, segments.Length)) ? random.NearAnEdge() : (ulong)(_stripe + first),
                SectorCount = random.OneIn(Math.Max(20, segments.Length)) ? (uint)random.NearAnEdge() : (uint)random.Below(BodyGenerator.StripeSectors - first),
                Flags = random.OneIn(Math.Max(20, segments.Length)) ? (uint)random.Next64() : Type == BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES ? (uint)random.Below(2) : 0,
            };
            if (segments[i].Sector <= DiskImage.Sectors && segments[i].Sector + segments[i].SectorCount <= DiskImage.Sectors)
            {
                // What is valid stays within the stripe.
                segments[i].Sector = Math.Max(segments[i].Sector, (ulong)_stripe);
                segments[i].SectorCount = (uint)Math.Min(segments[i].SectorCount, (ulong)Math.Max(0, _stripe + BodyGenerator.StripeSectors - (long)segments[i].Sector));
            }
        }

        return MemoryMarshal.AsBytes<BlkSegment>(segments).ToArray();
    }

    private static byte[] Bytes(FuzzRandom random, int lengthBytes)
    {
        byte[] bytes = new byte[lengthBytes];
        random.Fill(bytes);
        return bytes;
    }
}
