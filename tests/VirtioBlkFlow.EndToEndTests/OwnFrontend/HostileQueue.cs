using System.Buffers.Binary;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>Queue 0 with a read of sector 0 ready to be twisted: header, data and status, and a place for an indirect table.</summary>
internal sealed class HostileQueue : IDisposable
{
    public const int QueueSize = 16;

    /// <summary>No status of the specification: it tells a byte that was not written.</summary>
    public const byte NotWritten = 0xee;

    private const int TableEntries = 64;
    private const DescriptorFlags Next = DescriptorFlags.VIRTQ_DESC_F_NEXT;
    private const DescriptorFlags Write = DescriptorFlags.VIRTQ_DESC_F_WRITE;
    private const DescriptorFlags Indirect = DescriptorFlags.VIRTQ_DESC_F_INDIRECT;

    private readonly FrontendSession _session;
    private readonly ulong _header;
    private readonly ulong _data;
    private readonly ulong _status;
    private readonly ulong _table;

    public HostileQueue(FrontendSession session)
    {
        _session = session;
        Queue = new FrontendQueue(session.Memory, 0, QueueSize, session.Negotiation.RingFeatures);
        _header = session.Memory.Allocate(16);
        _data = session.Memory.Allocate(512);
        _status = session.Memory.Allocate(1);
        _table = session.Memory.Allocate(TableEntries * 16);
        session.Memory.Span(_header, 16).Clear();
        session.Memory.Span(_status, 1)[0] = NotWritten;
    }

    public FrontendQueue Queue { get; }

    public RawSplitRing Raw => Queue.SplitRing.Raw;

    public Descriptor Header => new() { Address = _header, LengthBytes = 16 };

    public Descriptor Status => new() { Address = _status, LengthBytes = 1, Flags = Write };

    public ulong EndOfMemory => _session.Memory.Regions[0].LengthBytes;

    public byte StatusByte => Volatile.Read(ref _session.Memory.Span(_status, 1)[0]);

    public Descriptor Data(uint lengthBytes, DescriptorFlags flags) => new() { Address = _data, LengthBytes = lengthBytes, Flags = flags };

    /// <summary>Writes descriptors from 0 on, linked if there are several and they are not linked already, and makes 0 available.</summary>
    public void Publish(params Descriptor[] chain) => PublishAgain(1, chain);

    public void PublishAgain(ushort index, params Descriptor[] chain)
    {
        for (int i = 0; i < chain.Length; i++)
        {
            bool link = i < chain.Length - 1 && (chain[i].Flags & Next) == 0;
            Raw.WriteDescriptor(i, link ? chain[i] with { Flags = chain[i].Flags | Next, Next = (ushort)(i + 1) } : chain[i]);
        }

        Raw.WriteAvailableEntry((ushort)(index - 1), 0);
        PublishIndex(index);
    }

    public void PublishTable(uint lengthBytes, params Descriptor[] entries)
    {
        WriteTable(_table, entries);
        Publish(new Descriptor { Address = _table, LengthBytes = lengthBytes, Flags = Indirect });
    }

    /// <summary>The first entry is the last in memory; the second, which follows it, is not.</summary>
    public void PublishTableAtEndOfMemory()
    {
        WriteTable(EndOfMemory - 16, Header with { Flags = Next, Next = 1 });
        Publish(new Descriptor { Address = EndOfMemory - 16, LengthBytes = 48, Flags = Indirect });
    }

    public void PublishSplitHeader()
    {
        Descriptor[] entries = new Descriptor[18];
        for (int i = 0; i < 16; i++)
        {
            entries[i] = new Descriptor { Address = _header + (ulong)i, LengthBytes = 1, Flags = Next, Next = (ushort)(i + 1) };
        }

        entries[16] = Data(512, Write | Next) with { Next = 17 };
        entries[17] = Status;
        PublishTable(18 * 16, entries);
    }

    public void PublishHead(ushort head)
    {
        Raw.WriteAvailableEntry(0, head);
        PublishIndex(1);
    }

    /// <summary>One request, twice in one go.</summary>
    public void PublishTwice()
    {
        Raw.WriteAvailableEntry(1, 0);
        Raw.WriteDescriptor(0, Header with { Flags = Next, Next = 1 });
        Raw.WriteDescriptor(1, Data(512, Write | Next) with { Next = 2 });
        Raw.WriteDescriptor(2, Status);
        Raw.WriteAvailableEntry(0, 0);
        PublishIndex(2);
    }

    public void PublishIndex(ushort index)
    {
        Raw.AvailableIndex = index;
        Queue.Kick.Signal();
    }

    public void Dispose() => Queue.Dispose();

    private void WriteTable(ulong table, params Descriptor[] entries)
    {
        for (int i = 0; i < entries.Length; i++)
        {
            Span<byte> place = _session.Memory.Span(table + ((ulong)i * 16), 16);
            BinaryPrimitives.WriteUInt64LittleEndian(place, entries[i].Address);
            BinaryPrimitives.WriteUInt32LittleEndian(place[8..], entries[i].LengthBytes);
            BinaryPrimitives.WriteUInt16LittleEndian(place[12..], (ushort)entries[i].Flags);
            BinaryPrimitives.WriteUInt16LittleEndian(place[14..], entries[i].Next);
        }
    }
}
