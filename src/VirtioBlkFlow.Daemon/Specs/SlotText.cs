using System.Globalization;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// The value of -s, as the device models of embedded hypervisors have it (ACRN, "Device Model Parameters", virtio-blk):
/// SLOT,virtio-blk,FILE[,OPTION...].
/// </summary>
internal static class SlotText
{
    public const string Form = "SLOT,virtio-blk,FILE[,OPTION...]";

    public const string Example = "3,virtio-blk,disk.img,writeback,range=2048/65536,sectorsize=512/4096";

    private const string Emulation = "virtio-blk";

    // PCI: 256 buses, 32 devices of 8 functions.
    private const int MaxBus = 255;
    private const int MaxDevice = 31;
    private const int MaxFunction = 7;

    /// <summary>Options that are no keys of ours, and what they mean in ours.</summary>
    public static IReadOnlyList<(string Option, SpecEntry Meaning)> Words { get; } =
        [("writethru", new SpecEntry("cache", "writethrough", "")), ("writeback", new SpecEntry("cache", "writeback", ""))];

    /// <exception cref="SpecException">It is wrong.</exception>
    public static DiskSpec Read(SpecReader reader, string text)
    {
        string origin = $"-s '{text}'";
        IReadOnlyList<string> parts = SpecText.Split(text);
        if (parts.Count < 3 || parts[2].Length == 0)
        {
            throw new SpecException($"{origin}: a slot is {Form}, such as {Example}");
        }

        if (!IsSlot(parts[0]))
        {
            throw new SpecException(
                $"{origin}: '{parts[0]}' is no slot. It is DEVICE, DEVICE:FUNCTION or BUS:DEVICE:FUNCTION, with a bus up to {MaxBus}, a device up to {MaxDevice}, a function up to {MaxFunction}.");
        }

        if (parts[1] != Emulation)
        {
            throw new SpecException($"{origin}: there is no '{parts[1]}' here, only {Emulation}.");
        }

        // The slot is the disk's name and that of its socket.
        SpecEntry[] entries = [new SpecEntry(SocketKeys.Id.Name, parts[0], origin), .. parts.Skip(3).Select(part => EntryOf(part, origin))];
        return reader.Read(origin, DiskKinds.File, parts[2], entries);
    }

    private static SpecEntry EntryOf(string part, string origin)
    {
        SpecEntry entry = SpecText.EntryOf(part, origin);
        foreach ((string option, SpecEntry meaning) in Words)
        {
            if (entry.Key == option && entry.Value is null)
            {
                return meaning with { Origin = origin };
            }
        }

        return entry;
    }

    private static bool IsSlot(string text)
    {
        int[] largest = [MaxBus, MaxDevice, MaxFunction];
        string[] numbers = text.Split(':');
        int[] bounds = numbers.Length switch
        {
            1 => [MaxDevice],
            2 => [MaxDevice, MaxFunction],
            3 => largest,
            _ => [],
        };
        return bounds.Length == numbers.Length && numbers.Zip(bounds).All(pair =>
            int.TryParse(pair.First, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= pair.Second);
    }
}
