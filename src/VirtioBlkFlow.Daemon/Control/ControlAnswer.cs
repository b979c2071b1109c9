using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace VirtioBlkFlow.Daemon.Control;

/// <summary>What the control socket answers to a request that changes something.</summary>
/// <param name="Status">Of HTTP.</param>
/// <param name="Json">The report.</param>
internal sealed record ControlAnswer(int Status, byte[] Json)
{
    public static ControlAnswer Done<T>(T report, JsonTypeInfo<T> type) => new(200, JsonSerializer.SerializeToUtf8Bytes(report, type));

    /// <summary>The request is wrong in itself.</summary>
    public static ControlAnswer Wrong(string error) => Refused(400, error);

    /// <summary>There is no such thing.</summary>
    public static ControlAnswer NotThere(string error) => Refused(404, error);

    /// <summary>It is right, and not possible with this disk as it is.</summary>
    public static ControlAnswer NotPossible(string error) => Refused(409, error);

    private static ControlAnswer Refused(int status, string error) =>
        new(status, JsonSerializer.SerializeToUtf8Bytes(new ErrorReport(error), ControlJson.Default.ErrorReport));
}
