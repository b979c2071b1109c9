using System.Text.Json;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>Limits as JSON: the keys of the command line, with numbers or text for values, and null for no limit.</summary>
internal static class LimitsJson
{
    /// <summary>The limits there are.</summary>
    public static IReadOnlyDictionary<string, ulong> Write(ThrottleLimits limits) =>
        ThrottleKeys.Limits.Where(limit => limit.Of(limits) is not null).ToDictionary(limit => limit.Name, limit => limit.Of(limits)!.Value);

    /// <summary>The limits in words.</summary>
    public static string Describe(ThrottleLimits limits) =>
        Write(limits) is { Count: > 0 } all ? string.Join(", ", all.Select(limit => $"{limit.Key}={limit.Value}")) : "none";

    /// <summary>Changes limits.</summary>
    /// <param name="before">Those that hold where nothing is said.</param>
    /// <param name="body">What is said.</param>
    /// <exception cref="SpecException">It is wrong; the message names the key.</exception>
    public static ThrottleLimits Read(ThrottleLimits before, ReadOnlySpan<byte> body)
    {
        ThrottleLimits limits;
        try
        {
            using var document = JsonDocument.Parse(body.ToArray());
            limits = Read(before, document.RootElement);
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            // The second is for text that is no Unicode, which only shows when it is looked at.
            throw new SpecException($"This is no JSON: {exception.Message}");
        }

        return ThrottleKeys.FindFault(limits) is { } fault ? throw new SpecException($"{char.ToUpperInvariant(fault[0])}{fault[1..]}") : limits;
    }

    private static ThrottleLimits Read(ThrottleLimits before, JsonElement root)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw new SpecException($"Limits are an object, such as {{ \"iops\": 1000, \"bps\": \"100M\", \"burst\": null }}. {Names}");
        }

        ThrottleLimits limits = before;
        HashSet<string> seen = [];
        foreach (JsonProperty property in root.EnumerateObject())
        {
            ThrottleLimit limit = ThrottleKeys.Limits.FirstOrDefault(limit => limit.Name == property.Name)
                ?? throw new SpecException($"There is no limit '{property.Name}'. {Names}");
            if (!seen.Add(limit.Name))
            {
                throw new SpecException($"'{limit.Name}' is given twice. Give it once.");
            }

            limits = limit.With(limits, ValueOf(limit, property.Value));
        }

        return limits;
    }

    private static string Names => $"Names are: {string.Join(", ", ThrottleKeys.Limits.Select(limit => limit.Name))}.";

    private static ulong? ValueOf(ThrottleLimit limit, JsonElement value)
    {
        string? text = value.ValueKind switch
        {
            JsonValueKind.Null => null,
            JsonValueKind.Number => value.GetRawText(),
            JsonValueKind.String => value.GetString()!,
            _ => throw Wrong(limit, value.GetRawText()),
        };
        return text is null ? null : ThrottleKeys.TryParse(limit, text, out ulong number) ? number : throw Wrong(limit, text);
    }

    private static SpecException Wrong(ThrottleLimit limit, string text) =>
        new($"{limit.Name} takes {ThrottleKeys.TakesOf(limit)}, or null for no limit, not '{text}'.");
}
