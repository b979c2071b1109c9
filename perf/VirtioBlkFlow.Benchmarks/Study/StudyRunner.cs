using System.Globalization;
using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Benchmarks.Ratio;
using VirtioBlkFlow.Benchmarks.Servers;

namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>
/// Runs the variants and the driver alone in turns of a few milliseconds in one process, forth in one round and back in the next, so that a
/// machine that changes its speed changes it for all. Of CPU time the ratio to the hand-written loop of the same round is taken.
/// </summary>
internal sealed class StudyRunner(StudyOptions options, TextWriter log)
{
    private static readonly int[] s_depths = [1, 8, 32, 128];

    /// <summary>Runs all cells, and writes a table of each as it is done.</summary>
    public StudyFigures Run()
    {
        DateTimeOffset startedAt = DateTimeOffset.UtcNow;
        Machine machine = MachineFacts.Read(TestFile.Folder, []);
        log.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"CPU of the process in ns per request and its ratio to the hand-written loop, medians of {options.Rounds} rounds with 95 % intervals; a round is QD requests made available at once"));
        bool isPrecompiled = Environment.GetEnvironmentVariable("DOTNET_ReadyToRun") != "0";
        if (isPrecompiled)
        {
            log.WriteLine("Stock blocks run as they were compiled ahead of time, and are slower for it: set DOTNET_ReadyToRun=0.");
        }

        return new StudyFigures(
            StudyFigures.CurrentSchema, startedAt, machine, isPrecompiled, options.Rounds, StudyContestant.SliceMilliseconds, [.. options.Disks.SelectMany(RunDisk)]);
    }

    private List<StudyCell> RunDisk(string disk)
    {
        using TestFile? file = disk == StudyOptions.FileDisk ? TestFile.Create() : null;
        var cells = new List<StudyCell>();
        foreach (int depth in s_depths)
        {
            StudyCell cell = Measure(disk, depth, file);
            Write(cell);
            cells.Add(cell);
        }

        return cells;
    }

    private StudyCell Measure(string disk, int depth, TestFile? file)
    {
        StudyContestant[] variants =
        [
            .. Variants.All.Select(
                variant => new StudyContestant(file is null ? StudyBenches.OnNull(variant, depth) : StudyBenches.OnFile(variant, depth, file), depth)),
        ];
        var driver = new StudyContestant(Bench.DriverOnly(depth, TestFile.Sectors), depth);
        StudyContestant[] all = [.. variants, driver];
        Array.ForEach(all, contestant => contestant.WarmUp());
        double[][] cpu = [.. all.Select(_ => new double[options.Rounds])];
        double[][] others = [.. all.Select(_ => new double[options.Rounds])];
        for (int round = 0; round < options.Rounds; round++)
        {
            for (int i = 0; i < all.Length; i++)
            {
                int turn = round % 2 == 0 ? i : all.Length - 1 - i;
                cpu[turn][round] = all[turn].CpuSlice(out others[turn][round]);
                if (all[turn] != driver)
                {
                    all[turn].LatencySlice();
                }
            }
        }

        double[] hand = cpu[(int)Variant.HandWritten];
        VariantFigures[] figures =
        [
            .. Variants.All.Select(variant => new VariantFigures(
                Variants.NameOf(variant),
                Sample.Of(cpu[(int)variant]),
                RatioEstimate.MedianOf(others[(int)variant]),
                Sample.Of(cpu[(int)variant].Zip(hand, (one, other) => one / other)),
                variants[(int)variant].BytesPerRequest,
                variants[(int)variant].RoundMicroseconds(0.5),
                variants[(int)variant].RoundMicroseconds(0.99))),
        ];
        Array.ForEach(all, contestant => contestant.Dispose());
        return new StudyCell(disk, depth, Sample.Of(cpu[^1]), figures);
    }

    private void Write(StudyCell cell)
    {
        log.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{cell.Disk}, QD {cell.Depth}; the driver's part is {cell.DriverNanoseconds.Median:F1} ns"));
        log.WriteLine("                    CPU ns   of others   / hand-written          bytes   round p50 µs   p99 µs");
        foreach (VariantFigures figures in cell.Variants)
        {
            Sample ratio = figures.Ratio;
            log.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"  {figures.Variant,-14} {figures.CpuNanoseconds.Median,9:F1} {figures.OtherThreadsNanoseconds,11:F1}   {ratio.Median,6:F3} [{ratio.IntervalLow:F3} {ratio.IntervalHigh:F3}] {figures.BytesPerRequest,9:F2} {figures.RoundP50Microseconds,14:F2} {figures.RoundP99Microseconds,8:F2}"));
        }
    }
}
