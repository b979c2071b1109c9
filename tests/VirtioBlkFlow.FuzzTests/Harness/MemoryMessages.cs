using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>Payloads of the messages about memory.</summary>
internal static class MemoryMessages
{
    /// <summary>ADD_MEM_REG and REM_MEM_REG.</summary>
    public static byte[] Single(MemoryRegion region)
    {
        byte[] payload = new byte[SingleMemoryRegion.SizeBytes];
        MemoryMarshal.Write(payload, new SingleMemoryRegion(0, region));
        return payload;
    }

    /// <summary>SET_MEM_TABLE.</summary>
    public static byte[] Table(params ReadOnlySpan<MemoryRegion> regions)
    {
        byte[] payload = new byte[MemoryTableHeader.SizeBytes + (regions.Length * MemoryRegion.SizeBytes)];
        MemoryMarshal.Write(payload, new MemoryTableHeader((uint)regions.Length, 0));
        MemoryMarshal.AsBytes(regions).CopyTo(payload.AsSpan(MemoryTableHeader.SizeBytes));
        return payload;
    }
}
