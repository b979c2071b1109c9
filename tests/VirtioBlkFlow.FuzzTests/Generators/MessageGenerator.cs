using System.Net.Sockets;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;
using VirtioBlkFlow.Virtio.Ring;
using DirtyLog = VirtioBlkFlow.Virtio.Migration.DirtyLog;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// Whole connections as streams of bytes and descriptors: the set-up of a queue, then anything; with no, one or a few things wrong about it,
/// delivered whole, in pieces or byte by byte. A stream with nothing wrong must get its request served.
/// </summary>
internal sealed class MessageGenerator : IGenerator
{
    private const int Cases = 40;
    private const byte NotWritten = 0xee;

    public string Name => "messages";

    public IReadOnlyList<DiskKind> Disks { get; } = [DiskKind.Plain, DiskKind.ReadOnly];

    public void RunRound(FuzzTarget target, FuzzRandom random, Action<int> beginCase)
    {
        using GuestArea area = new(random);
        using SharedAreas areas = new(random);
        for (int i = 0; i < Cases; i++)
        {
            beginCase(i);
            using (HostileQueue queue = HostileQueue.Create(area, MessageScript.RingFeatures))
            {
                new Case(target, area, queue, areas, random).Run();
            }

            FuzzSession.ProveLife(target);
            target.Image.EndCase();
        }
    }

    private sealed class Case(FuzzTarget target, GuestArea area, HostileQueue queue, SharedAreas areas, FuzzRandom random)
    {
        private ulong _status;
        private ulong _data;

        public void Run()
        {
            (SafeFileHandle channel, SafeFileHandle otherEnd) = VhostUserFrontend.CreateSocketPair();
            using (channel)
            using (otherEnd)
            {
                areas.BeginCase();
                MakeRequestAvailable();
                List<WireMessage> stream = MessageScript.SetUp(area, queue, areas, random, channel);
                bool isRight = random.OneIn(6);
                if (!isRight)
                {
                    Spoil(stream, channel);
                }

                Exchange(stream, isRight);
                if (MayWaitForState(stream))
                {
                    // Front-ends are served one after the other: when this one is, the other is cleared away.
                    FuzzSession.ProveLife(target);
                }

                if (isRight)
                {
                    RequireServed();
                    RequireMarked(stream);
                }

                // A twisted description of memory may name any byte of the file, and be right.
                if (stream.TrueForAll(message => message.Twists.Length == 0 || !IsAboutPlaces(message)))
                {
                    areas.RequireUntouchedAround();
                    area.EndCase();
                }
                else
                {
                    area.AcceptAll();
                }
            }
        }

        private static bool MayWaitForState(List<WireMessage> stream) =>
            stream.Exists(static message => message.Request == (uint)FrontendRequest.CHECK_DEVICE_STATE);

        // A twist may have changed the number of the request too.
        private static bool IsAboutPlaces(WireMessage message) => message.Twists.Contains("MEM", StringComparison.Ordinal)
            || message.Twists.Contains("ADDR", StringComparison.Ordinal) || message.Twists.Contains("LOG", StringComparison.Ordinal)
            || message.Twists.Contains("INFLIGHT", StringComparison.Ordinal) || message.Twists.Contains("NUM", StringComparison.Ordinal)
            || (FrontendRequest)message.Request is FrontendRequest.SET_MEM_TABLE or FrontendRequest.ADD_MEM_REG or FrontendRequest.SET_VRING_ADDR
                or FrontendRequest.SET_LOG_BASE or FrontendRequest.SET_INFLIGHT_FD;

        // A read of the first sector, in the ring before the device knows of it.
        private void MakeRequestAvailable()
        {
            queue.Prepare(random);
            queue.BeginCase(random);
            queue.FreeAllDescriptors();
            ulong header = queue.TakeData(BlkRequest.HeaderBytes);
            _data = queue.TakeData(BlkRequest.SectorBytes);
            _status = queue.TakeData(1);
            area.Write(header, new byte[BlkRequest.HeaderBytes]);
            area.Write(_status, [NotWritten]);
            List<ulong> places = [];
            Descriptor table = queue.PlaceTable(
                [
                    new Descriptor { Address = header, LengthBytes = BlkRequest.HeaderBytes },
                    new Descriptor { Address = _data, LengthBytes = BlkRequest.SectorBytes, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE },
                    new Descriptor { Address = _status, LengthBytes = 1, Flags = DescriptorFlags.VIRTQ_DESC_F_WRITE },
                ],
                places);
            queue.TryPlaceChain([table], places, out ushort head);
            queue.MakeAvailable(head);
            queue.Publish();
        }

        private void Spoil(List<WireMessage> stream, SafeFileHandle channel)
        {
            for (int more = random.Below(12); more > 0; more--)
            {
                stream.Add(MessageScript.Anything(area, queue, areas, random));
            }

            List<SafeFileHandle> pool = [areas.Decoy, queue.Kick.Handle, queue.Call.Handle, queue.Error.Handle, channel];
            for (int i = random.Below(3); i > 0; i--)
            {
                int at = random.Below(stream.Count);
                switch (random.Below(6))
                {
                    case 0:
                        stream.RemoveAt(at);
                        break;
                    case 1:
                        stream.Insert(random.Below(stream.Count), stream[at].Copy());
                        break;
                    case 2:
                        int other = random.Below(stream.Count);
                        (stream[at], stream[other]) = (stream[other], stream[at]);
                        break;
                    default:
                        stream[at].Twist(random, pool);
                        break;
                }
            }

            if (random.OneIn(4))
            {
                // Cut off anywhere.
                int left = random.Between(1, stream.Count);
                stream.RemoveRange(left, stream.Count - left);
            }
        }

        private void Exchange(List<WireMessage> stream, bool isRight)
        {
            using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = FuzzSession.DeadlineMs };
            socket.Connect(new UnixDomainSocketEndPoint(target.SocketPath));
            int mostBytes = random.Pick(1, 7, int.MaxValue, int.MaxValue, int.MaxValue);
            int cut = random.OneIn(6) ? random.Below(30) : 0;
            try
            {
                using VhostUserFrontend frontend = new(new SafeFileHandle(socket.Handle, ownsHandle: false));
                for (int i = 0; i < stream.Count; i++)
                {
                    ReadOnlySpan<byte> bytes = stream[i].Bytes;
                    if (i == stream.Count - 1 && random.OneIn(6))
                    {
                        bytes = bytes[..Math.Max(1, bytes.Length - cut)];
                    }

                    Send(frontend, bytes, stream[i].Descriptors, mostBytes);
                }

                if (isRight)
                {
                    // Before the end of the connection, which stops the queue: what was not taken from the ring by then stays in it.
                    queue.WaitForEnd(static (_, _) => { });
                }

                if (MayWaitForState(stream))
                {
                    // It is answered when the transfer ends, and a twisted one never does: only the end of the connection ends it.
                    socket.Shutdown(SocketShutdown.Both);
                    return;
                }

                socket.Shutdown(SocketShutdown.Send);
                ReadReplies(socket, stream);
            }
            catch (Exception exception) when (exception is BackendClosedException or SocketException { SocketErrorCode: not SocketError.TimedOut })
            {
                // It may close whenever it is told something wrong. What it said before is lost with the connection.
                if (isRight)
                {
                    throw new FindingException(FindingKind.WrongAnswer, $"A valid stream is broken off: {exception.Message} {Describe(stream)}", exception);
                }
            }
            catch (SocketException exception)
            {
                throw new FindingException(FindingKind.Hang, "The session does not end after the last message: " + Describe(stream), exception);
            }
        }

        private static void Send(VhostUserFrontend frontend, ReadOnlySpan<byte> bytes, SafeFileHandle[] descriptors, int mostBytes)
        {
            while (!bytes.IsEmpty)
            {
                int piece = Math.Min(mostBytes, bytes.Length);
                frontend.SendRaw(bytes[..piece], descriptors);
                descriptors = [];
                bytes = bytes[piece..];
            }
        }

        private static void ReadReplies(Socket socket, List<WireMessage> stream)
        {
            byte[] buffer = new byte[64 << 10];
            int have = 0;
            while (socket.Receive(buffer.AsSpan(have)) is int count and > 0)
            {
                have += count;
                int done = 0;
                while (have - done >= MessageHeader.SizeBytes)
                {
                    MessageHeader header = MemoryMarshal.Read<MessageHeader>(buffer.AsSpan(done));
                    if (header.Flags != MessageHeader.ReplyFlags || header.PayloadBytes > ProtocolLimits.MaxPayloadBytes)
                    {
                        throw new FindingException(FindingKind.WrongAnswer, $"{header} is no reply. {Describe(stream)}");
                    }

                    if (have - done < MessageHeader.SizeBytes + (int)header.PayloadBytes)
                    {
                        break;
                    }

                    done += MessageHeader.SizeBytes + (int)header.PayloadBytes;
                }

                buffer.AsSpan(done, have - done).CopyTo(buffer);
                have -= done;
            }

            if (have > 0)
            {
                throw new FindingException(FindingKind.WrongAnswer, $"The connection ends within a reply. {Describe(stream)}");
            }
        }

        private void RequireServed()
        {
            byte[] data = new byte[BlkRequest.SectorBytes];
            byte[] status = [NotWritten];
            area.Read(_data, data);
            area.Read(_status, status);
            if (status[0] != 0 || !target.Image.Expected(0, data.Length).SequenceEqual(data))
            {
                throw new FindingException(FindingKind.WrongAnswer, $"A valid stream gets its sector read with status {status[0]}, or wrong.");
            }
        }

        // With a log in force: the pages the device has written, and no others.
        private void RequireMarked(List<WireMessage> stream)
        {
            bool isInForce = stream.Exists(static message => message.Request == (uint)FrontendRequest.SET_LOG_BASE)
                && stream.Exists(static message => message.Request == (uint)FrontendRequest.SET_FEATURES && MessageScript.LogsAll(message));
            ulong[] written = [_data, _data + BlkRequest.SectorBytes - 1, _status];
            bool logsRing = stream.Exists(static message => message.Request == (uint)FrontendRequest.SET_VRING_ADDR && MessageScript.LogsRing(message));
            HashSet<ulong> pages = [.. isInForce ? written.Select(static address => address / DirtyLog.PageBytes) : []];
            if (isInForce && logsRing)
            {
                pages.Add(HostileQueue.LoggedAddress.Log / DirtyLog.PageBytes);
            }

            if (areas.MarkedCount != pages.Count || !pages.All(page => areas.IsMarked(page * DirtyLog.PageBytes)))
            {
                throw new FindingException(FindingKind.WrongAnswer, $"{areas.MarkedCount} pages are marked, instead of {string.Join(' ', pages)}.");
            }
        }

        private static string Describe(List<WireMessage> stream) => string.Join(' ', stream.Select(message => $"{(FrontendRequest)message.Request}[{message.Twists.Trim()}]"));
    }
}
