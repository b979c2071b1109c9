using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Bench;

/// <summary>The page of a comparison in a real browser.</summary>
public class ComparePageTests
{
    private static readonly TimeSpan s_deadline = TimeSpan.FromMinutes(2);

    private static string Sample => File.ReadAllText(Path.Combine(RepoPaths.Root, "tests/VirtioBlkFlow.EndToEndTests/Bench/compare-sample.json"));

    [Theory]
    [InlineData("light")]
    [InlineData("dark")]
    public async Task All_charts_are_drawn(string scheme)
    {
        using TestFolder folder = new();
        await File.WriteAllTextAsync(folder["page.html"], ComparePage.Make(Sample));

        string dom = await OpenAsync(folder, scheme);

        // Two of throughput, one of percentiles (the other disk has one depth), one distribution, two of stages. The script says so at its end.
        Assert.Contains("data-charts=\"6\"", dom, StringComparison.Ordinal);
        Assert.Equal(7, dom.Split("<canvas").Length);
        Assert.Contains("<td>null-randread-4k-qd32</td><td>qemu-storage-daemon</td>", dom, StringComparison.Ordinal);
        // What is in the data is text on the page, whatever it looks like.
        Assert.Contains("a processor &lt;/script&gt;&lt;b&gt;", dom, StringComparison.Ordinal);
    }

    [Fact]
    public void The_page_needs_nothing_else()
    {
        string page = ComparePage.Make(Sample);

        Assert.DoesNotContain("{{", page.Replace("${{", "", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.DoesNotMatch("""(src|href)\s*=|@import|url\(""", page);
    }

    private static Task<string> OpenAsync(TestFolder folder, string scheme) => ChildProcess.RunAsync(
        "chromium",
        [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", $"--blink-settings=preferredColorScheme={(scheme == "dark" ? 0 : 1)}", $"--user-data-dir={folder["profile"]}", "--dump-dom",
            $"file://{folder["page.html"]}",
        ],
        s_deadline);
}
