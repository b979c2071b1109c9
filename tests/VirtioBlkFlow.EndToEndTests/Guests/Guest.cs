using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>A virtual machine that runs a scenario on a disk of the daemon.</summary>
internal sealed class Guest(ChildProcess frontend, IDiskServer daemon, GuestScenario scenario) : IAsyncDisposable
{
    /// <summary>A run takes 3 to 15 s on two free cores; a machine that builds something beside it is slower.</summary>
    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(240);

    // Debian's kernel clears each page it gives out. QEMU sees that, and would copy pages whose marks a back-end has forgotten.
    public const string KernelCommandLine = "quiet loglevel=3 panic=-1 random.trust_cpu=on init_on_alloc=0";

    /// <summary>The guest's serial console.</summary>
    public OutputLog Console => frontend.Output;

    public async Task<string> WaitForLineAsync(Func<string, bool> wanted)
    {
        try
        {
            return await Console.WaitForAsync(wanted, s_deadline);
        }
        catch (TimeoutException e)
        {
            throw new TimeoutException($"{e.Message}\n{Diagnosis()}", e);
        }
    }

    /// <summary>Waits until a step of the scenario has succeeded, or the test fails.</summary>
    public async Task WaitForStepAsync(string name)
    {
        string line = await WaitForLineAsync(line =>
            line.StartsWith($"STEP {name} OK", StringComparison.Ordinal) || line.Contains(" FAIL rc=", StringComparison.Ordinal));
        Assert.True(line.StartsWith($"STEP {name} OK", StringComparison.Ordinal), $"{line}\n{Diagnosis()}");
    }

    /// <summary>Waits until a scenario that calls report_written has written so much more than it had at its latest report.</summary>
    /// <returns>What it has written in all, in KiB.</returns>
    public async Task<int> WaitForWrittenAsync(int kibibytes)
    {
        int before = Console.Lines.Select(GuestReport.WrittenKibibytes).LastOrDefault(written => written > 0);
        return GuestReport.WrittenKibibytes(await WaitForLineAsync(line => GuestReport.WrittenKibibytes(line) >= before + kibibytes));
    }

    /// <summary>Waits for the guest to switch itself off. The test fails unless every step of the scenario succeeded.</summary>
    /// <param name="hint">For the message of a failure: what it takes to run the test again.</param>
    /// <param name="deadline">For a run that does more than others; null for the usual.</param>
    public async Task<GuestReport> FinishAsync(string hint = "", TimeSpan? deadline = null)
    {
        bool ended = await frontend.WaitForExitAsync(deadline ?? s_deadline);
        GuestReport report = new(Console.Lines);
        string? fault = ended ? report.FindFault(scenario) : $"the guest was still running after {(deadline ?? s_deadline).TotalSeconds} s";
        if (fault is null && frontend.ExitCode != 0)
        {
            fault = $"the front-end ended with exit code {frontend.ExitCode}";
        }

        if (fault is not null)
        {
            Assert.Fail($"{fault}\n{hint}\n{Diagnosis()}");
        }

        return report;
    }

    /// <summary>Tells a scenario that called wait_for_word to go on (see tests/guest/init).</summary>
    public void SayGoOn() => frontend.WriteLine("go on");

    /// <summary>The front-end dies on the spot, with requests in flight.</summary>
    public Task KillAsync() => frontend.KillAsync();

    public ValueTask DisposeAsync() => frontend.DisposeAsync();

    private string Diagnosis() =>
        $"--- console\n{Console}\n--- front-end\n{frontend.CommandLine}\n{frontend.Errors}\n--- daemon\n{daemon.Log}";
}
