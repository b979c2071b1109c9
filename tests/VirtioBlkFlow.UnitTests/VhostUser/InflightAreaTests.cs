using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

/// <summary>GET_INFLIGHT_FD and SET_INFLIGHT_FD. What the device writes into the area is not the session's matter.</summary>
public sealed class InflightAreaTests : IDisposable
{
    private const ulong User = 0x7000_0000;
    private readonly TestFiles _ram = new(0x10000);
    private readonly TestFiles _area = new(0x4000);
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public InflightAreaTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
        _frontend.Send(
            FrontendRequest.SET_MEM_TABLE,
            [.. RawFrontend.Bytes(new MemoryTableHeader(1, 0)), .. RawFrontend.Bytes(new MemoryRegion(0, 0x10000, User, 0))],
            _ram.Handle);
    }

    /// <summary>For 4 queues of 64 descriptors, as the recording device wants it for split rings.</summary>
    private static InflightDescription Fitting { get; } = new(4 * 64 * 16, 0, 4, 64);

    [Theory] // VU-08
    [InlineData(20)]
    [InlineData(24)]
    public void Makes_an_area_of_zeros_that_keeps_its_size_and_answers_in_the_size_of_the_question(int payloadBytes)
    {
        var answer = Get(new InflightDescription(0, 0, 3, 32), payloadBytes, out var file);
        using (file)
        {
            Assert.Equal(new InflightDescription(3 * 32 * 16, 0, 3, 32), answer);
            var contents = new byte[4096];
            Assert.Equal(3 * 32 * 16, RandomAccess.Read(file!, contents, 0));
            Assert.All(contents, value => Assert.Equal(0, value));
            Assert.NotEqual(0, Syscall.ftruncate(Number(file!), 0));
            Assert.NotEqual(0, Syscall.ftruncate(Number(file!), 1 << 20));
            // The back-end closes its own when the answer is on its way.
            Assert.True(SpinWait.SpinUntil(() => CountDescriptors(file!) == 1, TimeSpan.FromSeconds(30)), "The back-end keeps the area open.");
        }
    }

    [Fact]
    public unsafe void What_GET_has_made_SET_hands_to_the_queue_and_both_can_be_repeated()
    {
        var answer = Get(new InflightDescription(0, 0, 4, 64), 24, out var file);
        Assert.Equal(answer, Get(new InflightDescription(0, 0, 4, 64), 24, out var other));
        Assert.NotEqual(Inode(file!), Inode(other!));
        other!.Dispose();
        for (var i = 0; i < 10; i++)
        {
            Assert.Equal(0UL, Set(answer, file!));
        }

        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        var area = _backend.Running[1].InflightArea;
        Assert.Equal((answer.LengthBytes, 4, 64), (area.LengthBytes, area.QueueCount, area.QueueSize));
        *(byte*)area.Address = 0x5a;
        var read = new byte[1];
        RandomAccess.Read(file!, read, 0);
        Assert.Equal(0x5a, read[0]);
        Assert.Equal(1, CountDescriptors(file!));
        file!.Dispose();
    }

    [Theory]
    [InlineData(0, 64)]
    [InlineData(4, 0)]
    [InlineData(5, 64)]
    [InlineData(65535, 65535)]
    [InlineData(4, 32769)]
    public void Answers_with_length_0_and_no_descriptor_when_there_can_be_no_area(int queueCount, int queueSize)
    {
        var answer = Get(new InflightDescription(0x1234, 0x5678, (ushort)queueCount, (ushort)queueSize), 24, out var file);
        Assert.Null(file);
        Assert.Equal(new InflightDescription(0, 0, (ushort)queueCount, (ushort)queueSize), answer);
        Assert.NotEqual(0UL, Set(new InflightDescription(0x4000, 0, (ushort)queueCount, (ushort)queueSize), _area.Handle));
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(ulong.MaxValue)]
    [InlineData(1UL << 63)]
    public void Answers_with_length_0_when_the_device_says_what_no_file_can_have(ulong bytes)
    {
        _backend.AreaBytes = (_, _, _) => bytes;
        Assert.Equal(0UL, Get(Fitting, 20, out var file).LengthBytes);
        Assert.Null(file);
    }

    [Theory] // HARD-22
    [InlineData(0UL, 0UL, 1)]
    [InlineData(0xfffUL, 0UL, 1)] // Less than the records need.
    [InlineData(0x4001UL, 0UL, 1)]
    [InlineData(0x1000UL, 0x3040UL, 1)]
    [InlineData(0x1000UL, 0x20UL, 1)]
    [InlineData(0x1000UL, ulong.MaxValue - 0x3f, 1)]
    [InlineData(1UL << 60, 0UL, 1)]
    [InlineData(ulong.MaxValue, 0x40UL, 1)]
    [InlineData(0x1000UL, 0UL, 0)]
    [InlineData(0x1000UL, 0UL, 2)]
    public void Refuses_an_area_that_makes_no_sense_and_keeps_the_one_before(ulong lengthBytes, ulong offset, int descriptors)
    {
        Assert.Equal(0UL, Set(Fitting, _area.Handle));
        var bad = new InflightDescription(lengthBytes, offset, 4, 64);
        Assert.NotEqual(0UL, Set(bad, Enumerable.Repeat(_area.Handle, descriptors).ToArray()));
        Assert.Equal((1, 1), (_area.CountMappings(), _area.CountDescriptors()));
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        Assert.Equal(0x1000UL, _backend.Running[1].InflightArea.LengthBytes);
    }

    [Fact]
    public unsafe void Honours_the_offset_of_an_area()
    {
        RandomAccess.Write(_area.Handle, [0x77], 0x2040);
        Assert.Equal(0UL, Set(Fitting with { MmapOffset = 0x2040 }, _area.Handle));
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        Assert.Equal(0x77, *(byte*)_backend.Running[1].InflightArea.Address);
    }

    [Fact]
    public void Refuses_another_area_while_a_queue_runs()
    {
        Assert.Equal(0UL, Set(Fitting, _area.Handle));
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        Assert.NotEqual(0UL, Set(Fitting, _area.Handle));
        _frontend.Send(FrontendRequest.SET_VRING_ENABLE, new VringState(1, 0));
        Assert.Equal(0UL, Set(Fitting, _area.Handle));
        Assert.Equal((1, 1), (_area.CountMappings(), _area.CountDescriptors()));
    }

    [Theory]
    [InlineData(3, 64, 0UL)] // Vring 3 is the fourth.
    [InlineData(4, 8, 0UL)] // It has 16 descriptors.
    [InlineData(4, 64, RecordingBackend.Packed)] // Records of packed rings are larger.
    public void Refuses_to_start_a_queue_the_area_has_no_room_for(int queueCount, int queueSize, ulong kind)
    {
        var area = Fitting with { QueueCount = (ushort)queueCount, QueueSize = (ushort)queueSize };
        Assert.Equal(0UL, Set(area, _area.Handle));
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30 | kind);
        _frontend.Send(FrontendRequest.SET_VRING_NUM, new VringState(3, 16));
        _frontend.Send(FrontendRequest.SET_VRING_ADDR, TestFiles.VringAt(3, User));
        _frontend.Send(FrontendRequest.SET_VRING_KICK, 0x103UL);
        Assert.NotEqual(0UL, _frontend.SendForAck(FrontendRequest.SET_VRING_ENABLE, new VringState(3, 1)));
        Assert.Empty(_backend.Running);
    }

    [Theory]
    [InlineData(FrontendRequest.RESET_DEVICE)]
    [InlineData(FrontendRequest.SET_STATUS)]
    public void A_reset_drops_the_area_after_the_queues_have_stopped(FrontendRequest reset)
    {
        Assert.Equal(0UL, Set(Fitting, _area.Handle));
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        var mappedWhileStopping = 0;
        _backend.WhileStopping = () => mappedWhileStopping = _area.CountMappings();
        _frontend.Send(reset, reset == FrontendRequest.SET_STATUS ? new byte[8] : []);
        _frontend.Send(FrontendRequest.SET_FEATURES, RecordingBackend.Version1 | RawFrontend.Bit30);
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        Assert.Equal(1, mappedWhileStopping);
        Assert.True(_backend.Running[1].InflightArea.IsNone);
        Assert.Equal((0, 1), (_area.CountMappings(), _area.CountDescriptors()));
    }

    [Fact]
    public void A_queue_that_stops_and_starts_again_keeps_the_area()
    {
        Assert.Equal(0UL, Set(Fitting, _area.Handle));
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        var area = _backend.Running[1].InflightArea;
        _frontend.Ask(FrontendRequest.GET_VRING_BASE, RawFrontend.Bytes(new VringState(1, 0)));
        _frontend.StartVring(1, TestFiles.VringAt(1, User));
        Assert.Equal(area, _backend.Running[1].InflightArea);
    }

    [Fact] // HARD-23
    public void A_hundred_connections_leave_no_mapping_and_no_descriptor()
    {
        using var log = new TestFiles(0x1000);
        for (var i = 0; i < 100; i++)
        {
            var backend = new RecordingBackend();
            using var frontend = new RawFrontend(backend);
            frontend.Negotiate();
            Assert.Equal(0UL, frontend.SendForAck(FrontendRequest.SET_INFLIGHT_FD, Fitting, _area.Handle));
            Assert.Equal(0UL, frontend.SendForAck(FrontendRequest.SET_LOG_BASE, new LogDescription(0x1000, 0), log.Handle));
            frontend.SendRaw(RawFrontend.Message(FrontendRequest.SET_INFLIGHT_FD, new byte[24]).AsSpan(0, 20), _area.Handle); // Dies amid a message.
            Assert.Equal(SessionOutcome.FrontendLeft, frontend.Leave());
        }

        Assert.Equal((0, 1), (_area.CountMappings(), _area.CountDescriptors()));
        Assert.Equal((0, 1), (log.CountMappings(), log.CountDescriptors()));
    }

    public void Dispose()
    {
        _frontend.Dispose();
        _ram.Dispose();
        _area.Dispose();
    }

    private static int Number(SafeFileHandle file) => (int)file.DangerousGetHandle();

    private static (ulong Device, ulong Inode) Inode(SafeFileHandle file)
    {
        Assert.Equal(0, Syscall.fstat(Number(file), out var status));
        return (status.st_dev, status.st_ino);
    }

    /// <summary>How many descriptors of this process lead to a file that has no name.</summary>
    private static int CountDescriptors(SafeFileHandle file)
    {
        var inode = Inode(file);
        return Directory.GetFiles("/proc/self/fd").Count(link =>
            Syscall.stat(link, out var status) == 0 && (status.st_dev, status.st_ino) == inode);
    }

    private InflightDescription Get(InflightDescription wanted, int payloadBytes, out SafeFileHandle? file)
    {
        var payload = new byte[payloadBytes];
        RawFrontend.Bytes(wanted).CopyTo(payload, 0);
        _frontend.Send(FrontendRequest.GET_INFLIGHT_FD, payload);
        var reply = _frontend.ReceiveReply(FrontendRequest.GET_INFLIGHT_FD, out file);
        Assert.Equal(payloadBytes, reply.Length);
        return MemoryMarshal.Read<InflightDescription>(reply);
    }

    private ulong Set(InflightDescription area, params SafeFileHandle[] files) => _frontend.SendForAck(FrontendRequest.SET_INFLIGHT_FD, area, files);
}
