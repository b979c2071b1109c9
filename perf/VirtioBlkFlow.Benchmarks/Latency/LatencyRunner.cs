using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Benchmarks.Ratio;
using VirtioBlkFlow.Benchmarks.Servers;
using VirtioBlkFlow.Device.Latency;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Memory;
using VirtioBlkFlow.Virtio.Ring;

namespace VirtioBlkFlow.Benchmarks.Latency;

/// <summary>
/// The reactor's way to sleep and back: a real reactor on its thread, a driver on this one with one request in flight, kicks and calls
/// through eventfds, a disk that costs nothing. Both in one process, so no virtual machine's exits and interrupts.
/// </summary>
internal static class LatencyRunner
{
    private const int WarmUpRequests = 5_000;
    private const int Requests = 20_000;

    // So long without an answer is a lost kick or call.
    private const int PatienceMs = 10_000;

    public static void Run(int rounds)
    {
        Console.WriteLine($"QD1, null disk, {Requests} requests; latency in µs; CPU of everything but the driver's thread in ns per request");
        Console.WriteLine("reactor   driver    p50      p99     mean   CPU ns   kicks per request");
        for (int round = 0; round < rounds; round++)
        {
            foreach (bool driverSleeps in new[] { true, false })
            {
                foreach (PollMode mode in new[] { PollMode.Adaptive, PollMode.Never })
                {
                    Measure(mode, driverSleeps);
                }
            }
        }
    }

    private static void Measure(PollMode mode, bool driverSleeps)
    {
        using var driver = new FixedChainsDriver(1, TestFile.Sectors);
        using var disk = NullDisk.Open(new NullDiskOptions(1 << 30));
        using var kick = new EventDescriptor();
        using var call = new EventDescriptor();
        var reactor = new QueueReactor("queue-0", new ReactorOptions(IoEngineKind.IoUring, mode, Processor: null), FixedChainsDriver.QueueSize, new ThreadCounters(), NullLogger.Instance);
        using var queue = new ReactorQueue(
            0,
            new ReactorLease(reactor, reactor.Dispose),
            PipelineServer.ContextOf(disk, Bench.LimitsOf(disk)),
            (_, why) => Environment.FailFast(why),
            NullLogger.Instance);
        queue.Start(SetupOf(driver, kick, call), driver.Memory);
        var line = new Line(driver, kick, call, driverSleeps);
        for (int i = 0; i < WarmUpRequests; i++)
        {
            line.Request();
        }

        line.Kicks = 0;
        double[] latencies = new double[Requests];
        TimeSpan processBefore = Environment.CpuUsage.TotalTime;
        long driverBefore = CpuClock.ThisThreadNanoseconds;
        for (int i = 0; i < Requests; i++)
        {
            long start = Stopwatch.GetTimestamp();
            line.Request();
            latencies[i] = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        }

        double cpu = ((Environment.CpuUsage.TotalTime - processBefore).TotalNanoseconds - (CpuClock.ThisThreadNanoseconds - driverBefore)) / Requests;
        driver.RequireRightAnswers();
        queue.Stop();
        double mean = latencies.Average();
        Array.Sort(latencies);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{mode,-9} {(driverSleeps ? "sleeps" : "polls"),-6} {latencies[Requests / 2],6:F1} {latencies[Requests * 99 / 100],8:F1} {mean,8:F1} {cpu,8:F0}   {(double)line.Kicks / Requests:F3}"));
    }

    private static QueueSetup SetupOf(FixedChainsDriver driver, EventDescriptor kick, EventDescriptor call) => new()
    {
        Rings = new QueueRings
        {
            QueueIndex = 0,
            Size = FixedChainsDriver.QueueSize,
            DescriptorTable = driver.Addresses.DescriptorArea,
            AvailableRing = driver.Addresses.DriverArea,
            UsedRing = driver.Addresses.DeviceArea,
            UserAddresses = default,
        },
        NextAvailable = 0,
        NextUsed = 0,
        Kick = kick.Handle,
        Call = call.Handle,
        Error = null,
        Memory = GuestMemoryTable.Empty,
        Features = (ulong)FixedChainsDriver.Features,
    };

    private sealed class Line(FixedChainsDriver driver, EventDescriptor kick, EventDescriptor call, bool sleeps)
    {
        private ushort _availableIndex;

        public int Kicks { get; set; }

        public void Request()
        {
            driver.MakeAvailable();
            // StoreLoad: the available index before the device's wish, against the device that writes its wish and re-reads the index.
            Interlocked.MemoryBarrier();
            if (SplitRingLayout.NeedEvent(driver.Raw.AvailableEvent, (ushort)(_availableIndex + 1), _availableIndex))
            {
                Kicks++;
                kick.Signal();
            }

            _availableIndex++;
            while (driver.TakeUsed() == 0)
            {
                if (!sleeps)
                {
                    Thread.SpinWait(4);
                    continue;
                }

                // The used index was looked at after the wish for a call was written with the last one, so no call is missed.
                if (!call.Wait(Deadline.In(PatienceMs)))
                {
                    throw new TimeoutException("A request got no answer.");
                }

                call.Take();
            }
        }
    }
}
