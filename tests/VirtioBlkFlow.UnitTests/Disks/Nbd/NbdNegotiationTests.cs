using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Nbd;
using Xunit;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>What is agreed with a server, what it makes of the disk, and servers with whom there is no agreement.</summary>
public sealed class NbdNegotiationTests
{
    [Fact]
    public void A_disk_is_what_the_server_says()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer { BlockSizes = (4096, 16384, 65536) }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        Assert.Equal(
            new DiskProperties
            {
                CapacityBytes = ScriptedNbdServer.SizeBytes,
                LogicalBlockBytes = 4096,
                PhysicalBlockBytes = 16384,
                CanDiscard = true,
                CanWriteZeroes = true,
            },
            disk.Properties);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Without_sizes_and_abilities_it_is_a_plain_disk(bool hasGo)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer { HasGo = hasGo, HasStructuredReplies = false, Flags = 1 | NBD_FLAG_READ_ONLY }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        Assert.Equal(
            new DiskProperties { CapacityBytes = ScriptedNbdServer.SizeBytes, PhysicalBlockBytes = 4096, ReadOnly = true }, disk.Properties);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, 512, 0, 1, 512));
        Assert.Equal(DiskOutcome.Done, bench.Flush());
        Assert.Equal(DiskOutcome.Done, disk.Flush());
        Assert.Equal(DiskOutcome.Failed, bench.Transfer(DiskOperation.Write, 512, 0, 1, 512));
        Assert.All(server.Requests, request => Assert.Equal(NbdCommand.NBD_CMD_READ, request.Command));
    }

    [Fact]
    public void A_server_that_has_only_export_names_and_sends_zeros_after_them_is_understood()
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Negotiate = connection =>
            {
                // Newstyle, not fixed, without NO_ZEROES.
                byte[] greeting = ScriptedConnection.Greeting();
                greeting[17] = 0;
                connection.Send(greeting);
                Assert.Equal([0, 0, 0, 0], connection.Receive(4));
                connection.Receive(16);
                connection.Send([0, 0, 0, 0, 0, 16, 0, 0, 0, 1, .. new byte[124]]);
                return true;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        Assert.Equal(1ul << 20, disk.Properties.CapacityBytes);
    }

    [Theory]
    [InlineData(NBD_REP_ERR_UNKNOWN, "no export")]
    [InlineData(NBD_REP_ERR_TLS_REQD, "TLS")]
    [InlineData(NBD_REP_ERR_POLICY, "does not let us")]
    [InlineData(NBD_REP_ERR_INVALID, "refuses")]
    [InlineData(NBD_REP_ERR_SHUTDOWN, "shutting down")]
    [InlineData(77u, "makes no sense")]
    [InlineData(NBD_REP_ACK, "makes no sense")]
    public void What_a_server_says_no_with_is_told(uint reply, string words)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Negotiate = connection =>
            {
                connection.Send(ScriptedConnection.Greeting());
                connection.Receive(4 + 16);
                connection.Send(ScriptedConnection.OptionReply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, []));
                connection.Receive(16 + 8);
                connection.Send(ScriptedConnection.OptionReply(NBD_OPT_GO, reply, [.. "reason\n"u8]));
                return false;
            },
        }.Start();
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => NbdDisk.Open(server.Options));
        Assert.Contains(words, exception.Message, StringComparison.Ordinal);
        Assert.Contains(server.Address.ToString(), exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', exception.Message);
    }

    [Theory]
    [InlineData(1000ul, 1u, 512u, 1u << 20, "Pad it to 1024")]
    [InlineData(0ul, 1u, 512u, 1u << 20, "none a disk can have")]
    [InlineData(ulong.MaxValue - 511, 1u, 512u, 1u << 20, "none a disk can have")]
    [InlineData(1ul << 20, 3u, 512u, 1u << 20, "fit no disk")]
    [InlineData(1ul << 20, 0u, 512u, 1u << 20, "fit no disk")]
    [InlineData(1ul << 20, 1u << 17, 1u << 17, 1u << 20, "fit no disk")]
    [InlineData(1ul << 20, 4096u, 4096u, 512u, "fit no disk")]
    public void An_export_that_is_no_disk_is_refused(ulong sizeBytes, uint min, uint preferred, uint max, string words)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer { ExportBytes = sizeBytes, BlockSizes = (min, preferred, max) }.Start();
        Assert.Contains(words, Assert.Throws<DiskOpenException>(() => NbdDisk.Open(server.Options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_server_that_ends_at_any_byte_of_the_negotiation_is_no_server()
    {
        byte[] whole =
        [
            .. ScriptedConnection.Greeting(),
            .. ScriptedConnection.OptionReply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, []),
            .. ScriptedConnection.OptionReply(NBD_OPT_GO, NBD_REP_INFO, [0, (byte)NBD_INFO_EXPORT, .. new byte[10]]),
            .. ScriptedConnection.OptionReply(NBD_OPT_GO, NBD_REP_ACK, []),
        ];
        int cut = 0;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Negotiate = connection =>
            {
                connection.Send(whole.AsSpan(0, cut));
                return false;
            },
        }.Start();
        for (; cut < whole.Length; cut++)
        {
            Assert.Throws<DiskOpenException>(() => NbdDisk.Open(server.Options));
        }
    }

    [Fact]
    public void A_server_with_the_old_style_and_one_that_is_none_are_told_from_others()
    {
        byte[] greeting = [];
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Negotiate = connection =>
            {
                connection.Send(greeting);
                return false;
            },
        }.Start();
        greeting = [.. "NBDMAGIC"u8, 0, 0, 0x42, 0x02, 0x81, 0x86, 0x12, 0x53, .. new byte[136]];
        Assert.Contains("old style", Assert.Throws<DiskOpenException>(() => NbdDisk.Open(server.Options)).Message, StringComparison.Ordinal);
        greeting = [.. "SSH-2.0-OpenSSH_9.2p1 Debian"u8];
        Assert.Contains("no NBD server", Assert.Throws<DiskOpenException>(() => NbdDisk.Open(server.Options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_server_that_says_nothing_or_is_not_there_is_waited_for_only_so_long()
    {
        var patience = TimeSpan.FromMilliseconds(50);
        using (ScriptedNbdServer silent = new ScriptedNbdServer { Negotiate = connection => connection.Receive(1).Length > 1 }.Start())
        {
            Assert.Contains(
                "in time", Assert.Throws<DiskOpenException>(() => NbdDisk.Open(silent.Options with { Timeout = patience })).Message, StringComparison.Ordinal);
        }

        using var folder = new NbdTestFolder();
        DiskOpenException exception = Assert.Throws<DiskOpenException>(() => NbdDisk.Open(new NbdDiskOptions { Address = folder.Address, Timeout = patience }));
        Assert.Contains("Check that the server runs", exception.Message, StringComparison.Ordinal);
        NbdAddress nowhere = NbdAddress.Parse("nbd://127.0.0.1:1/x", out _)!;
        Assert.Throws<DiskOpenException>(() => NbdDisk.Open(new NbdDiskOptions { Address = nowhere, Timeout = patience }));
    }

    [Theory]
    [InlineData("0.0.0.0")]
    [InlineData("::")]
    [InlineData("no host")]
    [InlineData("much")]
    public void A_host_there_cannot_be_is_an_address_that_cannot_be_opened(string host)
    {
        host = host == "much" ? new string('a', 300) : host;
        Assert.Throws<DiskOpenException>(() => NbdDisk.Open(new NbdDiskOptions { Address = new NbdAddress("", null, host, 1) }));
    }
}
