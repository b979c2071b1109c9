using System.Text.Json;
using VirtioBlkFlow.Benchmarks.Self;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Bench;

/// <summary>The daemon beside itself, as short as it goes: what comes of it is looked at, and no time.</summary>
public sealed class SelfProgramTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    // A cell in which neither side keeps a processor to itself: in half a second on a machine that is busy, others may not see a single request.
    [Fact]
    public void The_file_holds_what_was_measured()
    {
        (int exitCode, string text) = Run("shared-core-null-qd1-sleep,start,footprint,idle");

        Assert.True(exitCode == ProgramEnd.Success, text);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(_folder["self.json"]));
        JsonElement cell = Assert.Single(json.RootElement.GetProperty("cells").EnumerateArray());
        Assert.Equal(["no-poll", "adaptive"], cell.GetProperty("variants").EnumerateArray().Select(variant => variant.GetProperty("name").GetString()));
        Assert.All(
            cell.GetProperty("variants").EnumerateArray(),
            variant => Assert.True(Assert.Single(variant.GetProperty("runs").EnumerateArray()).GetProperty("iops").GetDouble() > 0));
        Assert.Equal("adaptive", Assert.Single(cell.GetProperty("ratios").EnumerateArray()).GetProperty("variant").GetString());
        // One restart says nothing about a goal.
        JsonElement[] quantities = [.. json.RootElement.GetProperty("alone").EnumerateArray()];
        Assert.Equal(
            ["start-to-listening", "start-to-first-answer", "own-memory", "idle-cpu", "idle-switches"],
            quantities.Select(quantity => quantity.GetProperty("name").GetString()).Distinct());
        Assert.All(quantities, quantity => Assert.Single(quantity.GetProperty("values").EnumerateArray()));
        Assert.All(quantities[..3], quantity => Assert.True(quantity.GetProperty("median").GetDouble() > 0));
        Assert.Contains("adaptive / no-poll", text, StringComparison.Ordinal);
        AssertNothingIsLeft();
    }

    [Fact]
    public void A_request_allocates_nothing_in_any_mode_of_the_server()
    {
        (int exitCode, string text) = Run("allocation");

        Assert.True(exitCode == ProgramEnd.Success, text);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(_folder["self.json"]));
        JsonElement[] modes = [.. json.RootElement.GetProperty("alone").EnumerateArray()];
        Assert.Contains("threads", modes.Select(mode => mode.GetProperty("subject").GetString()));
        Assert.All(modes, mode =>
        {
            Assert.Equal("allocated-per-request", mode.GetProperty("name").GetString());
            // An object of the smallest size for each request would be 24 bytes.
            Assert.True(mode.GetProperty("median").GetDouble() < 1, text);
        });
        AssertNothingIsLeft();
    }

    [Fact]
    public void Neighbours_are_served_beside_the_one_that_is_busy_and_go_with_it()
    {
        (int exitCode, string text) = Run("neighbours");

        Assert.True(exitCode == ProgramEnd.Success, text);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(_folder["self.json"]));
        JsonElement cell = json.RootElement.GetProperty("cells")[0];
        Assert.Equal(["64-disks", "64-attached"], cell.GetProperty("quantities").EnumerateArray().Select(quantity => quantity.GetProperty("subject").GetString()));
        AssertNothingIsLeft();
    }

    [Fact]
    public void A_program_that_does_not_serve_is_named_in_the_results()
    {
        (int exitCode, string text) = Run("stage-latency", program: "/bin/false");

        Assert.True(exitCode == ProgramEnd.Failure, text);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(_folder["self.json"]));
        JsonElement skipped = json.RootElement.GetProperty("cells")[0].GetProperty("skipped");
        Assert.Contains("does not listen", skipped.GetProperty("on").GetString(), StringComparison.Ordinal);
        AssertNothingIsLeft();
    }

    private (int ExitCode, string Text) Run(string cells, string? program = null)
    {
        using var output = new StringWriter();
        int exitCode = SelfProgram.Run(
            [
                "--program", program ?? RepoPaths.Daemon, "--folder", _folder.FullName, "--json", _folder["self.json"], "--cells", cells, "--restarts", "1",
                "--seconds", "0.5", "--settle-seconds", "0.1", "--idle-seconds", "0.2", "--file-mib", "4",
            ],
            output);
        return (exitCode, output.ToString());
    }

    private void AssertNothingIsLeft() => Assert.Equal(["self.json"], Directory.EnumerateFileSystemEntries(_folder.FullName).Select(Path.GetFileName));
}
