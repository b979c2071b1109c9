using BenchmarkDotNet.Running;
using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Benchmarks.Latency;
using VirtioBlkFlow.Benchmarks.Ratio;
using VirtioBlkFlow.Benchmarks.Self;
using VirtioBlkFlow.Benchmarks.Study;
using VirtioBlkFlow.Benchmarks.Study.Serving;
using VirtioBlkFlow.Device.Latency;

if (args is ["ratio", .. string[] options])
{
    string disk = OptionOf("--disk") ?? "null";
    int rounds = int.Parse(OptionOf("--rounds") ?? "300", System.Globalization.CultureInfo.InvariantCulture);
    StageLatency? rival = OptionOf("--against-stage-latency") is { } name ? Enum.Parse<StageLatency>(name, ignoreCase: true) : null;
    RatioRunner.Run(disk, rounds, rival, OptionOf("--json"));
    return 0;

    string? OptionOf(string name) => Array.IndexOf(options, name) is int place and >= 0 && place + 1 < options.Length ? options[place + 1] : null;
}

if (args is ["compare", .. string[] comparison])
{
    return CompareProgram.Run(comparison);
}

if (args is ["self", .. string[] changes])
{
    return SelfProgram.Run(changes, Console.Out);
}

if (args is ["study", .. string[] study])
{
    return StudyProgram.Run(study);
}

if (args is ["serve", .. string[] serving])
{
    return ServeProgram.Run(serving);
}

if (args is ["latency", ..])
{
    LatencyRunner.Run(rounds: 3);
    return 0;
}

BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
return 0;
