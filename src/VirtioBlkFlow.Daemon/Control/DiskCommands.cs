using System.Text.Json;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>What the control socket can be told to change. From any thread; one change of limits at a time.</summary>
/// <param name="disks">What is served; does not change any more.</param>
internal sealed class DiskCommands(IReadOnlyList<ServedDisk> disks)
{
    private readonly Lock _changingLimits = new();

    /// <summary>The limits of a disk.</summary>
    public ControlAnswer Limits(string id) => WithDisk(id, disk => disk.Throttle is { } group
        ? ControlAnswer.Done(Report(disk.Spec.ThrottleGroup, group), ControlJson.Default.LimitsReport)
        : NoThrottle(disk));

    /// <summary>Gives a disk other limits.</summary>
    /// <param name="id">The disk.</param>
    /// <param name="body">JSON.</param>
    /// <param name="all">Whether what is not said has no limit; otherwise it stays as it is.</param>
    public ControlAnswer SetLimits(string id, ReadOnlyMemory<byte> body, bool all) => WithDisk(id, disk =>
        disk.Throttle is not { } group ? NoThrottle(disk)
        : disk.Spec.ThrottleGroup is { } name
            ? ControlAnswer.NotPossible($"The limits of disk '{id}' are those of group '{name}', for all its disks: change /v1/groups/{name}/limits.")
            : SetLimits(group, null, body, all, [disk]));

    /// <summary>The limits of a group.</summary>
    public ControlAnswer GroupLimits(string name) => WithGroup(name, members =>
        ControlAnswer.Done(Report(name, members[0].Throttle!), ControlJson.Default.LimitsReport));

    /// <summary>Gives a group other limits.</summary>
    public ControlAnswer SetGroupLimits(string name, ReadOnlyMemory<byte> body, bool all) => WithGroup(name, members =>
        SetLimits(members[0].Throttle!, name, body, all, members));

    /// <summary>What a disk holds because of errors is tried again.</summary>
    public ControlAnswer Resume(string id) => WithDisk(id, disk =>
    {
        int held = disk.HeldCount;
        disk.Resume();
        return ControlAnswer.Done(new ResumeReport(held), ControlJson.Default.ResumeReport);
    });

    /// <summary>Looks whether a disk has another size.</summary>
    public ControlAnswer Resize(string id) => WithDisk(id, disk => disk.Resize() is { } resize
        ? ControlAnswer.Done(new ResizeReport(resize.OldBytes, resize.NewBytes, resize.UnusedBytes), ControlJson.Default.ResizeReport)
        : ControlAnswer.NotPossible("The program is ending."));

    /// <summary>Begins or ends the refresh of a disk.</summary>
    /// <param name="id">The disk.</param>
    /// <param name="body">JSON: <c>{ "run": "read" }</c>, <c>"rewrite"</c> or <c>"stop"</c>.</param>
    public ControlAnswer Refresh(string id, ReadOnlyMemory<byte> body) => WithDisk(id, disk =>
    {
        if (disk.Refresh is not { } refresh)
        {
            return ControlAnswer.NotPossible($"Disk '{id}' is not made to be refreshed: start it with refresh=RATE, or refresh=RATE:on-demand.");
        }

        string? word = WordOf(body);
        if (word is not ("read" or "rewrite" or "stop"))
        {
            return ControlAnswer.Wrong($"A refresh takes {{ \"run\": \"read\" }}, \"rewrite\" or \"stop\"{(word is null ? "" : $", not '{word}'")}.");
        }

        if (word == "rewrite" && refresh.ObstacleToRewrite is { } obstacle)
        {
            return ControlAnswer.NotPossible($"Disk '{id}' cannot be rewritten. {obstacle}");
        }

        if (word == "stop")
        {
            refresh.Stop();
        }
        else
        {
            refresh.Start(rewrite: word == "rewrite");
        }

        return ControlAnswer.Done(DiskReports.Report(disk, refresh), ControlJson.Default.RefreshReport);
    });

    // Null for what is no such object.
    private static string? WordOf(ReadOnlyMemory<byte> body)
    {
        try
        {
            using var document = JsonDocument.Parse(body);
            return document.RootElement.ValueKind == JsonValueKind.Object
                && document.RootElement.EnumerateObject().ToArray() is [{ Name: "run", Value.ValueKind: JsonValueKind.String } run]
                ? run.Value.GetString()
                : null;
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    private static LimitsReport Report(string? group, ThrottleGroup limits) => new(group, LimitsJson.Write(limits.Limits));

    private static ControlAnswer NoThrottle(ServedDisk disk) => ControlAnswer.NotPossible(
        $"Disk '{disk.Spec.Id}' is not made for limits: start it with throttle=on, or with any limit.");

    private ControlAnswer SetLimits(ThrottleGroup group, string? name, ReadOnlyMemory<byte> body, bool all, IReadOnlyList<ServedDisk> members)
    {
        lock (_changingLimits)
        {
            try
            {
                group.Limits = LimitsJson.Read(all ? new ThrottleLimits() : group.Limits, body.Span);
            }
            catch (Exception exception) when (exception is SpecException or DiskOpenException)
            {
                return ControlAnswer.Wrong(exception.Message);
            }

            foreach (ServedDisk disk in members)
            {
                disk.LogLimits(LimitsJson.Describe(group.Limits));
            }

            return ControlAnswer.Done(Report(name, group), ControlJson.Default.LimitsReport);
        }
    }

    private ControlAnswer WithDisk(string id, Func<ServedDisk, ControlAnswer> command) =>
        disks.FirstOrDefault(disk => disk.Spec.Id == id) is { } disk ? command(disk)
        : ControlAnswer.NotThere($"There is no disk '{id}'. /v1/disks lists those there are.");

    private ControlAnswer WithGroup(string name, Func<IReadOnlyList<ServedDisk>, ControlAnswer> command)
    {
        ServedDisk[] members = [.. disks.Where(disk => disk.Spec.ThrottleGroup == name)];
        return members.Length > 0 ? command(members) : ControlAnswer.NotThere($"No disk is in a group '{name}'. /v1/disks tells the group of each.");
    }
}
