using VirtioBlkFlow.Disks.Nbd;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

public sealed class NbdAddressTests
{
    [Theory]
    [InlineData("nbd+unix:///vm1?socket=/run/nbd.sock", "vm1", "/run/nbd.sock", "", 0)]
    [InlineData("nbd+unix:///?socket=nbd.sock", "", "nbd.sock", "", 0)]
    [InlineData("NBD+UNIX:///a%20b%2fc?socket=/run/x%3Fy=z", "a b/c", "/run/x?y=z", "", 0)]
    [InlineData("nbd://host/vm1", "vm1", null, "host", 10809)]
    [InlineData("nbd://host", "", null, "host", 10809)]
    [InlineData("nbd://10.0.0.1:1234/a/b", "a/b", null, "10.0.0.1", 1234)]
    [InlineData("nbd://[::1]:1234/x", "x", null, "::1", 1234)]
    [InlineData("nbd://[fe80::1]/", "", null, "fe80::1", 10809)]
    public void An_address_is_read_and_is_the_same_when_it_is_read_again(string text, string export, string? socket, string host, int port)
    {
        NbdAddress? address = NbdAddress.Parse(text, out string fault);
        Assert.Equal("", fault);
        Assert.Equal(new NbdAddress(export, socket, host, port), address);
        if (socket?.Contains('?', StringComparison.Ordinal) != true)
        {
            Assert.Equal(address, NbdAddress.Parse(address!.ToString(), out _));
        }
    }

    [Theory]
    [InlineData("", "It takes nbd+unix")]
    [InlineData("nbd", "It takes nbd+unix")]
    [InlineData("nbd:host:10809", "It takes nbd+unix")]
    [InlineData("http://host/", "It takes nbd+unix")]
    [InlineData("nbds://host/", "no TLS")]
    [InlineData("nbds+unix:///?socket=x", "no TLS")]
    [InlineData("nbd+unix:///vm1", "?socket=PATH")]
    [InlineData("nbd+unix:///vm1?socket=", "?socket=PATH")]
    [InlineData("nbd+unix:///vm1?path=/x", "?socket=PATH")]
    [InlineData("nbd+unix://host/vm1?socket=/x", "?socket=PATH")]
    [InlineData("nbd://", "HOST:PORT")]
    [InlineData("nbd:///vm1", "HOST:PORT")]
    [InlineData("nbd://host/vm1?socket=/x", "HOST:PORT")]
    [InlineData("nbd://host:0/", "no port")]
    [InlineData("nbd://host:65536/", "no port")]
    [InlineData("nbd://host:abc/", "no port")]
    [InlineData("nbd://host:/", "no port")]
    public void What_is_none_is_told_what_it_takes(string text, string words)
    {
        Assert.Null(NbdAddress.Parse(text, out string fault));
        Assert.Contains(words, fault, StringComparison.Ordinal);
    }

    [Fact]
    public void What_the_protocol_or_the_host_has_no_room_for_is_refused()
    {
        Assert.Null(NbdAddress.Parse($"nbd://host/{new string('x', 4097)}", out string fault));
        Assert.Contains("4096", fault, StringComparison.Ordinal);
        Assert.Null(NbdAddress.Parse($"nbd+unix:///?socket=/{new string('x', 107)}", out fault));
        Assert.Contains("107", fault, StringComparison.Ordinal);
    }
}
