using System.Diagnostics;
using System.Globalization;
using System.Text;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.Frontend.Ring;
using VirtioBlkFlow.FuzzTests.Generators;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Target;

namespace VirtioBlkFlow.FuzzTests.Hunt;

/// <summary>What a worker is to do; travels as its arguments.</summary>
/// <param name="Round">The round to run; with a duration the generator, and the seed that seeds of rounds are drawn from.</param>
/// <param name="DurationMs">How long to run rounds; 0 for this one round.</param>
/// <param name="Sabotage">What the device does wrong.</param>
/// <param name="DeadlineMs">How long an answer of the device may take.</param>
internal sealed record WorkerOrder(RoundId Round, int DurationMs, Sabotage Sabotage, int DeadlineMs)
{
    public string[] ToArguments() =>
    [
        Worker.Verb, Round.ToString(), DurationMs.ToString(CultureInfo.InvariantCulture), Sabotage.ToString(), DeadlineMs.ToString(CultureInfo.InvariantCulture),
    ];

    public static WorkerOrder Parse(string[] arguments) => new(
        RoundId.Parse(arguments[1]), int.Parse(arguments[2], CultureInfo.InvariantCulture), Enum.Parse<Sabotage>(arguments[3]),
        int.Parse(arguments[4], CultureInfo.InvariantCulture));
}

/// <summary>
/// The process that has the device and the generators in it, and may die of them. It tells its parent each step before it takes it, a line
/// each: <c>round NAME</c>, <c>case NUMBER</c>, <c>finding KIND BASE64</c>, <c>done</c>.
/// </summary>
internal static class Worker
{
    public const string Verb = "worker";

    private static readonly Stream s_parent = Console.OpenStandardOutput();

    /// <summary>Runs an order.</summary>
    /// <returns>The exit code: 0 without a finding.</returns>
    public static int Run(WorkerOrder order)
    {
        FuzzSession.DeadlineMs = order.DeadlineMs;
        IGenerator generator = AllGenerators.Find(order.Round.Generator);
        FuzzRandom seeds = new(order.Round.Seed);
        Stopwatch elapsed = Stopwatch.StartNew();
        do
        {
            ulong seed = order.DurationMs == 0 ? order.Round.Seed : seeds.Next64();
            Tell($"round {new RoundId(generator.Name, seed)}");
            if (!TryRound(generator, seed, order.Sabotage))
            {
                return 1;
            }
        }
        while (elapsed.ElapsedMilliseconds < order.DurationMs);
        Tell("done");
        return 0;
    }

    private static bool TryRound(IGenerator generator, ulong seed, Sabotage sabotage)
    {
        FuzzTarget? target = null;
        try
        {
            FuzzRandom random = new(seed);
            target = new FuzzTarget(random, sabotage, generator.Disks);
            Footprint before = Footprint.OfIdle(target);
            generator.RunRound(target, random, BeginCase);
            before.RequireAgain(target);
            target.Dispose();
            return true;
        }
        catch (Exception exception)
        {
            // The device may be stuck with what was found: it is left as it is, and the process ends.
            string message = $"{exception}\nthe device's log:\n{target?.RecentLog}";
            Tell($"finding {KindOf(exception)} {Convert.ToBase64String(Encoding.UTF8.GetBytes(message))}");
            return false;
        }
    }

    private static FindingKind KindOf(Exception exception) => exception switch
    {
        FindingException finding => finding.Kind,
        TimeoutException => FindingKind.Hang,
        DeviceBrokeRingException => FindingKind.HeadNotOurs,
        BackendProtocolException or BackendRefusedException or BackendClosedException => FindingKind.WrongAnswer,
        _ => FindingKind.Unexpected,
    };

    private static void BeginCase(int number) => Tell($"case {number}");

    // Straight into the pipe: what is told must have arrived when the process dies.
    private static void Tell(string line) => s_parent.Write(Encoding.UTF8.GetBytes(line + "\n"));
}
