using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using VirtioBlkFlow.VhostUser.Server;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>
/// HTTP over a unix socket: what is served, and where its time goes. Only reads. This class is the only one that names ASP.NET Core, and
/// it is touched only with --control: a program without it loads none of that framework.
/// </summary>
internal sealed class ControlServer : IAsyncDisposable
{
    private readonly ListeningSocket _socket;
    private readonly DeviceMetrics _metrics;
    private readonly WebApplication _application;

    private ControlServer(ListeningSocket socket, DeviceMetrics metrics, WebApplication application)
    {
        _socket = socket;
        _metrics = metrics;
        _application = application;
    }

    /// <summary>Listens and answers. The file of the socket is its owner's alone: mode 0600.</summary>
    /// <param name="path">Where.</param>
    /// <param name="disks">What is served; does not change any more.</param>
    /// <exception cref="SocketUnavailableException">The socket cannot be had.</exception>
    public static async Task<ControlServer> StartAsync(string path, IReadOnlyList<ServedDisk> disks)
    {
        // The same care as with the sockets of disks: what a dead process left behind is replaced, and the mode is in force before anybody
        // can connect. Kestrel does neither.
        ListeningSocket socket = ListeningSocket.Listen(path);
        var metrics = new DeviceMetrics(disks);
        try
        {
            WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
            builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                kestrel.ListenHandle((ulong)socket.Descriptor);
            });
            builder.Services.AddRoutingCore();
            WebApplication application = builder.Build();
            Map(application, new DiskReports(disks), metrics);
            // Not to be given up half-way by a signal: it takes milliseconds, and what has started can be stopped.
            await application.StartAsync(CancellationToken.None);
            return new ControlServer(socket, metrics, application);
        }
        catch
        {
            metrics.Dispose();
            socket.Dispose();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _application.DisposeAsync();
        _metrics.Dispose();
        _socket.Dispose();
    }

    private static void Map(WebApplication application, DiskReports reports, DeviceMetrics metrics)
    {
        application.UseRouting();
        application.MapGet("/v1/status", context => AnswerAsync(context, reports.Status(), ControlJson.Default.StatusReport));
        application.MapGet("/v1/disks", context => AnswerAsync(context, reports.Disks(), ControlJson.Default.DiskListReport));
        application.MapGet("/v1/disks/{id}/latency", context =>
        {
            string id = (string)context.GetRouteValue("id")!;
            return reports.Latency(id) is { } latency
                ? AnswerAsync(context, latency, ControlJson.Default.LatencyReport)
                : RefuseAsync(context, $"There is no disk '{id}'. /v1/disks lists those there are.");
        });
        application.MapGet("/metrics", context =>
        {
            metrics.Refresh();
            context.Response.ContentType = PrometheusText.ContentType;
            return context.Response.WriteAsync(PrometheusText.Write(metrics.Meter));
        });
        application.MapFallback(context => RefuseAsync(context, "There is nothing here. GET /v1/status, /v1/disks, /v1/disks/ID/latency or /metrics."));
    }

    private static Task RefuseAsync(HttpContext context, string error)
    {
        context.Response.StatusCode = StatusCodes.Status404NotFound;
        return AnswerAsync(context, new ErrorReport(error), ControlJson.Default.ErrorReport);
    }

    private static Task AnswerAsync<T>(HttpContext context, T report, JsonTypeInfo<T> type)
    {
        context.Response.ContentType = "application/json";
        return JsonSerializer.SerializeAsync(context.Response.Body, report, type, context.RequestAborted);
    }
}
