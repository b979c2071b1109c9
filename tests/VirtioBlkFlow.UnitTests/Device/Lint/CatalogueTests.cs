using System.Text;
using VirtioBlkFlow.Device.Lint;
using VirtioBlkFlow.UnitTests.Architecture;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.Virtio.Ring;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device.Lint;

/// <summary>The catalogue is whole, and the document says the same.</summary>
public sealed class CatalogueTests
{
    [Fact]
    public void Every_rule_has_an_entry_in_its_place_and_an_id_of_its_own()
    {
        Assert.Equal(Enum.GetValues<LintRule>(), LintCatalogue.Entries.Select(entry => entry.Rule));
        Assert.Distinct(LintCatalogue.Entries.Select(entry => entry.Id));
        Assert.All(LintCatalogue.Entries, entry =>
        {
            Assert.Matches("^(VIRTIO|VHU)(-[A-Z]+)+$", entry.Id);
            Assert.EndsWith(".", entry.Sentence, StringComparison.Ordinal);
            Assert.NotEmpty(entry.Section);
            Assert.DoesNotContain("{", string.Format(System.Globalization.CultureInfo.InvariantCulture, entry.Seen, 1ul, 2ul), StringComparison.Ordinal);
        });
    }

    [Fact]
    public void Every_rule_is_broken_by_a_test()
    {
        LintRule[] broken = [.. DriverRuleTests.Rules, .. FrontendRuleTests.Rules, .. PackedRuleTests.Rules];
        Assert.Empty(Enum.GetValues<LintRule>().Except(broken));
    }

    [Fact]
    public void Every_mistake_the_session_knows_has_a_rule_and_each_another()
    {
        ProtocolFinding[] findings = [.. Enum.GetValues<ProtocolFinding>().Where(static finding => finding != ProtocolFinding.None)];
        Assert.Distinct(findings.Select(LintRules.Of));
    }

    [Fact]
    public void A_defect_without_a_rule_is_one_of_our_own_limits() => Assert.Equal(
        [RingDefect.None, RingDefect.ChainTooLong],
        Enum.GetValues<RingDefect>().Where(static defect => LintRules.Of(defect) == null));

    [Fact]
    public void The_document_has_the_catalogues_table()
    {
        var table = new StringBuilder("| id | duty | level | where | rule |\n|---|---|---|---|---|\n");
        foreach (LintEntry entry in LintCatalogue.Entries)
        {
            string duty = entry.Duty == LintDuty.Driver ? "driver" : "front-end";
            table.Append(System.Globalization.CultureInfo.InvariantCulture,
                $"| {entry.Id} | {duty} | {entry.Level} | {entry.Specification}, \"{entry.Section}\" | {entry.Sentence} |\n");
        }

        string document = File.ReadAllText(Path.Combine(SourceTree.Root, "docs", "lint.md"));
        Assert.True(document.Contains(table.ToString(), StringComparison.Ordinal), $"docs/lint.md must have this table:\n{table}");
    }
}
