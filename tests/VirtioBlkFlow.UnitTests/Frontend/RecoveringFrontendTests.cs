using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Recovery;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.VhostUser.Connection;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Frontend;

/// <summary>What the next back-end is told after a crash, seen by peers that answer and remember.</summary>
public sealed class RecoveringFrontendTests : IDisposable
{
    private const int TimeoutMs = 10_000;

    private readonly SharedMemory _memory = SharedMemory.OfSize(1 << 20);

    public void Dispose() => _memory.Dispose();

    [Theory]
    [InlineData(false, PackedBaseAfterCrash.LastKnown, 3u)]
    [InlineData(true, PackedBaseAfterCrash.LastKnown, 0x8003_8003u)]
    [InlineData(true, PackedBaseAfterCrash.FromBefore, 0x8000_8000u)]
    public void The_next_back_end_gets_the_same_record_memory_and_rings_and_the_base_a_crash_leaves(bool packed, PackedBaseAfterCrash @base, uint baseAfterCrash)
    {
        using var frontend = new RecoveringFrontend(_memory, Options(packed) with { PackedBase = @base });
        using (var first = new Peer())
        {
            frontend.Attach(new VhostUserFrontend(first.Frontend, TimeoutMs));
            Assert.Equal(packed ? 0x8000_8000u : 0, first.BaseOf(0));
            Assert.Contains(FrontendRequest.GET_INFLIGHT_FD, first.Requests);
            Assert.True(first.Requests.IndexOf(FrontendRequest.SET_INFLIGHT_FD) < first.Requests.IndexOf(FrontendRequest.SET_VRING_NUM));
            Assert.True(first.Requests.IndexOf(FrontendRequest.SET_FEATURES) < first.Requests.IndexOf(FrontendRequest.GET_INFLIGHT_FD));
            Assert.Equal(first.InflightFile, first.InflightFileSet);
        }

        UseThreeOfFive(frontend.Queues[0].Ring);
        DriverRing ring = frontend.Queues[0].Ring;
        frontend.Queues[0].Kick.Take();
        frontend.Queues[0].Call.Take();
        using var second = new Peer();
        frontend.Attach(new VhostUserFrontend(second.Frontend, TimeoutMs));
        Assert.Equal(baseAfterCrash, second.BaseOf(0));
        Assert.DoesNotContain(FrontendRequest.GET_INFLIGHT_FD, second.Requests);
        Assert.NotEqual(0ul, second.InflightFileSet);
        Assert.Equal(
            [
                FrontendRequest.SET_INFLIGHT_FD, FrontendRequest.SET_MEM_TABLE, FrontendRequest.SET_VRING_NUM, FrontendRequest.SET_VRING_BASE,
                FrontendRequest.SET_VRING_ADDR, FrontendRequest.SET_VRING_KICK, FrontendRequest.SET_VRING_CALL, FrontendRequest.SET_VRING_ERR,
                FrontendRequest.SET_VRING_ENABLE,
            ],
            second.Requests[(second.Requests.IndexOf(FrontendRequest.SET_FEATURES) + 1)..]);
        // The rings go on: nothing is forgotten, and both sides are woken.
        Assert.Same(ring, frontend.Queues[0].Ring);
        Assert.Equal(2, ring.InFlightCount);
        Assert.Equal((1ul, 1ul), (frontend.Queues[0].Kick.Take(), frontend.Queues[0].Call.Take()));
        Assert.Equal(2, frontend.AttachCount);
    }

    [Fact]
    public void A_next_back_end_that_offers_less_is_refused()
    {
        using var frontend = new RecoveringFrontend(_memory, Options(packed: false));
        using var first = new Peer();
        frontend.Attach(new VhostUserFrontend(first.Frontend, TimeoutMs));
        using var second = new Peer(VirtioFeatures.VIRTIO_F_VERSION_1);
        Assert.Throws<BackendRefusedException>(() => frontend.Attach(new VhostUserFrontend(second.Frontend, TimeoutMs)));
    }

    [Fact]
    public void Nobody_at_the_path_is_a_timeout()
    {
        using var frontend = new RecoveringFrontend(_memory, Options(packed: false));
        Assert.Throws<TimeoutException>(() => frontend.Attach(Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString()), Deadline.In(20)));
    }

    private static RecoveryOptions Options(bool packed) => new()
    {
        QueueSize = 8,
        TimeoutMs = TimeoutMs,
        Negotiation = new NegotiationOptions
        {
            Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_EVENT_IDX | (packed ? VirtioFeatures.VIRTIO_F_RING_PACKED : 0),
            ProtocolFeatures = ProtocolFeatures.REPLY_ACK | ProtocolFeatures.INFLIGHT_SHMFD,
        },
    };

    private void UseThreeOfFive(DriverRing ring)
    {
        for (int i = 0; i < 5; i++)
        {
            Assert.True(ring.TryAdd([DriverBuffer.Writable(0, 1)], out _));
        }

        ring.Publish();
        IModelDevice device = ModelServer.DeviceFor(_memory, ring, eventIndex: true);
        for (int i = 0; i < 3; i++)
        {
            Assert.True(device.TryPop(out ModelChain chain));
            device.Use((chain, 1u));
            Assert.True(ring.TryTakeUsed(out _));
        }
    }

    // A back-end that agrees to everything.
    private sealed class Peer : IDisposable
    {
        private readonly VhostUserConnection _connection;
        private readonly Thread _thread;
        private readonly ulong _features;
        private readonly Dictionary<uint, uint> _bases = [];

        public Peer(VirtioFeatures features = (VirtioFeatures)ulong.MaxValue)
        {
            _features = (ulong)features | ProtocolLimits.VHOST_USER_F_PROTOCOL_FEATURES;
            (Frontend, SafeFileHandle backend) = VhostUserFrontend.CreateSocketPair();
            _connection = new VhostUserConnection(backend);
            _thread = new Thread(Run) { Name = "peer" };
            _thread.Start();
        }

        public SafeFileHandle Frontend { get; }

        public List<FrontendRequest> Requests { get; } = [];

        /// <summary>Inode of the record given, and of the one got.</summary>
        public ulong InflightFile { get; private set; }

        public ulong InflightFileSet { get; private set; }

        public uint BaseOf(uint queue) => _bases[queue];

        public void Dispose()
        {
            _connection.Interrupt();
            _thread.Join();
            _connection.Dispose();
        }

        private void Run()
        {
            using var message = new ReceivedMessage();
            while (_connection.Receive(message) == ReceiveOutcome.Message)
            {
                var request = (FrontendRequest)message.Header.Request;
                Requests.Add(request);
                switch (request)
                {
                    case FrontendRequest.GET_FEATURES:
                        Reply(message, _features);
                        break;
                    case FrontendRequest.GET_PROTOCOL_FEATURES:
                        Reply(message, ulong.MaxValue);
                        break;
                    case FrontendRequest.GET_INFLIGHT_FD:
                        using (var area = new SharedRegion(new SharedRegionOptions(0, 4096)))
                        {
                            InflightFile = InodeOf(area.Handle);
                            var reply = new InflightArea(4096, 0, 1, 8);
                            _connection.SendReply(message.Header.Request, MemoryMarshal.AsBytes(new ReadOnlySpan<InflightArea>(in reply)), [area.Handle]);
                        }

                        break;
                    case FrontendRequest.SET_INFLIGHT_FD:
                        using (SafeFileHandle handle = message.TakeDescriptor(0))
                        {
                            InflightFileSet = InodeOf(handle);
                        }

                        Reply(message, 0);
                        break;
                    default:
                        if (request == FrontendRequest.SET_VRING_BASE)
                        {
                            message.TryReadPayload(out VringState state);
                            _bases[state.Index] = state.Num;
                        }

                        if (message.Header.NeedsReply)
                        {
                            Reply(message, 0);
                        }

                        break;
                }
            }
        }

        private void Reply(ReceivedMessage message, ulong value) =>
            _connection.SendReply(message.Header.Request, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));

        private static ulong InodeOf(SafeFileHandle handle)
        {
            Assert.Equal(0, Syscall.fstat((int)handle.DangerousGetHandle(), out Stat stat));
            return stat.st_ino;
        }
    }
}
