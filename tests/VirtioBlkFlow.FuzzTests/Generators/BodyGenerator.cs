using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// Request bodies on valid rings: every type, odd framing, segment lists, sectors at the end of numbers. What each request must do is known,
/// so status, used length, data and disk are compared.
/// </summary>
internal sealed class BodyGenerator : IGenerator
{
    /// <summary>Sectors each request of a case has for itself.</summary>
    public const int StripeSectors = (DiskImage.PlaygroundEnd - DiskImage.PlaygroundStart) / MostRequests;

    private const int MostRequests = 8;
    private const int Cases = 400;
    private const byte NotWritten = 0xee;

    private static readonly byte[] s_serial = [.. "fuzz"u8, .. new byte[16]];

    public string Name => "bodies";

    public IReadOnlyList<DiskKind> Disks { get; } = [DiskKind.Plain, DiskKind.Plain, DiskKind.ReadOnly, DiskKind.Zoned];

    public void RunRound(FuzzTarget target, FuzzRandom random, Action<int> beginCase)
    {
        using GuestArea area = new(random);
        using FuzzSession session = FuzzSession.Open(target, area, random);
        using HostileQueue queue = HostileQueue.Create(area, session.Negotiation.RingFeatures);
        queue.Start(session.Frontend, random);
        bool canIndirect = session.Negotiation.RingFeatures.HasFlag(VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC);
        for (int i = 0; i < Cases; i++)
        {
            beginCase(i);
            RunCase(target, session, area, queue, random, canIndirect);
            session.ProveLife();
        }

        queue.Stop(session.Frontend, static (_, _) => { });
    }

    private static void RunCase(FuzzTarget target, FuzzSession session, GuestArea area, HostileQueue queue, FuzzRandom random, bool canIndirect)
    {
        queue.BeginCase(random);
        queue.FreeAllDescriptors();
        Dictionary<ushort, Placed> placed = [];
        int count = random.Between(1, MostRequests);
        for (int i = 0; i < count; i++)
        {
            BodyRequest request = new(random, DiskImage.PlaygroundStart + (i * StripeSectors), session.Negotiation);
            if (TryPlace(area, queue, random, request, canIndirect) is { } place)
            {
                placed.Add(place.Head, place);
                foreach ((int sector, int sectors) in request.Changes)
                {
                    target.Image.Allow(sector, sectors);
                }
            }
        }

        foreach (ushort head in placed.Keys)
        {
            queue.MakeAvailable(head);
        }

        queue.Publish();
        RingEnd end = queue.WaitForEnd((head, lengthBytes) => Verify(target, area, placed[head], lengthBytes));
        if (end == RingEnd.GivenUp)
        {
            throw new FindingException(FindingKind.WrongAnswer, $"The device gave up a ring without fault: {string.Join("; ", placed.Values.Select(place => place.Request))}");
        }

        area.EndCase();
        target.Image.EndCase();
    }

    private static Placed? TryPlace(GuestArea area, HostileQueue queue, FuzzRandom random, BodyRequest request, bool canIndirect)
    {
        List<Descriptor> chain = [];
        List<(ulong Address, int LengthBytes)> written = [];
        int done = 0;
        foreach (int piece in random.Cut(request.Readable.Length, 12))
        {
            ulong address = queue.TakeData(piece);
            area.Write(address, request.Readable.AsSpan(done, piece));
            chain.Add(new Descriptor { Address = address, LengthBytes = (uint)piece });
            done += piece;
            AddEmpty(chain, random, DescriptorFlags.None);
        }

        foreach (int piece in random.Cut(request.WritableBytes, 12))
        {
            ulong address = queue.TakeData(piece);
            chain.Add(new Descriptor { Address = address, LengthBytes = (uint)piece, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE });
            written.Add((address, piece));
            AddEmpty(chain, random, DescriptorFlags.VIRTQ_DESC_F_WRITE);
        }

        if (chain.Count == 0)
        {
            return null;
        }

        // A direct beginning of some length, and the rest in a table.
        int direct = !canIndirect || random.OneIn(2) ? chain.Count : queue.CanMix ? Math.Min(chain.Count, random.Below(3)) : 0;
        if (direct > queue.FreeDescriptors - 1 && canIndirect)
        {
            direct = 0;
        }

        List<ulong> places = [];
        List<Descriptor> main = chain[..direct];
        if (direct < chain.Count)
        {
            main.Add(queue.PlaceTable([.. chain[direct..]], places));
        }

        if (!queue.TryPlaceChain([.. main], places, out ushort head))
        {
            return null;
        }

        if (request.HasStatus)
        {
            area.Write(written[^1].Address + (ulong)written[^1].LengthBytes - 1, [NotWritten]);
        }

        return new Placed(head, request, written);
    }

    // A buffer without bytes is nothing, wherever it is.
    private static void AddEmpty(List<Descriptor> chain, FuzzRandom random, DescriptorFlags flags)
    {
        if (random.OneIn(24))
        {
            chain.Add(new Descriptor { Address = random.NearAnEdge(), LengthBytes = 0, Flags = flags });
        }
    }

    private static void Verify(FuzzTarget target, GuestArea area, Placed place, uint lengthBytes)
    {
        BodyRequest request = place.Request;
        byte[] answer = new byte[request.WritableBytes];
        int done = 0;
        foreach ((ulong address, int length) in place.Written)
        {
            area.Read(address, answer.AsSpan(done, length));
            done += length;
        }

        if (!request.HasStatus)
        {
            Require(lengthBytes == 0, request, $"has nothing to write, and {lengthBytes} bytes written");
            return;
        }

        BlkStatus status = (BlkStatus)answer[^1];
        Require(request.IsExpected(status), request, $"has status {status} instead of {request.ExpectedStatus}");
        Require(lengthBytes <= answer.Length, request, $"has {lengthBytes} bytes written, where there is room for {answer.Length}");
        if (status != BlkStatus.VIRTIO_BLK_S_OK || request.IsUncertain)
        {
            return;
        }

        switch (request.Type)
        {
            case BlkRequestType.VIRTIO_BLK_T_IN:
                Require(lengthBytes == answer.Length, request, $"has {lengthBytes} bytes written");
                Require(target.Image.Expected((int)request.Sector, request.DataInBytes).SequenceEqual(answer.AsSpan(0, request.DataInBytes)), request, "reads something else");
                break;
            case BlkRequestType.VIRTIO_BLK_T_OUT:
                Require(target.Image.Current((int)request.Sector, request.DataOut.Length).SequenceEqual(request.DataOut), request, "wrote something else");
                break;
            case BlkRequestType.VIRTIO_BLK_T_WRITE_ZEROES:
                foreach ((int sector, int count) in request.Changes)
                {
                    Require(!target.Image.Current(sector, count * BlkRequest.SectorBytes).ContainsAnyExcept((byte)0), request, "left something");
                }

                break;
            case BlkRequestType.VIRTIO_BLK_T_GET_ID:
                int idBytes = Math.Min(s_serial.Length, request.DataInBytes);
                Require(s_serial.AsSpan(0, idBytes).SequenceEqual(answer.AsSpan(0, idBytes)), request, "has another serial");
                break;
        }
    }

    private static void Require(bool holds, BodyRequest request, string otherwise)
    {
        if (!holds)
        {
            throw new FindingException(FindingKind.WrongAnswer, $"{request} {otherwise}.");
        }
    }

    private sealed record Placed(ushort Head, BodyRequest Request, List<(ulong Address, int LengthBytes)> Written);
}
