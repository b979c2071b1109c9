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
/// HTTP over a unix socket: what is served, where its time goes, and what of it can be changed while it runs. This class is the only one that
/// names ASP.NET Core: a program in which nobody asks loads none of that framework.
/// </summary>
internal sealed class ControlApplication : IAsyncDisposable
{
    // Of a request. Arbitrary: all limits there are take some hundred bytes.
    private const int MostBodyBytes = 64 << 10;

    private const string Everything =
        "GET /v1/status, /v1/disks, /v1/disks/ID, /v1/disks/ID/latency or /metrics; GET, PUT or PATCH /v1/disks/ID/limits or /v1/groups/NAME/limits; "
        + "POST /v1/disks/ID/resume, /v1/disks/ID/resize or /v1/disks/ID/refresh.";

    private readonly WebApplication _application;

    private ControlApplication(WebApplication application) => _application = application;

    /// <summary>Accepts and answers from now on.</summary>
    /// <param name="socket">Where; stays its owner's, and open until this is disposed.</param>
    /// <param name="disks">What is served; does not change any more.</param>
    /// <param name="reports">Of these disks.</param>
    /// <param name="metrics">Of these disks.</param>
    public static async Task<ControlApplication> StartAsync(
        ListeningSocket socket, IReadOnlyList<ServedDisk> disks, DiskReports reports, DeviceMetrics metrics)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = MostBodyBytes;
            kestrel.ListenHandle((ulong)socket.Descriptor);
        });
        builder.Services.AddRoutingCore();
        WebApplication application = builder.Build();
        try
        {
            Map(application, reports, metrics);
            MapCommands(application, new DiskCommands(disks));
            application.MapFallback(context => RefuseAsync(context, $"There is nothing here. {Everything}"));
            // Not to be given up half-way by a signal: it takes milliseconds, and what has started can be stopped.
            await application.StartAsync(CancellationToken.None);
            return new ControlApplication(application);
        }
        catch
        {
            await application.DisposeAsync();
            throw;
        }
    }

    public ValueTask DisposeAsync() => _application.DisposeAsync();

    private static void Map(WebApplication application, DiskReports reports, DeviceMetrics metrics)
    {
        application.UseRouting();
        application.MapGet("/v1/status", context => AnswerAsync(context, reports.Status(), ControlJson.Default.StatusReport));
        application.MapGet("/v1/disks", context => AnswerAsync(context, reports.Disks(), ControlJson.Default.DiskListReport));
        application.MapGet("/v1/disks/{id}", context =>
        {
            string id = NameOf(context);
            return reports.Disk(id) is { } disk ? AnswerAsync(context, disk, ControlJson.Default.DiskReport) : RefuseDiskAsync(context, id);
        });
        application.MapGet("/v1/disks/{id}/latency", context =>
        {
            string id = NameOf(context);
            return reports.Latency(id) is { } latency
                ? AnswerAsync(context, latency, ControlJson.Default.LatencyReport)
                : RefuseDiskAsync(context, id);
        });
        application.MapGet("/metrics", context =>
        {
            metrics.Refresh();
            context.Response.ContentType = PrometheusText.ContentType;
            return context.Response.WriteAsync(PrometheusText.Write(metrics.Meter));
        });
    }

    private static void MapCommands(WebApplication application, DiskCommands commands)
    {
        foreach ((string path, Func<string, ControlAnswer> read, Func<string, ReadOnlyMemory<byte>, bool, ControlAnswer> write) in new (
            string, Func<string, ControlAnswer>, Func<string, ReadOnlyMemory<byte>, bool, ControlAnswer>)[]
            {
                ("/v1/disks/{id}/limits", commands.Limits, commands.SetLimits),
                ("/v1/groups/{id}/limits", commands.GroupLimits, commands.SetGroupLimits),
            })
        {
            application.MapGet(path, context => AnswerAsync(context, read(NameOf(context))));
            application.MapPut(path, async context => await AnswerAsync(context, body => write(NameOf(context), body, true)));
            application.MapPatch(path, async context => await AnswerAsync(context, body => write(NameOf(context), body, false)));
        }

        application.MapPost("/v1/disks/{id}/resume", context => AnswerAsync(context, commands.Resume(NameOf(context))));
        application.MapPost("/v1/disks/{id}/resize", context => AnswerAsync(context, commands.Resize(NameOf(context))));
        application.MapPost("/v1/disks/{id}/refresh", async context => await AnswerAsync(context, body => commands.Refresh(NameOf(context), body)));
    }

    private static string NameOf(HttpContext context) => (string)context.GetRouteValue("id")!;

    private static async Task AnswerAsync(HttpContext context, Func<ReadOnlyMemory<byte>, ControlAnswer> command)
    {
        using var body = new MemoryStream();
        ControlAnswer answer;
        try
        {
            await context.Request.Body.CopyToAsync(body, context.RequestAborted);
            answer = command(body.GetBuffer().AsMemory(0, (int)body.Length));
        }
        catch (BadHttpRequestException exception)
        {
            // More than the limit, or broken off.
            answer = ControlAnswer.Wrong(exception.Message);
        }

        await AnswerAsync(context, answer);
    }

    private static Task AnswerAsync(HttpContext context, ControlAnswer answer)
    {
        context.Response.StatusCode = answer.Status;
        context.Response.ContentType = "application/json";
        return context.Response.Body.WriteAsync(answer.Json, context.RequestAborted).AsTask();
    }

    private static Task RefuseDiskAsync(HttpContext context, string id) =>
        RefuseAsync(context, $"There is no disk '{id}'. /v1/disks lists those there are.");

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
