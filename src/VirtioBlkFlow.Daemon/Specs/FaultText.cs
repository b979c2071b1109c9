using System.Globalization;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>
/// Faults to inject: rules with '+' between them, each words with ':' between them. Operations (none for all), then which of them (rate, times,
/// at), then what happens: error, nospace, unsupported, hang, delay.
/// </summary>
internal static class FaultText
{
    public const string Form = "RULE[+RULE...]";

    public const string Takes =
        "rules with + between: words with : between, of read, write, flush, discard, zeroes, erase, rate=0.01, times=N, at=SECTOR/SECTORS, and at least one of "
        + "error, nospace, unsupported, hang, delay=" + DelayText.Form;

    public const string Example = "write:rate=0.01:error+read:delay=1ms-20ms";

    private const ulong SectorBytes = 512;

    private static readonly Dictionary<string, DiskOperation> s_operations = new()
    {
        ["read"] = DiskOperation.Read,
        ["write"] = DiskOperation.Write,
        ["flush"] = DiskOperation.Flush,
        ["discard"] = DiskOperation.Discard,
        ["zeroes"] = DiskOperation.WriteZeroes,
        ["erase"] = DiskOperation.SecureErase,
    };

    private static readonly Dictionary<string, DiskOutcome> s_outcomes = new()
    {
        ["error"] = DiskOutcome.Failed,
        ["nospace"] = DiskOutcome.NoSpace,
        ["unsupported"] = DiskOutcome.Unsupported,
    };

    /// <summary>The rules, or null if the text is none.</summary>
    public static IReadOnlyList<FaultRule>? TryParse(string text)
    {
        List<FaultRule> rules = [];
        foreach (string rule in text.Split('+'))
        {
            if (TryParseRule(rule) is not { } parsed)
            {
                return null;
            }

            rules.Add(parsed);
        }

        return rules;
    }

    private static FaultRule? TryParseRule(string text)
    {
        var rule = new FaultRule();
        foreach (string word in text.Split(':'))
        {
            if (TryAdd(rule, word) is not { } next)
            {
                return null;
            }

            rule = next;
        }

        bool hasEffect = rule.Outcome is not null || rule.Delay is not null || rule.Hangs;
        return hasEffect && !(rule.Hangs && rule.Outcome is not null) ? rule : null;
    }

    private static FaultRule? TryAdd(FaultRule rule, string word)
    {
        if (s_operations.TryGetValue(word, out DiskOperation operation))
        {
            return rule with { Operations = [.. rule.Operations ?? [], operation] };
        }

        if (s_outcomes.TryGetValue(word, out DiskOutcome outcome))
        {
            return rule.Outcome is null ? rule with { Outcome = outcome } : null;
        }

        (string name, string value) = word.Split('=', 2) is [var first, var second] ? (first, second) : (word, "");
        switch (name)
        {
            case "hang" when value.Length == 0:
                return rule with { Hangs = true };
            case "delay" when DelayText.TryParse(value, out DelayDistribution? delay):
                return rule with { Delay = delay };
            case "rate" when double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double rate) && rate is > 0 and <= 1:
                return rule with { Rate = rate };
            case "times" when ValueText.TryParseCount(value, out ulong times) && times is > 0 and <= long.MaxValue:
                return rule with { Times = (long)times };
            case "at" when ValueText.TryParsePair(value, "/", out ulong start, out ulong? count)
                && start <= long.MaxValue / SectorBytes && count is null or (> 0 and <= long.MaxValue / SectorBytes):
                return rule with { OffsetBytes = start * SectorBytes, LengthBytes = count * SectorBytes };
            default:
                return null;
        }
    }
}
