using System.Globalization;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>What a guest said on its console; tests/guest/init describes the lines.</summary>
internal sealed class GuestReport(IReadOnlyList<string> console)
{
    /// <summary>The last value reported under a name.</summary>
    public string this[string name]
    {
        get
        {
            string prefix = $"RESULT {name} ";
            string line = console.LastOrDefault(l => l.StartsWith(prefix, StringComparison.Ordinal))
                ?? throw new KeyNotFoundException($"The guest did not report {name}.\n{string.Join('\n', console)}");
            return line[prefix.Length..].Trim();
        }
    }

    /// <summary>What a line of report_written says the guest has written so far; 0 for any other line.</summary>
    public static int WrittenKibibytes(string line)
    {
        const string Prefix = "RESULT written_kibibytes ";
        return line.StartsWith(Prefix, StringComparison.Ordinal) ? int.Parse(line[Prefix.Length..], CultureInfo.InvariantCulture) : 0;
    }

    /// <summary>True if the driver and the device agreed on the feature bit; needs <see cref="Scenarios.ReportFeatures"/>.</summary>
    public bool HasFeature(int bit) => this["features"][bit] == '1';

    /// <summary>Null if all steps succeeded in their order and the scenario came to its end; otherwise what is wrong.</summary>
    public string? FindFault(GuestScenario scenario)
    {
        string? failure = console.FirstOrDefault(l => l.StartsWith("STEP ", StringComparison.Ordinal) && l.Contains(" FAIL ", StringComparison.Ordinal));
        if (failure is not null)
        {
            return $"the guest reports: {failure}";
        }

        // Each boot begins with a step of its own.
        IEnumerable<string> succeeded = console
            .Where(l => l.StartsWith("STEP ", StringComparison.Ordinal))
            .Select(l => l.Split(' ')[1])
            .Where(name => name != "disk_is_there");
        string? missing = scenario.Steps.Except(succeeded).FirstOrDefault();
        if (missing is not null)
        {
            return $"the step '{missing}' was never reported";
        }

        if (!succeeded.SequenceEqual(scenario.Steps))
        {
            return "the steps were reported in another order";
        }

        return console.Contains("DONE") ? null : "the scenario did not come to its end";
    }
}
