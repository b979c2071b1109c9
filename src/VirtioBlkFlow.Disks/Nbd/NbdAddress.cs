using System.Globalization;

namespace VirtioBlkFlow.Disks.Nbd;

/// <summary>
/// Where an export is: <c>nbd+unix:///NAME?socket=PATH</c> or <c>nbd://HOST:PORT/NAME</c> (doc/uri.md of the NetworkBlockDevice project).
/// </summary>
/// <param name="Export">Its name; empty for the server's default.</param>
/// <param name="SocketPath">The server's unix socket; null if it listens on TCP.</param>
/// <param name="Host">The server's name or address; empty with a unix socket.</param>
/// <param name="Port">Its port; 0 with a unix socket.</param>
public sealed record NbdAddress(string Export, string? SocketPath, string Host, int Port)
{
    /// <summary>How it is written.</summary>
    public const string Form = "nbd+unix:///NAME?socket=PATH or nbd://HOST:PORT/NAME";

    /// <summary>The port of the protocol, assigned by IANA.</summary>
    public const int DefaultPort = 10809;

    private const string UnixScheme = "nbd+unix://";
    private const string TcpScheme = "nbd://";

    /// <summary>Reads it.</summary>
    /// <param name="text">What was written.</param>
    /// <param name="fault">If it is none: what is wrong, as a sentence.</param>
    /// <returns>Null if it is none.</returns>
    public static NbdAddress? Parse(string text, out string fault)
    {
        fault = "";
        if (text.StartsWith("nbds", StringComparison.OrdinalIgnoreCase))
        {
            fault = "There is no TLS here. Use nbd:// in a network that is trusted, or a tunnel.";
            return null;
        }

        bool isUnix = text.StartsWith(UnixScheme, StringComparison.OrdinalIgnoreCase);
        if (!isUnix && !text.StartsWith(TcpScheme, StringComparison.OrdinalIgnoreCase))
        {
            fault = $"It takes {Form}.";
            return null;
        }

        string rest = text[(isUnix ? UnixScheme : TcpScheme).Length..];
        (rest, string query) = Cut(rest, '?');
        (string authority, string path) = Cut(rest, '/');
        string export = Uri.UnescapeDataString(path);
        if (System.Text.Encoding.UTF8.GetByteCount(export) > NbdWire.MaxStringBytes)
        {
            fault = $"The name of an export has at most {NbdWire.MaxStringBytes} bytes.";
            return null;
        }

        return isUnix ? OnUnix(export, authority, query, out fault) : OnTcp(export, authority, query, out fault);
    }

    /// <summary>The same server and export are the same text.</summary>
    public override string ToString() => SocketPath is { } path
        ? $"{UnixScheme}/{Uri.EscapeDataString(Export)}?socket={path}"
        : $"{TcpScheme}{(Host.Contains(':', StringComparison.Ordinal) ? $"[{Host}]" : Host)}:{Port}/{Uri.EscapeDataString(Export)}";

    private static NbdAddress? OnUnix(string export, string authority, string query, out string fault)
    {
        (string key, string value) = Cut(query, '=');
        if (authority.Length > 0 || key != "socket" || value.Length == 0)
        {
            fault = $"It takes {UnixScheme}/NAME?socket=PATH.";
            return null;
        }

        // sun_path of <linux/un.h> has 108 bytes, the last of them 0.
        string path = Uri.UnescapeDataString(value);
        fault = System.Text.Encoding.UTF8.GetByteCount(path) > 107 ? "The path of a socket has at most 107 bytes." : "";
        return fault.Length == 0 ? new NbdAddress(export, path, "", 0) : null;
    }

    private static NbdAddress? OnTcp(string export, string authority, string query, out string fault)
    {
        string host = authority;
        int port = DefaultPort;
        // Of [::1]:10809 the colons inside the brackets are the address's.
        int colon = authority.LastIndexOf(':');
        if (colon > authority.LastIndexOf(']'))
        {
            host = authority[..colon];
            if (!int.TryParse(authority[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out port) || port is 0 or > ushort.MaxValue)
            {
                fault = $"'{authority[(colon + 1)..]}' is no port. Give 1 to {ushort.MaxValue}, or none for {DefaultPort}.";
                return null;
            }
        }

        host = host.StartsWith('[') && host.EndsWith(']') ? host[1..^1] : host;
        fault = host.Length == 0 || query.Length > 0 ? $"It takes {TcpScheme}HOST:PORT/NAME." : "";
        return fault.Length == 0 ? new NbdAddress(export, null, host, port) : null;
    }

    private static (string Before, string After) Cut(string text, char separator)
    {
        int at = text.IndexOf(separator, StringComparison.Ordinal);
        return at < 0 ? (text, "") : (text[..at], text[(at + 1)..]);
    }
}
