using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.EndToEndTests.OwnFrontend;

/// <summary>
/// What no front-end sends. The worst that may come of it is the end of this one connection: the daemon lives, serves the next, and keeps
/// nothing of the last.
/// </summary>
public class MalformedMessageTests
{
    private static readonly Dictionary<string, Action<FrontendSession, EventDescriptor>> s_mistakes = new()
    {
        ["version 0"] = (session, _) => Raw(session, new MessageHeader(1, 0, 0)),
        ["version 2"] = (session, _) => Raw(session, new MessageHeader(1, (MessageFlags)2, 0)),
        ["a reply that nobody asked for"] = (session, _) => Raw(session, new MessageHeader(1, MessageHeader.ReplyFlags, 8), 8),
        ["unknown request"] = (session, _) => Raw(session, Header(999, 0)),
        ["unknown request with payload and descriptors"] = (session, e) => Raw(session, Header(999, 100), 100, Many(e, 5)),
        ["unknown request that wants an answer"] = (session, _) => Expect(session, (FrontendRequest)777, 16),
        ["request of another device"] = (session, _) => Expect(session, FrontendRequest.NET_SET_MTU, 8),
        ["request that was not offered"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_ENDIAN, 8),
        ["more payload than any message has"] = (session, _) => Raw(session, Header(FrontendRequest.SET_MEM_TABLE, 4097)),
        ["payload of 4 GiB"] = (session, _) => Raw(session, Header(FrontendRequest.SET_FEATURES, uint.MaxValue)),
        ["features too short"] = (session, _) => Raw(session, Header(FrontendRequest.SET_FEATURES, 4), 4),
        ["features too long"] = (session, _) => Raw(session, Header(FrontendRequest.SET_FEATURES, 16), 16),
        ["payload where none belongs"] = (session, _) => Raw(session, Header(FrontendRequest.GET_FEATURES, 8), 8),
        ["no payload where some belongs"] = (session, _) => Raw(session, Header(FrontendRequest.SET_VRING_ADDR, 0)),
        ["half a header"] = (session, _) => session.Frontend.SendRaw(new byte[] { 2, 0, 0, 0, 1 }),
        ["half a payload"] = (session, _) => Raw(session, Header(FrontendRequest.SET_VRING_ADDR, 40), 20),
        ["half a message with a descriptor"] = (session, e) => Raw(session, Header(FrontendRequest.SET_VRING_CALL, 8), 4, Many(e, 1)),
        ["descriptor on a request that takes none"] = (session, e) => Raw(session, Header(FrontendRequest.GET_FEATURES, 0), 0, Many(e, 1)),
        ["descriptor in the midst of a message"] = (session, e) =>
        {
            Raw(session, Header(FrontendRequest.SET_FEATURES, 8), 2);
            session.Frontend.SendRaw(new byte[6], Many(e, 3));
        },
        ["more descriptors than are looked at"] = (session, e) => Raw(session, Header(FrontendRequest.SET_MEM_TABLE, 8), 8, Many(e, 100)),
        ["two kicks at once"] = (session, e) => Expect(session, FrontendRequest.SET_VRING_KICK, 8, Many(e, 2)),
        ["kick without the descriptor it promises"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_KICK, 8),
        ["call that denies the descriptor it has"] = (session, e) => Expect(session, FrontendRequest.SET_VRING_CALL, Payload(0x100ul), Many(e, 1)),
        ["kick of a queue that is not there"] = (session, e) => Expect(session, FrontendRequest.SET_VRING_KICK, Payload(255ul), Many(e, 1)),
        ["call of a queue that is not there"] = (session, e) => Expect(session, FrontendRequest.SET_VRING_CALL, Payload(2ul), Many(e, 1)),
        ["error descriptor of a queue that is not there"] = (session, e) => Expect(session, FrontendRequest.SET_VRING_ERR, Payload(2ul), Many(e, 1)),
        ["size of a queue that is not there"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_NUM, Payload(new VringState(2, 64))),
        ["base of a queue that is not there"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_BASE, Payload(new VringState(uint.MaxValue, 0))),
        ["enabling a queue that is not there"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_ENABLE, Payload(new VringState(2, 1))),
        ["enabling with 2"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_ENABLE, Payload(new VringState(1, 2))),
        ["stopping a queue that is not there"] = (session, _) => Raw(session, Header(FrontendRequest.GET_VRING_BASE, 8), Payload(new VringState(2, 0))),
        ["addresses of a queue that is not there"] = (session, _) =>
            Expect(session, FrontendRequest.SET_VRING_ADDR, Payload(session.Queues[0].Address() with { Index = 2 })),
        ["size 0"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_NUM, Payload(new VringState(1, 0))),
        ["size 3"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_NUM, Payload(new VringState(1, 3))),
        ["size 65536"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_NUM, Payload(new VringState(1, 65536))),
        ["size of a queue that runs"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_NUM, Payload(new VringState(0, 64))),
        ["base of a queue that runs"] = (session, _) => Expect(session, FrontendRequest.SET_VRING_BASE, Payload(new VringState(0, 7))),
        ["new addresses for a queue that runs"] = (session, _) =>
            Expect(session, FrontendRequest.SET_VRING_ADDR, Payload(session.Queues[1].Address() with { Index = 0 })),
        ["addresses that are not aligned"] = (session, _) =>
            Expect(session, FrontendRequest.SET_VRING_ADDR, Payload(session.Queues[1].Address() with { DescriptorTable = 8 })),
        ["features that were not offered"] = (session, _) => Expect(session, FrontendRequest.SET_FEATURES, Payload(1ul << 63)),
        ["protocol features that were not offered"] = (session, _) => Expect(session, FrontendRequest.SET_PROTOCOL_FEATURES, Payload(1ul << 63)),
        ["back-end channel without a socket"] = (session, _) => Expect(session, FrontendRequest.SET_BACKEND_REQ_FD, []),
        ["back-end channel that is no socket"] = (session, e) =>
        {
            session.Frontend.Send(FrontendRequest.SET_BACKEND_REQ_FD, [], Many(e, 1), needReply: true);
            session.Frontend.ReceiveReply(FrontendRequest.SET_BACKEND_REQ_FD);
        },
        ["memory table with fewer descriptors than regions"] = (session, e) => Expect(session, FrontendRequest.SET_MEM_TABLE, Table(Good, Other), Many(e, 1)),
        ["memory table with more descriptors than regions"] = (session, e) => Expect(session, FrontendRequest.SET_MEM_TABLE, Table(Good), Many(e, 2)),
        ["memory table that counts more regions than it has"] = (session, e) =>
            Raw(session, Header(FrontendRequest.SET_MEM_TABLE, 40), [.. Payload(new MemoryTableHeader(9, 0)), .. Payload(Good)], Many(e, 1)),
        ["memory table that counts 2^32 - 1 regions"] = (session, _) =>
            Raw(session, Header(FrontendRequest.SET_MEM_TABLE, 40), [.. Payload(new MemoryTableHeader(uint.MaxValue, 0)), .. Payload(Good)]),
        ["memory of something that cannot be mapped"] = (session, e) => Expect(session, FrontendRequest.SET_MEM_TABLE, Table(Good), Many(e, 1)),
        ["region of nothing"] = (session, _) => ExpectRegion(session, Good with { LengthBytes = 0 }),
        ["region whose end is past the end of addresses"] = (session, _) => ExpectRegion(session, Good with { GuestAddress = ulong.MaxValue - 4096 }),
        ["region whose user addresses wrap around"] = (session, _) => ExpectRegion(session, Good with { UserAddress = ulong.MaxValue - 4096 }),
        ["region at an offset that wraps around"] = (session, _) => ExpectRegion(session, Good with { MmapOffset = ulong.MaxValue - 4095 }),
        ["region beyond its file"] = (session, _) => ExpectRegion(session, Good with { MmapOffset = 1ul << 30 }),
        ["region of 2^63 bytes"] = (session, _) => ExpectRegion(session, Good with { LengthBytes = 1ul << 63 }),
        ["region over another"] = (session, _) => ExpectRegion(session, Good with { GuestAddress = 4096 }),
        ["region without a descriptor"] = (session, _) => Expect(session, FrontendRequest.ADD_MEM_REG, Payload(new SingleMemoryRegion(0, Good))),
        ["region with two descriptors"] = (session, e) =>
            Expect(session, FrontendRequest.ADD_MEM_REG, Payload(new SingleMemoryRegion(0, Good)), Many(e, 2)),
        ["removing a region that is not there"] = (session, e) =>
            Expect(session, FrontendRequest.REM_MEM_REG, Payload(new SingleMemoryRegion(0, Good)), Many(e, 1)),
        ["configuration write past the space"] = (session, _) =>
            Expect(session, FrontendRequest.SET_CONFIG, [.. Payload(new ConfigHeader(250, 10, 0)), .. new byte[10]]),
        ["configuration write that says more than it has"] = (session, _) =>
            Raw(session, Header(FrontendRequest.SET_CONFIG, 20), [.. Payload(new ConfigHeader(0, 4000, 0)), .. new byte[8]]),
        ["configuration read that says more than it has"] = (session, _) =>
            Raw(session, Header(FrontendRequest.GET_CONFIG, 12), Payload(new ConfigHeader(0, 200, 0))),
        ["the word that ends a session"] = (session, _) => Raw(session, Header(FrontendRequest.NONE, 0)),
    };

    private static MemoryRegion Good => new(0x10_0000_0000, 1 << 16, 0x10_0000_0000, 0);

    private static MemoryRegion Other => new(0x20_0000_0000, 1 << 16, 0x20_0000_0000, 0);

    [Fact]
    public async Task The_daemon_outlives_every_mistake_and_keeps_nothing_of_it()
    {
        const int Rounds = 200;
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        string[] names = [.. s_mistakes.Keys];
        // Once each, so that all the code there is has been loaded.
        Array.ForEach(names, name => Make(name, daemon, image));
        ProcessFootprint before = ProcessFootprint.OfIdle(daemon);
        for (int round = 0; round < Rounds; round++)
        {
            Make(names[round % names.Length], daemon, image);
        }

        before.AssertStaysAfter(Rounds, daemon);
        await daemon.StopAsync();
    }

    [Fact]
    public async Task Random_messages_leave_the_daemon_as_it_was()
    {
        const int Rounds = 300;
        int seed = RandomSeed.Take();
        Random random = new(seed);
        using TestFolder folder = new();
        DiskImage image = folder.CreateImage(16);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(folder, new Harness.DaemonOptions(image) { QueueCount = 2 });
        using EventDescriptor any = new();
        try
        {
            ProcessFootprint? before = null;
            for (int round = 0; round < Rounds; round++)
            {
                SendRandomMessages(daemon, random, any);
                if (round == Rounds / 3)
                {
                    before = ProcessFootprint.OfIdle(daemon);
                }
            }

            before!.AssertStaysAfter(Rounds * 2 / 3, daemon);
            using FrontendSession session = FrontendSession.Open(daemon.SocketPath);
            session.VerifyRoundTrip(image, sector: 8);
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"Seed {seed}: {exception.Message}\n{daemon.Log}", exception);
        }

        await daemon.StopAsync();
    }

    // On a connection of its own, on which queue 0 runs and works before. Then the next connection has to work as well.
    private static void Make(string name, DaemonProcess daemon, DiskImage image)
    {
        try
        {
            using (FrontendSession session = FrontendSession.Open(daemon.SocketPath, new FrontendOptions { QueueCount = 2, StartQueues = false }))
            {
                session.Queues[0].Start(session.Frontend);
                session.VerifyRoundTrip(image, sector: 8);
                using EventDescriptor any = new();
                try
                {
                    s_mistakes[name](session, any);
                }
                catch (BackendClosedException)
                {
                    // The other proper answer.
                }
            }

            using (FrontendSession next = FrontendSession.Open(daemon.SocketPath))
            {
                next.VerifyRoundTrip(image, sector: 8);
            }
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"'{name}': {exception.Message}\n{daemon.Log}", exception);
        }
    }

    private static void SendRandomMessages(DaemonProcess daemon, Random random, EventDescriptor any)
    {
        using VhostUserFrontend frontend = VhostUserFrontend.Connect(daemon.SocketPath);
        try
        {
            for (int i = 0; i < 8; i++)
            {
                byte[] payload = new byte[random.Next(4) == 0 ? random.Next(300) : new[] { 0, 8, 12, 40 }[random.Next(4)]];
                // Small numbers are plausible indices and sizes.
                for (int at = 0; at < payload.Length; at++)
                {
                    payload[at] = (byte)(random.Next(3) == 0 ? random.Next(256) : random.Next(3));
                }

                MessageFlags flags = MessageFlags.Version1 | (random.Next(2) == 0 ? MessageFlags.NeedReply : 0);
                frontend.SendRaw(new MessageHeader((uint)random.Next(46), flags, (uint)payload.Length), payload, Many(any, random.Next(4)));
            }
        }
        catch (BackendClosedException)
        {
            // It had enough.
        }
    }

    private static SafeFileHandle[] Many(EventDescriptor descriptor, int count) => [.. Enumerable.Repeat(descriptor.Handle, count)];

    private static MessageHeader Header(uint request, uint payloadBytes) => new(request, MessageFlags.Version1, payloadBytes);

    private static MessageHeader Header(FrontendRequest request, uint payloadBytes) => Header((uint)request, payloadBytes);

    private static byte[] Payload<T>(T value)
        where T : unmanaged
    {
        byte[] bytes = new byte[Unsafe.SizeOf<T>()];
        MemoryMarshal.Write(bytes, in value);
        return bytes;
    }

    private static byte[] Table(params MemoryRegion[] regions) =>
        [.. Payload(new MemoryTableHeader((uint)regions.Length, 0)), .. regions.SelectMany(Payload)];

    private static void Raw(FrontendSession session, MessageHeader header, int payloadBytes = 0, params SafeFileHandle[] descriptors) =>
        session.Frontend.SendRaw(header, new byte[payloadBytes], descriptors);

    private static void Raw(FrontendSession session, MessageHeader header, byte[] payload, params SafeFileHandle[] descriptors) =>
        session.Frontend.SendRaw(header, payload, descriptors);

    private static void Expect(FrontendSession session, FrontendRequest request, int payloadBytes, params SafeFileHandle[] descriptors) =>
        Expect(session, request, new byte[payloadBytes], descriptors);

    // Asked for an answer, it says no; and the connection and the queue that runs go on.
    private static void Expect(FrontendSession session, FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors)
    {
        session.Frontend.Send(request, payload, descriptors, needReply: true);
        Assert.True(session.Frontend.ReceiveReply(request).TryReadPayload(out ulong answer), "The answer is no u64.");
        Assert.NotEqual(0ul, answer);
        Assert.NotEqual(0ul, session.Frontend.GetFeatures());
        Assert.Equal(Virtio.Blk.BlkStatus.VIRTIO_BLK_S_OK, session.Drivers[0].Flush());
    }

    // With a file that could be mapped, so that it is the description that is wrong.
    private static void ExpectRegion(FrontendSession session, MemoryRegion region)
    {
        Expect(session, FrontendRequest.ADD_MEM_REG, Payload(new SingleMemoryRegion(0, region)), session.Memory.Regions[0].Handle);
        Expect(session, FrontendRequest.SET_MEM_TABLE, Table(VhostUserFrontend.Describe(session.Memory.Regions[0]), region),
            session.Memory.Regions[0].Handle, session.Memory.Regions[0].Handle);
    }
}
