using System.Diagnostics;
using VirtioBlkFlow.Benchmarks.Compare;
using VirtioBlkFlow.Frontend.Load;
using VirtioBlkFlow.Frontend.Protocol;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>What is measured without comparing: the start, memory with one disk, what a request allocates, and a process that has nothing to do.</summary>
internal sealed class MeasuredAlone(SelfOptions options, TextWriter log)
{
    /// <summary>Names, for choosing.</summary>
    public static IReadOnlyList<string> Names { get; } = ["start", "footprint", "allocation", "idle"];

    private const int RequestsBeforeFootprint = 1000;

    private static readonly TimeSpan s_startDeadline = TimeSpan.FromSeconds(30);

    // The goals: start to serving and memory of the published program; an idle process.
    private static readonly Bound s_startMs = Bound.AtMost(120);
    private static readonly Bound s_footprintBytes = Bound.AtMost(45e6);
    private static readonly Bound s_idlePercent = Bound.AtMost(0.5);

    // "No periodic wake-ups": a timer of two seconds or less is above this.
    private static readonly Bound s_idleSwitches = Bound.AtMost(0.5);

    // 0 bytes for each request; what is below this is the control socket's.
    private static readonly Bound s_requestBytes = Bound.AtMost(0.5);

    // Ways to serve, and the options that make them.
    private static readonly (string Name, string Options)[] s_ways =
    [
        ("adaptive", ""), ("poll", "--poll"), ("no-poll", "--no-poll"), ("threads", "--io-engine threads"), ("direct", "--direct"),
        ("registered", "--register-memory"), ("moderated", "--call-moderation 50/8"), ("timed-all", "--stage-latency all"), ("lint", "--lint"),
    ];

    // Ways to be idle, and the options that make them.
    private static readonly (string Name, string Options)[] s_idleWays =
    [
        ("adaptive", ""), ("no-poll", "--no-poll"), ("threads", "--io-engine threads"), ("control", "--control {control}"),
    ];

    /// <summary>Runs those that were chosen. The file is there already.</summary>
    /// <exception cref="CompareException">A server failed.</exception>
    public IReadOnlyList<Quantity> Run()
    {
        var quantities = new List<Quantity>();
        foreach (string name in options.Alone)
        {
            IReadOnlyList<Quantity> measured = name switch
            {
                "start" => Start(),
                "footprint" => Footprint(),
                "allocation" => Allocation(),
                _ => Idle(),
            };
            log.WriteLine(name);
            SelfReport.WriteQuantities(log, measured);
            quantities.AddRange(measured);
        }

        return quantities;
    }

    // The program as it was built, and as it ships if that is there.
    private (string Name, string Path)[] Programs => [("built", options.Program), .. options.Published is { } path ? [("published", path)] : ((string, string)[])[]];

    private string Serve(string program, string more = "") =>
        options.Fill($"{Contestant.Quote(program)} --blk-file {{file}} --no-lock --socket-path {{socket}} {more}".TrimEnd());

    private Dictionary<string, List<T>> EachInTurn<T>(IReadOnlyList<(string Name, string What)> subjects, Func<string, T> measure)
    {
        var values = subjects.ToDictionary(subject => subject.Name, _ => new List<T>());
        for (int restart = 0; restart < options.Restarts; restart++)
        {
            foreach ((string name, string what) in CompareRunner.InTurn(subjects, restart))
            {
                try
                {
                    values[name].Add(measure(what));
                }
                catch (Exception exception) when (SelfRunner.IsOfTheServer(exception))
                {
                    throw new CompareException($"{name}: {exception.Message}");
                }
            }
        }

        return values;
    }

    private Quantity[] Start()
    {
        Dictionary<string, List<(double Listening, double Answered)>> times = EachInTurn(Programs, TimeOfStart);
        return
        [
            .. times.SelectMany(subject => (Quantity[])
            [
                new("start-to-listening", subject.Key, "ms", [.. subject.Value.Select(time => time.Listening)], null),
                new("start-to-first-answer", subject.Key, "ms", [.. subject.Value.Select(time => time.Answered)], subject.Key == "published" ? s_startMs : null),
            ]),
        ];
    }

    // Looked at each millisecond. The fork and the shell that becomes the program are in it.
    private (double ListeningMs, double AnsweredMs) TimeOfStart(string program)
    {
        string command = Serve(program);
        long begin = Stopwatch.GetTimestamp();
        using RunningServer server = RunningServer.Launch(command, options.SocketPath, options.ServerCpu);
        while (true)
        {
            if (File.Exists(options.SocketPath) && TryConnect() is { } frontend)
            {
                using (frontend)
                {
                    double listening = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
                    frontend.GetFeatures();
                    return (listening, Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
                }
            }

            if (server.HasExited || Stopwatch.GetElapsedTime(begin) > s_startDeadline)
            {
                server.Dispose();
                throw new CompareException($"{command}\ndoes not listen: {server.WhatItSaid()}");
            }

            Thread.Sleep(1);
        }
    }

    private VhostUserFrontend? TryConnect()
    {
        try
        {
            return VhostUserFrontend.Connect(options.SocketPath);
        }
        catch (IOException)
        {
            // Bound, and does not listen yet.
            return null;
        }
    }

    private Quantity[] Footprint() =>
    [
        .. EachInTurn(Programs, BytesAfterRequests).Select(subject => new Quantity("own-memory", subject.Key, "bytes", subject.Value, s_footprintBytes)),
    ];

    private double BytesAfterRequests(string program)
    {
        using RunningServer server = RunningServer.Start(Serve(program), options.SocketPath, options.ServerCpu);
        using var driver = new AttachedDriver(options.SocketPath);
        driver.Read(RequestsBeforeFootprint);
        return ProcessUsage.ReadMemory(server.ProcessId)?.OwnBytes ?? throw new CompareException("The server has ended.");
    }

    private Quantity[] Allocation() =>
    [
        .. EachInTurn(s_ways, BytesOfARequest).Select(subject => new Quantity("allocated-per-request", subject.Key, "bytes", subject.Value, s_requestBytes)),
    ];

    private double BytesOfARequest(string more)
    {
        using RunningServer server = RunningServer.Start(Serve(options.Program, more + " --cache writeback --control {control}"), options.SocketPath, options.ServerCpu);
        return RequestAllocation.Measure(options.SocketPath, options.Fill("{control}"));
    }

    private Quantity[] Idle()
    {
        Dictionary<string, List<(double Percent, IReadOnlyList<ThreadWakes> Threads)>> seen = EachInTurn(s_idleWays, Rest);
        return
        [
            .. seen.SelectMany(subject => (Quantity[])
            [
                new("idle-cpu", subject.Key, "percent", [.. subject.Value.Select(rest => rest.Percent)], s_idlePercent),
                new("idle-switches", subject.Key, "perSecond", [.. subject.Value.Select(rest => rest.Threads.Sum(thread => thread.PerSecond))], s_idleSwitches)
                {
                    Threads = [.. subject.Value.Select(rest => rest.Threads)],
                },
            ]),
        ];
    }

    private (double Percent, IReadOnlyList<ThreadWakes> Threads) Rest(string more)
    {
        using RunningServer server = RunningServer.Start(Serve(options.Program, more), options.SocketPath, options.ServerCpu);
        using var driver = new AttachedDriver(options.SocketPath);
        Thread.Sleep(TimeSpan.FromSeconds(options.SettleSeconds));
        IReadOnlyDictionary<int, ThreadSwitches> threadsBefore = ThreadSwitches.OfProcess(server.ProcessId);
        long begin = Stopwatch.GetTimestamp();
        bool isThere = ProcessUsage.TryReadCpu(server.ProcessId, out long cpuBefore);
        Thread.Sleep(TimeSpan.FromSeconds(options.IdleSeconds));
        isThere &= ProcessUsage.TryReadCpu(server.ProcessId, out long cpuAfter);
        double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        return isThere
            ? ((cpuAfter - cpuBefore) / (seconds * 1e9) * 100, ThreadSwitches.Between(threadsBefore, ThreadSwitches.OfProcess(server.ProcessId), seconds))
            : throw new CompareException("The server has ended.");
    }
}
