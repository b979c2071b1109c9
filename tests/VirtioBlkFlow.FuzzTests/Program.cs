using System.Globalization;
using VirtioBlkFlow.FuzzTests.Harness;
using VirtioBlkFlow.FuzzTests.Hunt;

namespace VirtioBlkFlow.FuzzTests;

/// <summary>The test assembly as a program: the worker that tests start, and what <c>tests/fuzz.sh</c> runs.</summary>
internal static class Program
{
    private static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case [Worker.Verb, _, _, _, _]:
                return Worker.Run(WorkerOrder.Parse(arguments));
            case ["hunt", var minutes]:
                return LongHunt.Run(TimeSpan.FromMinutes(double.Parse(minutes, CultureInfo.InvariantCulture)), (ulong)Random.Shared.NextInt64(), []);
            case ["hunt", var minutes, var seed, .. var names]:
                return LongHunt.Run(
                    TimeSpan.FromMinutes(double.Parse(minutes, CultureInfo.InvariantCulture)), ulong.Parse(seed, CultureInfo.InvariantCulture), names);
            case ["replay", var round]:
                return LongHunt.Replay(RoundId.Parse(round), times: 10);
            default:
                Console.Error.WriteLine("hunt MINUTES [SEED [GENERATOR…]] | replay GENERATOR:SEED");
                return 2;
        }
    }
}
