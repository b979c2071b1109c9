using System.Net.Sockets;
using System.Text.Json;
using VirtioBlkFlow.Benchmarks.Compare;

namespace VirtioBlkFlow.Benchmarks.Self;

/// <summary>What a request allocates in a server: told by the server itself, over its control socket.</summary>
internal static class RequestAllocation
{
    // More than it takes until all of a request's code is compiled in full, which allocates on other threads.
    private const int RequestsBefore = 10_000;

    // So many that an answer on the control socket, some kilobytes, is next to nothing for each.
    private const int Requests = 40_000;

    /// <summary>Puts reads and writes on a server that listens, and asks it before and after.</summary>
    /// <returns>Bytes for each request, on all threads of the server.</returns>
    /// <exception cref="CompareException">It does not tell.</exception>
    public static double Measure(string socketPath, string controlPath)
    {
        using var driver = new AttachedDriver(socketPath);
        using HttpClient control = Connect(controlPath);
        driver.ReadAndWrite(RequestsBefore);
        // The first answers compile what answers.
        for (int i = 0; i < 10; i++)
        {
            AllocatedBytes(control);
        }

        long before = AllocatedBytes(control);
        driver.ReadAndWrite(Requests);
        long after = AllocatedBytes(control);
        long ofOneAnswer = AllocatedBytes(control) - after;
        return Math.Max(0, after - before - ofOneAnswer) / (double)Requests;
    }

    private static HttpClient Connect(string controlPath) => new(new SocketsHttpHandler
    {
        ConnectCallback = async (_, cancellation) =>
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(controlPath), cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        },
    });

    private static long AllocatedBytes(HttpClient control)
    {
        try
        {
            using JsonDocument status = JsonDocument.Parse(control.GetStringAsync("http://localhost/v1/status").GetAwaiter().GetResult());
            return status.RootElement.GetProperty("allocatedBytes").GetInt64();
        }
        catch (Exception exception) when (exception is HttpRequestException or JsonException or KeyNotFoundException)
        {
            throw new CompareException($"The control socket does not tell what is allocated: {exception.Message}");
        }
    }
}
