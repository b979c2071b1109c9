using System.Buffers.Binary;

namespace VirtioBlkFlow.Disks.Streaming;

/// <summary>
/// Where things are on a disk with a ring in each direction, and what its first sector tells the guest. docs/exchange.md has the format.
/// Numbers are little endian, of 64 bits each. Immutable.
/// </summary>
/// <param name="ToGuestBytes">Capacity of the ring from host to guest.</param>
/// <param name="FromGuestBytes">Capacity of the ring from guest to host.</param>
public sealed record SectorRingLayout(ulong ToGuestBytes, ulong FromGuestBytes)
{
    /// <summary>The only version there is.</summary>
    public const ulong Version = 1;

    /// <summary>Capacity of a ring unless told otherwise. Arbitrary: some dozen large requests.</summary>
    public const ulong DefaultBytes = 1 << 20;

    /// <summary>Capacities are multiples of this: a page of the guest's cache.</summary>
    public const ulong GranularityBytes = 4096;

    /// <summary>Largest capacity. Arbitrary: all of it may become resident memory of the host.</summary>
    public const ulong MaxBytes = 1UL << 32;

    /// <summary>A sector, always.</summary>
    public const int SectorBytes = 512;

    // The host's sectors are in one page. Each of the guest's has one of its own, so that a write through its cache takes no other along.
    internal const int HeaderSector = 0;
    internal const int ToGuestProducerSector = 1;
    internal const int FromGuestConsumerSector = 2;
    internal const int ToGuestConsumerSector = 16;
    internal const int FromGuestProducerSector = 24;
    internal const int ControlSectors = 32;
    internal const int ControlBytes = ControlSectors * SectorBytes;

    private static ReadOnlySpan<byte> Magic => "VBLKRING"u8;

    /// <summary>Where the data from host to guest begins, in bytes.</summary>
    internal static ulong ToGuestOffset => ControlBytes;

    /// <summary>Where the data from guest to host begins, in bytes.</summary>
    internal ulong FromGuestOffset => ToGuestOffset + ToGuestBytes;

    /// <summary>Size of the disk in bytes.</summary>
    public ulong SizeBytes => FromGuestOffset + FromGuestBytes;

    /// <exception cref="DiskOpenException">One of the capacities cannot be.</exception>
    internal void Validate()
    {
        foreach (ulong bytes in new[] { ToGuestBytes, FromGuestBytes })
        {
            if (bytes is 0 or > MaxBytes || bytes % GranularityBytes != 0)
            {
                throw new DiskOpenException($"A ring of {bytes} bytes cannot be. Give it a multiple of {GranularityBytes}, at most {MaxBytes}.");
            }
        }
    }

    /// <summary>Writes what the guest finds in sector 0.</summary>
    /// <param name="sector">512 bytes.</param>
    /// <param name="stream">Tells this stream from others.</param>
    public void WriteHeader(Span<byte> sector, ulong stream)
    {
        ReadOnlySpan<ulong> fields =
        [
            Version, stream,
            ToGuestProducerSector, ToGuestConsumerSector, ToGuestOffset / SectorBytes, ToGuestBytes,
            FromGuestProducerSector, FromGuestConsumerSector, FromGuestOffset / SectorBytes, FromGuestBytes,
        ];
        sector = sector[..SectorBytes];
        sector.Clear();
        Magic.CopyTo(sector);
        foreach (ulong field in fields)
        {
            sector = sector[sizeof(ulong)..];
            BinaryPrimitives.WriteUInt64LittleEndian(sector, field);
        }
    }
}
