using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.FuzzTests.Generators;

/// <summary>One message of a stream, right or wrong.</summary>
internal sealed class WireMessage(FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors)
{
    private byte[] _payload = payload;
    private MessageHeader _header = new((uint)request, MessageFlags.Version1, (uint)payload.Length);

    /// <summary>What was twisted about it; empty for a right one.</summary>
    public string Twists { get; private set; } = "";

    public ReadOnlySpan<byte> Payload => _payload;

    public uint Request => _header.Request;

    /// <summary>What comes along with the first byte.</summary>
    public SafeFileHandle[] Descriptors { get; private set; } = descriptors;

    public byte[] Bytes
    {
        get
        {
            byte[] bytes = new byte[MessageHeader.SizeBytes + _payload.Length];
            MemoryMarshal.Write(bytes, in _header);
            _payload.CopyTo(bytes, MessageHeader.SizeBytes);
            return bytes;
        }
    }

    public static WireMessage Of<T>(FrontendRequest request, T payload, params SafeFileHandle[] descriptors)
        where T : unmanaged => new(request, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in payload)).ToArray(), descriptors);

    /// <summary>Asks for an acknowledgement.</summary>
    public WireMessage Acknowledged()
    {
        _header = _header with { Flags = _header.Flags | MessageFlags.NeedReply };
        return this;
    }

    /// <summary>A copy that can be twisted by itself.</summary>
    public WireMessage Copy()
    {
        WireMessage copy = new((FrontendRequest)_header.Request, [.. _payload], Descriptors) { Twists = Twists };
        copy._header = _header;
        return copy;
    }

    /// <summary>Makes one thing about it wrong.</summary>
    /// <param name="random">Which.</param>
    /// <param name="pool">Descriptors to send where none or others belong.</param>
    public void Twist(FuzzRandom random, IReadOnlyList<SafeFileHandle> pool)
    {
        int kind = random.Below(12);
        Twists += $"{(FrontendRequest)_header.Request}:{kind} ";
        switch (kind)
        {
            case 0:
                // The size lies: the next message is taken for payload, or the end of this one for a header.
                _header = _header with { PayloadBytes = (uint)random.Pick<ulong>(0, (ulong)random.Below(64), 4096, 4097, random.NearAnEdge()) };
                break;
            case 1:
                Resize([.. _payload.Take(random.Below(_payload.Length + 1))]);
                break;
            case 2:
                byte[] longer = new byte[_payload.Length + random.Between(1, random.OneIn(4) ? 4096 : 40)];
                random.Fill(longer);
                _payload.CopyTo(longer, 0);
                Resize(longer);
                break;
            case 3:
                _header = _header with { Request = random.OneIn(4) ? (uint)random.NearAnEdge() : (uint)random.Below(48) };
                break;
            case 4:
                _header = _header with { Flags = random.OneIn(2) ? _header.Flags | MessageFlags.Reply : (MessageFlags)random.Next64() };
                break;
            case 5:
                _header = _header with { Flags = _header.Flags ^ MessageFlags.NeedReply };
                break;
            case 6:
                Descriptors = [.. Enumerable.Range(0, random.OneIn(4) ? random.Below(40) : random.Below(3)).Select(_ => pool[random.Below(pool.Count)])];
                break;
            case 7 when Descriptors.Length > 0:
                Descriptors[random.Below(Descriptors.Length)] = pool[random.Below(pool.Count)];
                break;
            case 8 or 9 when _payload.Length >= sizeof(ulong):
                MemoryMarshal.Write(_payload.AsSpan(random.Below(_payload.Length / sizeof(ulong)) * sizeof(ulong)), random.NearAnEdge());
                break;
            case 10 when _payload.Length >= sizeof(uint):
                MemoryMarshal.Write(_payload.AsSpan(random.Below(_payload.Length / sizeof(uint)) * sizeof(uint)), (uint)random.NearAnEdge());
                break;
            default:
                if (_payload.Length > 0)
                {
                    _payload[random.Below(_payload.Length)] ^= (byte)(1 << random.Below(8));
                }

                break;
        }
    }

    private void Resize(byte[] payload)
    {
        _payload = payload;
        _header = _header with { PayloadBytes = (uint)payload.Length };
    }
}
