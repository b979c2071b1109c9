using System.Globalization;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Device.Reactor;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Keys about how the queues of a device are served: what costs and saves time, and changes nothing else.</summary>
internal static class QueueKeys
{
    public static SpecKey Poll { get; } = SpecKey.Choice(
        "poll",
        "What a queue does before it sleeps: spin for ever, spin a little where it pays, or not spin.",
        [("always", PollMode.Always), ("adaptive", PollMode.Adaptive), ("never", PollMode.Never)],
        (spec, mode) => spec.WithDevice(device => device with { Polling = mode }));

    public static SpecKey Merge { get; } = SpecKey.Flag(
        "merge",
        "Do reads or writes that lie one behind the other on the disk, and come together, as one.",
        "off",
        (spec, on) => spec.WithDevice(device => device with { JoinAdjacent = on }));

    public static SpecKey CallModeration { get; } = new()
    {
        Name = "call-moderation",
        Form = "MICROSECONDS/COMPLETIONS",
        Takes = $"microseconds, 1 to {VirtioBlkFlow.Device.CallModeration.MaxMicroseconds}, and behind a slash or a comma completions, "
            + $"2 to {VirtioBlkFlow.Device.CallModeration.MaxCompletions}; or off",
        Meaning = "Let a call to the driver wait so long, or for so many completions, while other requests are in flight.",
        Example = "50/8",
        Set = SetCallModeration,
    };

    public static SpecKey RegisterMemory { get; } = SpecKey.Flag(
        "register-memory",
        "Pin the guest's memory, for less CPU in each transfer. Not for guests with a balloon, free page reporting or postcopy.",
        "on",
        (spec, on) => spec.WithDevice(device => device with { RegisterMemory = on }));

    public static SpecKey Processors { get; } = new()
    {
        Name = "cpus",
        Form = "N[/N...]",
        Takes = "processors this program may run on, with slashes or commas between them; or any",
        Meaning = "Run the queues on these processors, one each and again from the start.",
        Example = "0",
        Set = SetProcessors,
    };

    public static IReadOnlyList<SpecKey> All { get; } = [Poll, Merge, CallModeration, RegisterMemory, Processors];

    private static DiskSpec? SetCallModeration(DiskSpec spec, string text)
    {
        if (text == "off")
        {
            return spec.WithDevice(device => device with { CallModeration = null });
        }

        return ValueText.TryParsePair(text, "/,", out ulong microseconds, out ulong? completions)
            && microseconds is >= 1 and <= VirtioBlkFlow.Device.CallModeration.MaxMicroseconds
            && completions is >= 2 and <= VirtioBlkFlow.Device.CallModeration.MaxCompletions
            ? spec.WithDevice(device => device with { CallModeration = new CallModeration((int)microseconds, (int)completions) })
            : null;
    }

    private static DiskSpec? SetProcessors(DiskSpec spec, string text)
    {
        List<int> processors = [];
        foreach (string number in text == "any" ? [] : text.Split('/', ','))
        {
            if (!int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int processor)
                || !VirtioBlkFlow.Device.Reactor.Processors.IsUsable(processor))
            {
                return null;
            }

            processors.Add(processor);
        }

        return spec.WithDevice(device => device with { Processors = processors });
    }
}
