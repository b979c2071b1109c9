using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.VhostUser.Connection;

/// <summary>
/// One message as it came in: header, payload, descriptors. Reusable: the next
/// <see cref="VhostUserConnection.Receive"/> clears it. Owned by the thread that receives.
/// </summary>
public sealed class ReceivedMessage : IDisposable
{
    private readonly byte[] _payload = new byte[ProtocolLimits.MaxPayloadBytes];
    private readonly List<SafeFileHandle?> _descriptors = new(ProtocolLimits.MaxDescriptors);

    /// <summary>The header. Version and size were checked; whether it is a request or a reply was not.</summary>
    public MessageHeader Header { get; internal set; }

    /// <summary>The payload, <see cref="MessageHeader.PayloadBytes"/> bytes; valid until the next receive.</summary>
    public ReadOnlySpan<byte> Payload => _payload.AsSpan(0, (int)Header.PayloadBytes);

    /// <summary>Number of descriptors that came with the first byte, taken or not.</summary>
    public int DescriptorCount => _descriptors.Count;

    /// <summary>After <see cref="ReceiveOutcome.ProtocolViolation"/>: what was wrong. Otherwise null.</summary>
    public string? Violation { get; internal set; }

    internal Memory<byte> PayloadBuffer => _payload;

    /// <summary>Reads a fixed-size payload.</summary>
    /// <param name="value">The payload, if its length is exactly that of <typeparamref name="T"/>.</param>
    /// <returns>False if the length differs.</returns>
    public bool TryReadPayload<T>(out T value)
        where T : unmanaged
    {
        value = default;
        return Payload.Length == Unsafe.SizeOf<T>() && MemoryMarshal.TryRead(Payload, out value);
    }

    /// <summary>Makes the caller the owner of a descriptor.</summary>
    /// <param name="index">0 to <see cref="DescriptorCount"/> - 1.</param>
    /// <exception cref="InvalidOperationException">It was taken before.</exception>
    public SafeFileHandle TakeDescriptor(int index)
    {
        var descriptor = _descriptors[index] ?? throw new InvalidOperationException("The descriptor was taken before.");
        _descriptors[index] = null;
        return descriptor;
    }

    /// <summary>Closes every descriptor nobody has taken; header and payload stay readable.</summary>
    public void CloseDescriptors()
    {
        foreach (var descriptor in _descriptors)
        {
            descriptor?.Dispose();
        }

        _descriptors.Clear();
    }

    /// <summary>Closes every descriptor nobody has taken.</summary>
    public void Dispose() => Clear();

    internal void AddDescriptor(SafeFileHandle descriptor) => _descriptors.Add(descriptor);

    internal void Clear()
    {
        CloseDescriptors();
        Header = default;
        Violation = null;
    }
}
