using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>Requests put together by hand.</summary>
internal static class WireBytes
{
    public static byte[] Of<T>(T value)
        where T : unmanaged
    {
        byte[] bytes = new byte[Unsafe.SizeOf<T>()];
        MemoryMarshal.Write(bytes, in value);
        return bytes;
    }

    /// <summary>The payload of SET_MEM_TABLE.</summary>
    public static byte[] Table(params MemoryRegion[] regions) => [.. Of(new MemoryTableHeader((uint)regions.Length, 0)), .. regions.SelectMany(Of)];

    /// <summary>Sends with NEED_REPLY, and gives the acknowledgement.</summary>
    public static ulong Ask(this VhostUserFrontend frontend, FrontendRequest request, byte[] payload, params SafeFileHandle[] descriptors)
    {
        frontend.Send(request, payload, descriptors, needReply: true);
        Assert.True(frontend.ReceiveReply(request).TryReadPayload(out ulong answer), "The answer is no u64.");
        return answer;
    }
}
