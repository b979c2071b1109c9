using System.Buffers.Binary;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Nbd;
using VirtioBlkFlow.UnitTests.Virtio;
using Xunit;
using Xunit.Abstractions;
using static VirtioBlkFlow.Disks.Nbd.NbdWire;

namespace VirtioBlkFlow.UnitTests.Disks.Nbd;

/// <summary>Replies as servers give them, and as none should.</summary>
public sealed class NbdReplyTests(ITestOutputHelper output)
{
    private const int MemoryOffset = 4096;
    private const int ReadBytes = 8192;
    private const ulong DiskOffset = 65536;

    /// <summary>Ways to answer a read of 8192 bytes that make no sense.</summary>
    public static TheoryData<string, IoEngineKind> Nonsense
    {
        get
        {
            var rows = new TheoryData<string, IoEngineKind>();
            foreach (string name in s_nonsense.Keys)
            {
                rows.Add(name, IoEngineKind.IoUring);
                rows.Add(name, IoEngineKind.Threads);
            }

            return rows;
        }
    }

    private static readonly Dictionary<string, Func<ScriptedRequest, byte[]>> s_nonsense = new()
    {
        ["no magic"] = _ => [.. Enumerable.Repeat((byte)0xa5, 64)],
        ["a request"] = request => RequestFor(request),
        ["somebody else's"] = request => ScriptedConnection.DataChunk(request with { Cookie = request.Cookie + 1 }, DiskOffset, new byte[ReadBytes], isLast: true),
        ["a slot that is not there"] = request => ScriptedConnection.Chunk(request with { Cookie = request.Cookie | 0xffff }, NBD_REPLY_TYPE_NONE, [], isLast: true),
        ["a slot that is free"] = request => ScriptedConnection.Chunk(request with { Cookie = 9 }, NBD_REPLY_TYPE_NONE, [], isLast: true),
        ["before the request"] = request => ScriptedConnection.DataChunk(request, DiskOffset - 512, new byte[1024], isLast: false),
        ["behind the request"] = request => ScriptedConnection.DataChunk(request, DiskOffset + ReadBytes - 512, new byte[1024], isLast: false),
        ["far behind the request"] = request => ScriptedConnection.DataChunk(request, ulong.MaxValue - 100, new byte[1024], isLast: false),
        ["more than the request"] = request => ScriptedConnection.DataChunk(request, DiskOffset, new byte[ReadBytes + 1], isLast: false),
        ["much more than the request"] = request => Length(ScriptedConnection.DataChunk(request, DiskOffset, new byte[16], isLast: false), uint.MaxValue),
        ["less than the request"] = request => ScriptedConnection.DataChunk(request, DiskOffset, new byte[ReadBytes - 512], isLast: true),
        ["less than the request, and more behind it"] = request =>
        [
            .. ScriptedConnection.DataChunk(request, DiskOffset, new byte[ReadBytes - 512], isLast: true),
            .. ScriptedConnection.DataChunk(request, DiskOffset, new byte[512], isLast: true),
        ],
        ["nothing at all"] = request => ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_NONE, [], isLast: true),
        ["twice"] = request =>
        [
            .. ScriptedConnection.DataChunk(request, DiskOffset, new byte[ReadBytes], isLast: false),
            .. ScriptedConnection.DataChunk(request, DiskOffset, new byte[512], isLast: true),
        ],
        ["data of no length"] = request => ScriptedConnection.DataChunk(request, DiskOffset, [], isLast: false),
        ["a hole behind the request"] = request => ScriptedConnection.HoleChunk(request, DiskOffset + ReadBytes - 512, 1024, isLast: true),
        ["a hole of everything"] = request => ScriptedConnection.HoleChunk(request, 0, uint.MaxValue, isLast: true),
        ["a hole of nothing"] = request => ScriptedConnection.HoleChunk(request, DiskOffset, 0, isLast: true),
        ["a hole of the wrong size"] = request => ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_OFFSET_HOLE, new byte[13], isLast: true),
        ["an error that is none"] = request => ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_ERROR_BIT | 1, new byte[6], isLast: true),
        ["an error without a number"] = request => ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_ERROR_BIT | 1, new byte[5], isLast: true),
        ["an endless error"] = request => Length(ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_ERROR_BIT | 1, new byte[6], isLast: true), 1 << 20),
        ["nothing with something"] = request => ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_NONE, new byte[3], isLast: true),
        ["nothing and more to come"] = request => ScriptedConnection.Chunk(request, NBD_REPLY_TYPE_NONE, [], isLast: false),
        ["a type there is not"] = request => ScriptedConnection.Chunk(request, 77, new byte[3], isLast: true),
        ["simple after all"] = request => [.. ScriptedConnection.Simple(request, 0), .. new byte[ReadBytes]],
    };

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [MemberData(nameof(Nonsense))]
    public void Nonsense_ends_the_connection_and_the_request_is_asked_again(string name, IoEngineKind engine)
    {
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                if (connection.Number > 1)
                {
                    return ScriptedAnswer.Serve;
                }

                connection.Send(s_nonsense[name](request));
                return ScriptedAnswer.Nothing;
            },
        }.Start();
        new Random(7).NextBytes(server.Image);
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, engine);
        bench.Memory.Fill(0xee);

        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, DiskOffset, MemoryOffset, 2, ReadBytes / 2));

        Assert.Equal(2, server.Connections);
        RequireOnlyTheRead(bench, server);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_reply_that_ends_at_any_byte_is_asked_again(IoEngineKind engine)
    {
        int cut = 0;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                byte[] answer = connection.AnswerTo(request);
                int bytes = Interlocked.Exchange(ref cut, -1);
                connection.Send(bytes >= 0 ? answer.AsSpan(0, Math.Min(bytes, answer.Length)) : answer);
                return bytes >= 0 ? ScriptedAnswer.Close : ScriptedAnswer.Nothing;
            },
        }.Start();
        new Random(8).NextBytes(server.Image);
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, engine);
        // Header, offset, data, the last chunk.
        foreach (int bytes in (int[])[.. Enumerable.Range(0, 34), 1000, 28 + ReadBytes - 1, 28 + ReadBytes, 28 + ReadBytes + 1, 28 + ReadBytes + 19])
        {
            cut = bytes;
            bench.Memory.Fill(0xee);
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, DiskOffset, MemoryOffset, 2, ReadBytes / 2));
            RequireOnlyTheRead(bench, server);
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Chunks_come_in_any_order_with_holes_and_byte_by_byte(IoEngineKind engine)
    {
        bool isSlow = false;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                byte[] data = [.. Enumerable.Range(0, 3000).Select(i => (byte)(i % 251))];
                byte[] answer =
                [
                    .. ScriptedConnection.DataChunk(request, DiskOffset + 5192, data, isLast: false),
                    .. ScriptedConnection.HoleChunk(request, DiskOffset + 1000, 4192, isLast: false),
                    .. ScriptedConnection.DataChunk(request, DiskOffset, data[..1000], isLast: true),
                ];
                // As it is now: once the last byte is sent, the test goes on.
                int step = isSlow ? 1 : answer.Length;
                for (int at = 0; at < answer.Length; at += step)
                {
                    connection.Send(answer.AsSpan(at, step));
                }

                return ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, engine);
        for (int round = 0; round < 2; round++)
        {
            isSlow = round == 1;
            bench.Memory.Fill(0xee);
            Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Read, DiskOffset, 0, 4, ReadBytes / 4));
            for (int i = 0; i < ReadBytes; i++)
            {
                int expected = i < 1000 ? i % 251 : i < 5192 ? 0 : (i - 5192) % 251;
                Assert.True(bench.Memory[i] == expected, $"Byte {i} is {bench.Memory[i]}.");
            }
        }

        Assert.Equal(1, server.Connections);
    }

    [Theory]
    [InlineData(true, NBD_EIO, DiskOutcome.Failed)]
    [InlineData(false, NBD_EIO, DiskOutcome.Failed)]
    [InlineData(true, NBD_ENOSPC, DiskOutcome.NoSpace)]
    [InlineData(false, NBD_ENOSPC, DiskOutcome.NoSpace)]
    [InlineData(true, 12345u, DiskOutcome.Failed)]
    public void Errors_are_the_requests_and_the_connection_goes_on(bool isStructured, uint error, DiskOutcome outcome)
    {
        bool fails = true;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            HasStructuredReplies = isStructured,
            Script = (connection, request) =>
            {
                if (!fails)
                {
                    return ScriptedAnswer.Serve;
                }

                if (isStructured && request.Command == NbdCommand.NBD_CMD_READ)
                {
                    // Some of it was fine.
                    connection.Send(ScriptedConnection.DataChunk(request, request.OffsetBytes, new byte[512], isLast: false));
                }

                connection.Send(connection.Error(request, error));
                return ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options);
        using var bench = new DiskBench(disk, IoEngineKind.Threads);
        Assert.Equal(outcome, bench.Transfer(DiskOperation.Read, 0, 0, 1, 4096));
        Assert.Equal(outcome, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        Assert.Equal(outcome, bench.Ranges(DiskOperation.Discard, false, new DiskRange(0, 4096, false)));
        fails = false;
        Assert.Equal(DiskOutcome.Done, bench.Transfer(DiskOperation.Write, 0, 0, 1, 4096));
        Assert.Equal(1, server.Connections);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Whatever_a_server_answers_each_request_ends_once_and_nothing_else_is_touched(IoEngineKind engine)
    {
        int seed = TestSeed.Take(output);
        int left = 60;
        using ScriptedNbdServer server = new ScriptedNbdServer
        {
            Script = (connection, request) =>
            {
                var random = new Random(HashOf(seed, request.Cookie, connection.Number));
                if (random.Next(3) != 0 || Interlocked.Decrement(ref left) < 0)
                {
                    return ScriptedAnswer.Serve;
                }

                // An answer with a few bytes changed, cut, or with something between.
                byte[] answer = connection.AnswerTo(request);
                for (int i = random.Next(4); i >= 0; i--)
                {
                    answer[random.Next(Math.Min(answer.Length, 48))] ^= (byte)(1 << random.Next(8));
                }

                connection.Send(answer.AsSpan(0, random.Next(2) == 0 ? answer.Length : random.Next(answer.Length)));
                return random.Next(2) == 0 ? ScriptedAnswer.Close : ScriptedAnswer.Nothing;
            },
        }.Start();
        using NbdDisk disk = NbdDisk.Open(server.Options with { Timeout = TimeSpan.FromMilliseconds(50), ServerKeepsWrites = true });
        using var bench = new DiskBench(disk, engine);
        for (int round = 0; round < 20; round++)
        {
            bench.Memory.Fill(0xee);
            for (int slot = 0; slot < 16; slot++)
            {
                DiskOperation operation = slot % 3 == 0 ? DiskOperation.Write : DiskOperation.Read;
                bench.Start(slot, operation, (ulong)slot * 8192, 4096 + (slot * 16384), 2, 4096, durable: slot % 2 == 0);
            }

            Assert.Equal(16, bench.Finish(16).Count);
            Assert.Equal(-1, bench.Memory[..4096].IndexOfAnyExcept((byte)0xee));
            for (int slot = 0; slot < 16; slot++)
            {
                Assert.Equal(-1, bench.Memory.Slice(4096 + (slot * 16384) + 8192, 8192).IndexOfAnyExcept((byte)0xee));
            }
        }
    }

    private static void RequireOnlyTheRead(DiskBench bench, ScriptedNbdServer server)
    {
        Assert.True(bench.Memory.Slice(MemoryOffset, ReadBytes).SequenceEqual(server.Image.AsSpan((int)DiskOffset, ReadBytes)), "It is read as it is.");
        Assert.Equal(-1, bench.Memory[..MemoryOffset].IndexOfAnyExcept((byte)0xee));
        Assert.Equal(-1, bench.Memory[(MemoryOffset + ReadBytes)..].IndexOfAnyExcept((byte)0xee));
    }

    private static byte[] RequestFor(ScriptedRequest request)
    {
        byte[] bytes = new byte[RequestBytes];
        WriteRequest(bytes, 0, NbdCommand.NBD_CMD_READ, request.Cookie, 0, 0);
        return bytes;
    }

    private static byte[] Length(byte[] chunk, uint lengthBytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(chunk.AsSpan(16), lengthBytes);
        return chunk;
    }

    // The same in every process, as System.HashCode is not.
    private static int HashOf(int seed, ulong cookie, int connection) => unchecked((seed * 486187739) + ((int)cookie * 16777619) + (connection * 31));
}
