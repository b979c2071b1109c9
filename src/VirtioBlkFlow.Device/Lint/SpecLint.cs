using System.Globalization;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Wire;

namespace VirtioBlkFlow.Device.Lint;

/// <summary>
/// Counts what guest and front-end do against the specifications, and logs it if asked to: each rule once in a session, and a summary at
/// the session's end. A session, because another front-end has another driver behind it, and who corrects his driver and connects again
/// wants to hear whether it helped. Usable from every thread, without locks.
/// </summary>
public sealed class SpecLint : IProtocolObserver
{
    // Fixed at construction.
    private readonly ILogger? _logger;

    // Shared: added to by every queue's thread and the session's.
    private readonly long[] _counts = new long[LintCatalogue.Entries.Count];
    private readonly int[] _isLogged = new int[LintCatalogue.Entries.Count];

    // Owned by the device's actor.
    private readonly long[] _countsBefore = new long[LintCatalogue.Entries.Count];

    /// <summary>Begins with nothing seen.</summary>
    /// <param name="logger">Where to log; null to count only. What goes there is limited: a hostile front-end connects as often as it likes.</param>
    public SpecLint(ILogger? logger) => _logger = logger == null ? null : new LimitedLogger(logger, TimeProvider.System);

    /// <summary>How often a rule was broken since the device exists.</summary>
    public long CountOf(LintRule rule) => Volatile.Read(ref _counts[(int)rule]);

    void IProtocolObserver.OnFinding(ProtocolFinding finding, FrontendRequest request, string seen)
    {
        LintRule rule = LintRules.Of(finding);
        if (IsFirst(rule))
        {
            Report(rule, string.Create(CultureInfo.InvariantCulture, $"{request}: {seen}"));
        }
    }

    /// <summary>A driver broke a rule. Formats and allocates only for what is logged.</summary>
    /// <param name="rule">Which.</param>
    /// <param name="queue">On which queue.</param>
    /// <param name="first">First number of <see cref="LintEntry.Seen"/>.</param>
    /// <param name="second">Second number.</param>
    internal void Count(LintRule rule, int queue, ulong first = 0, ulong second = 0)
    {
        if (IsFirst(rule))
        {
            string seen = string.Format(CultureInfo.InvariantCulture, LintCatalogue.Of(rule).Seen, first, second);
            Report(rule, string.Create(CultureInfo.InvariantCulture, $"queue {queue}: {seen}"));
        }
    }

    /// <summary>A front-end has come. Before any of its queues runs.</summary>
    internal void BeginSession()
    {
        Array.Clear(_isLogged);
        for (int i = 0; i < _counts.Length; i++)
        {
            _countsBefore[i] = Volatile.Read(ref _counts[i]);
        }
    }

    /// <summary>It has left, and none of its queues runs any more.</summary>
    internal void EndSession()
    {
        if (_logger == null)
        {
            return;
        }

        List<string> findings = [];
        foreach (LintEntry entry in LintCatalogue.Entries)
        {
            long count = CountOf(entry.Rule) - _countsBefore[(int)entry.Rule];
            if (count > 0)
            {
                findings.Add(string.Create(CultureInfo.InvariantCulture, $"{entry.Id} {count}"));
            }
        }

        if (findings.Count > 0)
        {
            Log.LintSummary(_logger, string.Join(", ", findings));
        }
    }

    // Whether this occurrence is to be logged.
    private bool IsFirst(LintRule rule)
    {
        Interlocked.Increment(ref _counts[(int)rule]);
        return _logger != null && Volatile.Read(ref _isLogged[(int)rule]) == 0 && Interlocked.Exchange(ref _isLogged[(int)rule], 1) == 0;
    }

    private void Report(LintRule rule, string seen)
    {
        LintEntry entry = LintCatalogue.Of(rule);
        string whose = entry.Duty == LintDuty.Driver ? "driver" : "front-end";
        string level = entry.Level switch
        {
            LintLevel.Must => "MUST",
            LintLevel.Should => "SHOULD",
            LintLevel.Hint => "hint",
            _ => "described",
        };
        Log.LintFinding(_logger!, entry.Id, whose, level, entry.Specification, entry.Section, entry.Sentence, seen);
    }
}
