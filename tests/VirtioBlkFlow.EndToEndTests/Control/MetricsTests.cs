using VirtioBlkFlow.EndToEndTests.Bench;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Control;

/// <summary>/metrics, as Prometheus reads it.</summary>
public sealed class MetricsTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task The_page_is_well_formed_and_says_what_was_done()
    {
        await using ControlledDaemon daemon = await ControlledDaemon.StartAsync(
            _folder, "--blk-file", _folder.CreateImage(16).FilePath, "--stage-latency", "all", "--cache", "writeback");
        // Before anything was done there are disks and no queues.
        MetricsPage page = await PageAsync(daemon);
        Assert.Equal(16 << 20, page.Value("virtioblkflow_disk_size_bytes"));
        Assert.Equal(0, page.Value("virtioblkflow_frontend_connected"));

        BenchJob job = await BenchProgram.RunAsync(
            _folder, daemon.SocketPath, "--rw randrw --allow-writes --block-size 8K --count 4000 --queue-depth 16 --queues 2");
        await ControlSocketTests.LeftAsync(daemon);
        page = await PageAsync(daemon);
        double reads = 0;
        double writes = 0;
        foreach (string queue in new[] { "0", "1" })
        {
            reads += page.Value("virtioblkflow_requests_total", ("queue", queue), ("type", "read"));
            writes += page.Value("virtioblkflow_requests_total", ("queue", queue), ("type", "write"));
            double requests = page.Value("virtioblkflow_requests_total", ("queue", queue), ("type", "read"))
                + page.Value("virtioblkflow_requests_total", ("queue", queue), ("type", "write"));
            foreach (string stage in new[] { "ring", "slot", "parse", "kernel", "completion", "call" })
            {
                Assert.Equal(requests, page.Value("virtioblkflow_stage_duration_seconds_count", ("queue", queue), ("stage", stage)));
            }

            double kernelSeconds = page.Value("virtioblkflow_stage_duration_seconds_sum", ("queue", queue), ("stage", "kernel"));
            Assert.InRange(kernelSeconds, double.Epsilon, 3600 * requests);
            Assert.InRange(page.Value("virtioblkflow_batches_total", ("queue", queue)), 1, requests);
            Assert.InRange(page.Value("virtioblkflow_system_calls_total", ("queue", queue)), 1, double.MaxValue);
            Assert.Equal(0, page.Value("virtioblkflow_request_errors_total", ("queue", queue), ("status", "ioerr")));
        }

        Assert.Equal(job.Reads, reads);
        Assert.Equal(job.Writes, writes);
        Assert.Equal(job.Reads * 8192, page.Value("virtioblkflow_io_bytes_total", ("queue", "0"), ("direction", "read")) + page.Value("virtioblkflow_io_bytes_total", ("queue", "1"), ("direction", "read")));
        await daemon.StopAsync();
    }

    private static async Task<MetricsPage> PageAsync(ControlledDaemon daemon) => MetricsPage.Parse(await daemon.GetAsync("/metrics", "text/plain"));
}
