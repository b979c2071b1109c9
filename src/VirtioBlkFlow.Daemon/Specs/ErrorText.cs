using VirtioBlkFlow.Disks.Wrapping;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>What to do about errors of a disk: report, hold, hold-enospc, or retry:N[:TIME][:hold|:hold-enospc].</summary>
internal static class ErrorText
{
    public const string Form = "report|hold|hold-enospc|retry:N[:TIME][:hold|:hold-enospc]";

    // Arbitrary: who wants more wants it held.
    private const ulong MostRetries = 1_000_000;

    /// <summary>Before each retry unless told. Arbitrary: long enough to be no load, short enough for a guest not to notice.</summary>
    private static readonly TimeSpan s_retryDelay = TimeSpan.FromMilliseconds(100);

    /// <summary>The policy, or null if the text is none.</summary>
    public static ErrorPolicyOptions? TryParse(string text)
    {
        string[] words = text.Split(':');
        if (words[0] != "retry")
        {
            return words.Length == 1 && LastResortOf(words[0]) is { } then ? new ErrorPolicyOptions(Then: then) : null;
        }

        if (words.Length < 2 || !ValueText.TryParseCount(words[1], out ulong retries) || retries is 0 or > MostRetries)
        {
            return null;
        }

        var policy = new ErrorPolicyOptions((int)retries, s_retryDelay);
        int next = 2;
        if (next < words.Length && DelayText.TryParseTime(words[next], out TimeSpan delay))
        {
            policy = policy with { RetryDelay = delay };
            next++;
        }

        if (next < words.Length && LastResortOf(words[next]) is { } last)
        {
            policy = policy with { Then = last };
            next++;
        }

        return next == words.Length ? policy : null;
    }

    private static LastResort? LastResortOf(string word) => word switch
    {
        "report" => LastResort.Report,
        "hold" => LastResort.Hold,
        "hold-enospc" => LastResort.HoldNoSpace,
        _ => null,
    };
}
