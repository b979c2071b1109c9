using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Where the sockets of disks are that do not say it themselves.</summary>
/// <param name="Path">For one disk: --socket-path.</param>
/// <param name="Descriptor">For one disk: --fd.</param>
/// <param name="Folder">For any number of them: --socket-dir.</param>
internal sealed record SocketPlaces(string? Path, int? Descriptor, string? Folder);

/// <summary>All disks of the process: what one alone cannot say or check.</summary>
internal static class DiskSet
{
    /// <summary>Gives each disk its name, serial number and socket, and sees to it that no two want the same.</summary>
    /// <exception cref="SpecException">Two do, or one is left without.</exception>
    public static IReadOnlyList<DiskSpec> Complete(IReadOnlyList<DiskSpec> disks, SocketPlaces places)
    {
        List<DiskSpec> complete = [];
        for (int i = 0; i < disks.Count; i++)
        {
            DiskSpec named = disks[i] with { Id = disks[i].Id.Length > 0 ? disks[i].Id : $"disk{i}" };
            complete.Add(WithSocket(WithSerial(named, isAlone: disks.Count == 1), places, isAlone: disks.Count == 1));
        }

        RequireDifferent(complete, disk => disk.Id, (id, _) => $"its id is '{id}'", "Give each disk its own id=.");
        RequireDifferent(
            complete,
            disk => disk.SocketPath is { } path ? Path.GetFullPath(path) : null,
            (_, disk) => $"its socket is '{disk.SocketPath}'",
            "Give each disk its own socket=.");
        RequireDifferent(
            complete, disk => disk.SocketDescriptor?.ToString(), (descriptor, _) => $"its fd is {descriptor}", "Give each disk its own fd=.");
        RequireOwnStorage(complete);
        RequireGroupLimits(complete);
        return complete;
    }

    // A guest tells its disks apart by their serial numbers (/dev/disk/by-id), so they are not all called the same.
    private static DiskSpec WithSerial(DiskSpec disk, bool isAlone) => disk.WithDevice(device => device with
    {
        Serial = disk.Serial ?? (isAlone ? "vblkflow" : disk.Id),
    });

    private static DiskSpec WithSocket(DiskSpec disk, SocketPlaces places, bool isAlone)
    {
        bool hasOwn = disk.SocketPath is not null || disk.SocketDescriptor is not null;
        bool isOfOne = places.Path is not null || places.Descriptor is not null;
        if (disk.SocketPath is not null && disk.SocketDescriptor is not null)
        {
            throw new SpecException($"{disk.Origin}: socket and fd exclude each other: give one of them.");
        }

        if (isOfOne && (hasOwn || !isAlone))
        {
            string option = places.Path is not null ? "--socket-path" : "--fd";
            throw new SpecException(
                hasOwn ? $"{disk.Origin}: it has a socket of its own, and there is {option} too: give one of them."
                : $"{option} is for one disk. Give each disk its own socket=, or all of them --socket-dir DIR.");
        }

        if (hasOwn)
        {
            return disk;
        }

        if (isOfOne)
        {
            return disk with { SocketPath = places.Path, SocketDescriptor = places.Descriptor };
        }

        return places.Folder is not null ? disk with { SocketPath = Path.Combine(places.Folder, $"{disk.Id}.sock") }
            : isAlone ? disk with { SocketPath = DaemonOptions.DefaultSocketPath }
            : throw new SpecException($"{disk.Origin}: it has no socket. Give each disk its own socket=, or all of them --socket-dir DIR.");
    }

    private static void RequireDifferent(
        IEnumerable<DiskSpec> disks, Func<DiskSpec, string?> valueOf, Func<string, DiskSpec, string> sentence, string remedy)
    {
        Dictionary<string, DiskSpec> seen = [];
        foreach (DiskSpec disk in disks)
        {
            if (valueOf(disk) is { } value && !seen.TryAdd(value, disk))
            {
                throw new SpecException($"{disk.Origin}: {sentence(value, disk)}, and so is that of {seen[value].Origin}. {remedy}");
            }
        }
    }

    private static void RequireOwnStorage(IReadOnlyList<DiskSpec> disks)
    {
        foreach (IGrouping<string, DiskSpec> sharers in disks.Where(disk => disk.Kind.StorageOf(disk) is not null).GroupBy(disk => disk.Kind.StorageOf(disk)!))
        {
            // Readers do not disturb one another, and who does without locks has been told.
            if (sharers.Count() > 1 && !sharers.All(disk => disk.ReadOnly) && !sharers.All(disk => !disk.Lock))
            {
                RequireSeparateRanges([.. sharers]);
            }
        }
    }

    // An image is opened once for all of its ranges.
    private static void RequireSeparateRanges(DiskSpec[] sharers)
    {
        for (int i = 1; i < sharers.Length; i++)
        {
            DiskSpec disk = sharers[i];
            foreach (DiskSpec other in sharers.Take(i))
            {
                if (Overlap(disk.Range, other.Range))
                {
                    throw new SpecException(
                        $"{disk.Origin}: {other.Origin} serves the same image '{other.What}'. Two writers would destroy it: serve it once, give all of them ro, or each a range= of its own.");
                }

                if ((disk.Direct, disk.Lock, disk.Memory, disk.Rbd, disk.Nbd) != (other.Direct, other.Lock, other.Memory, other.Rbd, other.Nbd))
                {
                    throw new SpecException(
                        $"{disk.Origin}: {other.Origin} serves a range of the same image '{other.What}' and opens it in another way. Give both the same keys of {disk.Kind}.");
                }
            }
        }
    }

    private static bool Overlap(RangeDiskOptions? one, RangeDiskOptions? other) =>
        one is null || other is null || (one.StartSector < EndOf(other) && other.StartSector < EndOf(one));

    private static ulong EndOf(RangeDiskOptions range) => range.SectorCount is { } count ? range.StartSector + count : ulong.MaxValue;

    private static void RequireGroupLimits(IReadOnlyList<DiskSpec> disks)
    {
        foreach (IGrouping<string, DiskSpec> group in disks.Where(disk => disk.ThrottleGroup is not null).GroupBy(disk => disk.ThrottleGroup!))
        {
            DiskSpec[] limited = [.. group.Where(disk => disk.Throttle is not null && disk.Throttle != new ThrottleLimits())];
            if (group.All(disk => disk.Throttle is null))
            {
                throw new SpecException(
                    $"{group.First().Origin}: nothing says what the limits of group '{group.Key}' are. Give one of its disks iops= or bps=, or throttle for limits that are given later.");
            }

            if (limited.FirstOrDefault(disk => disk.Throttle != limited[0].Throttle) is { } other)
            {
                throw new SpecException(
                    $"{other.Origin}: {limited[0].Origin} gives group '{group.Key}' other limits. Give them to one disk of the group.");
            }
        }
    }
}
