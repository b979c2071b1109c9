using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Inflight;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Device;

/// <summary>The area of all queues' records as the session has it, and the part of it that is one queue's.</summary>
internal static class InflightAreas
{
    /// <summary>Bytes for a number of queues of one size.</summary>
    public static ulong BytesFor(int queueCount, int queueSize, ulong features) =>
        (ulong)InflightLayout.TotalBytes(IsPacked(features), queueSize, queueCount);

    /// <summary>One queue's part. Its place comes from the size the area was made for, which a queue may stay below.</summary>
    public static InflightArea Of(InflightMapping mapping, int queueIndex, ulong features)
    {
        if (mapping.IsNone)
        {
            return default;
        }

        bool packed = IsPacked(features);
        return new InflightArea(
            mapping.Address + (nint)InflightLayout.Offset(packed, mapping.QueueSize, queueIndex),
            (ulong)InflightLayout.BytesPerQueue(packed, mapping.QueueSize));
    }

    private static bool IsPacked(ulong features) => ((VirtioFeatures)features & VirtioFeatures.VIRTIO_F_RING_PACKED) != 0;
}
