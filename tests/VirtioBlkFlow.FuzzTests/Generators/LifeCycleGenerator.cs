using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>
/// Stops, resets, disconnects and changes of memory at random moments under a load that never rests. No request may be lost, doubled or
/// done wrong; memory that was taken back stays untouched.
/// </summary>
internal sealed class LifeCycleGenerator : IGenerator
{
    private const int Cases = 60;

    public string Name => "lifecycle";

    public IReadOnlyList<DiskKind> Disks { get; } = [DiskKind.Plain];

    public void RunRound(FuzzTarget target, FuzzRandom random, Action<int> beginCase)
    {
        using Round round = new(target, random);
        for (int i = 0; i < Cases; i++)
        {
            beginCase(i);
            round.DoSomething();
        }

        round.Finish();
    }

    private sealed class Round : IDisposable
    {
        private const ulong MainStart = 0;
        private const ulong MainBytes = 256 << 10;
        private const ulong ElsewhereStart = 1ul << 24;
        private const ulong ElsewhereBytes = 8192;

        private readonly FuzzTarget _target;
        private readonly FuzzRandom _random;
        private readonly SharedMemory _memory = new(new SharedRegionOptions(MainStart, MainBytes), new SharedRegionOptions(ElsewhereStart, ElsewhereBytes));
        private readonly byte[] _pattern = new byte[ElsewhereBytes];
        private readonly NegotiationOptions _options;
        private readonly FrontendQueue _queue;
        private readonly BlockLoad _load;
        private VhostUserFrontend _frontend;
        private Negotiation _negotiation;
        private bool _isRunning;
        private bool _hasElsewhere = true;

        public Round(FuzzTarget target, FuzzRandom random)
        {
            _target = target;
            _random = random;
            _options = new NegotiationOptions
            {
                PreferMemorySlots = random.OneIn(2),
                Features = VirtioFeatures.VIRTIO_F_VERSION_1 | VirtioFeatures.VIRTIO_RING_F_INDIRECT_DESC
                    | (random.OneIn(4) ? 0 : VirtioFeatures.VIRTIO_RING_F_EVENT_IDX)
                    | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_F_RING_PACKED)
                    | (random.OneIn(2) ? 0 : VirtioFeatures.VIRTIO_F_IN_ORDER),
            };
            random.Fill(_pattern);
            (_frontend, _negotiation) = Connect();
            bool indirect = random.OneIn(2);
            bool isPacked = _negotiation.RingFeatures.HasFlag(VirtioFeatures.VIRTIO_F_RING_PACKED);
            int size = isPacked ? random.Between(3, 40) : random.Pick(4, 32);
            _queue = new FrontendQueue(_memory, 0, size, _negotiation.RingFeatures, new DriverRingOptions
            {
                IndirectEntries = indirect ? 4 : 0,
                StartIndex = (ushort)(0 - random.Below(200)),
                StartOffset = random.Below(size),
                StartWrap = random.OneIn(2),
                BufferIds = random.Pick(BufferIds.Ascending, BufferIds.Permuted, BufferIds.Arbitrary),
                Seed = random.Below(int.MaxValue),
            });
            BlkDriver driver = new(_memory, _queue, new BlkDriverOptions
            {
                QueueDepth = random.Between(1, Math.Min(10, size)),
                MaxTransferBytes = BlockLoad.BlockBytes,
                UseIndirect = indirect,
                Wait = CompletionWait.Poll,
            });
            _load = new BlockLoad(_queue, driver, target.Image, new FuzzRandom(random.Next64()), ElsewhereStart);
            Start();
        }

        public void DoSomething()
        {
            if (_random.OneIn(3))
            {
                EnsureRunning();
                _load.RequireProgress(_random.Below(40));
            }

            switch (_random.Below(11))
            {
                case 0:
                    Stop();
                    break;
                case 1:
                    DisableAndEnable();
                    break;
                case 2:
                    Reset();
                    break;
                case 3 or 4 when _negotiation.UsesMemorySlots:
                    TakeMemoryBackAndForth();
                    break;
                case 3 or 4 or 5:
                    ReplaceTable();
                    break;
                case 6:
                    ReplaceDescriptors();
                    break;
                case 7:
                    Require(_frontend.SetFeatures(_negotiation.Features, needReply: true), "SET_FEATURES");
                    break;
                case 8:
                    Require(_frontend.SetConfig(BlkConfig.WritebackOffset, [(byte)_random.Below(2)], needReply: true), "SET_CONFIG");
                    break;
                case 9:
                    Reconnect();
                    break;
                default:
                    RefuseNonsense();
                    break;
            }

            _load.RequireHealthy();
            _target.RequireServing();
        }

        public void Finish()
        {
            EnsureRunning();
            _load.Finish(_target.Image);
            Stop();
            _frontend.Dispose();
            _target.Image.Allow(DiskImage.PlaygroundStart, DiskImage.PlaygroundEnd - DiskImage.PlaygroundStart);
            _target.Image.EndCase();
            FuzzSession.ProveLife(_target);
        }

        public void Dispose()
        {
            _load.Dispose();
            _frontend.Dispose();
            _queue.Dispose();
            _memory.Dispose();
        }

        private (VhostUserFrontend Frontend, Negotiation Negotiation) Connect()
        {
            VhostUserFrontend frontend = VhostUserFrontend.Connect(_target.SocketPath, FuzzSession.DeadlineMs);
            Negotiation negotiation = Negotiation.Run(frontend, _options);
            negotiation.SendMemory(frontend, _memory);
            return (frontend, negotiation);
        }

        // Where the device left off: everything it fetched was returned before it stopped.
        private void Start()
        {
            _queue.Start(_frontend, nextAvailable: _load.Settle());
            _isRunning = true;
        }

        private void EnsureRunning()
        {
            if (!_isRunning)
            {
                Start();
            }
        }

        private void Stop()
        {
            uint next = _queue.Stop(_frontend);
            uint used = _load.Settle();
            if (_isRunning && next != used)
            {
                throw new FindingException(FindingKind.WrongAnswer, $"The queue stopped at 0x{next:x}, and has returned 0x{used:x}.");
            }

            _isRunning = false;
        }

        private void DisableAndEnable()
        {
            Require(_frontend.SetVringEnable(_queue.Index, enable: false, needReply: true), "SET_VRING_ENABLE");
            uint used = _load.Settle();
            _frontend.GetStatus();
            if (_load.Settle() != used)
            {
                throw new FindingException(FindingKind.WrongAnswer, "A disabled queue returns requests.");
            }

            Require(_frontend.SetVringEnable(_queue.Index, enable: true, needReply: true), "SET_VRING_ENABLE");
        }

        private void Reset()
        {
            if (_random.OneIn(2))
            {
                Require(_frontend.ResetDevice(needReply: true), "RESET_DEVICE");
            }
            else
            {
                Require(_frontend.SetStatus(DeviceStatus.Reset, needReply: true), "SET_STATUS");
            }

            _isRunning = false;
            uint used = _load.Settle();
            Require(_frontend.SetFeatures(_negotiation.Features, needReply: true), "SET_FEATURES");
            if (_load.Settle() != used)
            {
                throw new FindingException(FindingKind.WrongAnswer, "A queue returns requests after a reset.");
            }
        }

        private void TakeMemoryBackAndForth()
        {
            SharedRegion elsewhere = _memory.Regions[1];
            if (!_hasElsewhere)
            {
                RequireUntouched();
                Require(_frontend.AddMemReg(elsewhere, needReply: true), "ADD_MEM_REG");
                _hasElsewhere = true;
                return;
            }

            Require(_frontend.RemMemReg(elsewhere, needReply: true), "REM_MEM_REG");
            _hasElsewhere = false;
            _pattern.CopyTo(_memory.Span(ElsewhereStart, (int)ElsewhereBytes));
            if (_random.OneIn(4))
            {
                // The region with the ring: it stops until the memory is back.
                Require(_frontend.RemMemReg(_memory.Regions[0], needReply: true), "REM_MEM_REG");
                Require(_frontend.AddMemReg(_memory.Regions[0], needReply: true), "ADD_MEM_REG");
            }
        }

        private void ReplaceTable()
        {
            if (!_hasElsewhere)
            {
                RequireUntouched();
            }

            byte[] table = MemoryMessages.Table([.. _memory.Regions.Select(VhostUserFrontend.Describe)]);
            if (_random.OneIn(4))
            {
                Ask(FrontendRequest.SET_MEM_TABLE, MemoryMessages.Table());
            }

            Ask(FrontendRequest.SET_MEM_TABLE, table, [.. _memory.Regions.Select(region => region.Handle)]);
            _hasElsewhere = true;
        }

        private void ReplaceDescriptors()
        {
            using EventDescriptor other = new();
            Require(_frontend.SetVringCall(_queue.Index, _random.OneIn(3) ? null : other, needReply: true), "SET_VRING_CALL");
            Require(_frontend.SetVringErr(_queue.Index, _random.OneIn(3) ? null : other, needReply: true), "SET_VRING_ERR");
            if (_isRunning)
            {
                // Without a kick the device must look by itself.
                Require(_frontend.SetVringKick(_queue.Index, _random.OneIn(2) ? null : _queue.Kick, needReply: true), "SET_VRING_KICK");
            }
        }

        private void Reconnect()
        {
            if (_random.OneIn(3))
            {
                // In the middle of a message.
                _frontend.SendRaw(new MessageHeader((uint)FrontendRequest.SET_FEATURES, MessageFlags.Version1, 8), new byte[_random.Below(8)]);
            }

            _frontend.Dispose();
            _isRunning = false;
            (_frontend, _negotiation) = Connect();
            _hasElsewhere = true;
        }

        private void RefuseNonsense()
        {
            ulong answer = _random.Below(4) switch
            {
                0 => _frontend.SetVringNum(_queue.Index, (uint)_random.Pick(0, 65536, _queue.Ring is PackedDriverRing ? 32769 : 3), needReply: true),
                1 => _frontend.SetVringEnable(FuzzTarget.QueueCount, enable: true, needReply: true),
                2 => _frontend.SetFeatures(1ul << 63, needReply: true),
                _ => _frontend.AddMemReg(_memory.Regions[0], needReply: true),
            };
            if (answer == 0)
            {
                throw new FindingException(FindingKind.WrongAnswer, "Nonsense is acknowledged.");
            }
        }

        private void RequireUntouched()
        {
            if (!_memory.Span(ElsewhereStart, (int)ElsewhereBytes).SequenceEqual(_pattern))
            {
                throw new FindingException(FindingKind.MemoryTouched, "Memory that was taken back has been written.");
            }
        }

        private void Ask(FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors)
        {
            _frontend.Send(request, payload, descriptors, needReply: true);
            Require(_frontend.ReceiveReply(request).TryReadPayload(out ulong answer) ? answer : ulong.MaxValue, request.ToString());
        }

        private static void Require(ulong answer, string step)
        {
            if (answer != 0)
            {
                throw new FindingException(FindingKind.WrongAnswer, $"A valid {step} is refused.");
            }
        }
    }
}
