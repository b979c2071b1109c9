using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using Xunit;

namespace VirtioBlkFlow.UnitTests.VhostUser;

public sealed class ConfigTests : IDisposable
{
    private readonly RecordingBackend _backend = new();
    private readonly RawFrontend _frontend;

    public ConfigTests()
    {
        _frontend = new RawFrontend(_backend);
        _frontend.Negotiate();
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(0, 8)]
    [InlineData(0, 36)]
    [InlineData(0, 48)]
    [InlineData(0, 57)]
    [InlineData(0, 60)]
    [InlineData(0, 96)]
    [InlineData(0, 256)]
    [InlineData(20, 3)]
    [InlineData(32, 1)]
    [InlineData(255, 1)]
    [InlineData(256, 0)]
    [InlineData(0, 0)]
    public void Reads_every_size_at_every_offset(uint offset, uint size)
    {
        var header = new ConfigHeader(offset, size, 1);
        var reply = _frontend.Ask(FrontendRequest.GET_CONFIG, [.. RawFrontend.Bytes(header), .. new byte[size]]);

        Assert.Equal(12 + (int)size, reply.Length);
        Assert.Equal(RawFrontend.Bytes(header), reply[..12]);
        for (var i = 0u; i < size; i++)
        {
            Assert.Equal(offset + i < 60 ? offset + i + 1 : 0, reply[12 + i]);
        }
    }

    [Theory]
    [InlineData(0, 257)]
    [InlineData(1, 256)]
    [InlineData(257, 0)]
    [InlineData(uint.MaxValue, 1)]
    [InlineData(uint.MaxValue, 256)]
    [InlineData(0, 4000)]
    public void Answers_with_an_empty_payload_beyond_256_bytes(uint offset, uint size)
    {
        var reply = _frontend.Ask(FrontendRequest.GET_CONFIG, [.. RawFrontend.Bytes(new ConfigHeader(offset, size, 0)), .. new byte[size]]);
        Assert.Empty(reply);
        _frontend.Barrier();
    }

    [Theory]
    [InlineData(8u, 7)]
    [InlineData(8u, 9)]
    [InlineData(uint.MaxValue, 0)]
    public void Closes_the_connection_when_the_size_is_not_that_of_the_data(uint size, int data)
    {
        _frontend.Send(FrontendRequest.GET_CONFIG, [.. RawFrontend.Bytes(new ConfigHeader(0, size, 0)), .. new byte[data]]);
        _frontend.ExpectClosed();
        Assert.Equal(SessionOutcome.ProtocolViolation, _frontend.End());
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(1u)]
    [InlineData(2u)]
    public void Hands_a_write_to_the_device_with_its_flags(uint flags)
    {
        Assert.Equal(0UL, Write(new ConfigHeader(32, 1, flags), 1));
        Assert.Contains($"WriteConfig 32 01 {flags}", _backend.Calls);
    }

    [Fact]
    public void Refuses_writes_the_device_or_the_space_has_no_room_for()
    {
        Assert.NotEqual(0UL, Write(new ConfigHeader(0, 1, 0), 1));
        Assert.NotEqual(0UL, Write(new ConfigHeader(256, 1, 0), 1));
        Assert.NotEqual(0UL, Write(new ConfigHeader(32, 0, 0)));
        Assert.NotEqual(0UL, Write(new ConfigHeader(uint.MaxValue, 1, 0), 1));
        Assert.Single(_backend.Calls, call => call.StartsWith("WriteConfig", StringComparison.Ordinal));
    }

    [Fact]
    public void Ignores_a_refused_write_that_asks_for_no_acknowledgement()
    {
        _frontend.Send(FrontendRequest.SET_CONFIG, [.. RawFrontend.Bytes(new ConfigHeader(0, 1, 0)), 1]);
        _frontend.Barrier();
    }

    public void Dispose() => _frontend.Dispose();

    private ulong Write(ConfigHeader header, params byte[] data) =>
        _frontend.SendForAck(FrontendRequest.SET_CONFIG, [.. RawFrontend.Bytes(header), .. data]);
}
