using System.Text;
using System.Text.Json;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>Takes what it wants from a file.</summary>
internal delegate void ConfigWalk(ref ConfigReader reader);

/// <summary>Walks through a configuration file and knows on which line it is. What has another shape than asked for is an error that says so.</summary>
internal ref struct ConfigReader
{
    private const string DiskName = "disk";

    private readonly string _path;
    private readonly ReadOnlySpan<byte> _text;
    private readonly Stack<HashSet<string>> _names = new();
    private Utf8JsonReader _json;

    public ConfigReader(string path, ReadOnlySpan<byte> text)
    {
        ReadOnlySpan<byte> mark = Encoding.UTF8.Preamble;
        _path = path;
        _text = text.StartsWith(mark) ? text[mark.Length..] : text;
        _json = new Utf8JsonReader(_text, new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
    }

    /// <summary>Walks through a whole file.</summary>
    /// <exception cref="SpecException">It is wrong.</exception>
    /// <exception cref="StartupException">It cannot be read.</exception>
    public static void ReadFile(string path, ConfigWalk walk)
    {
        try
        {
            Read(path, File.ReadAllBytes(path), walk);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new StartupException($"Cannot read '{path}': {exception.Message} Check the path.");
        }
    }

    /// <summary>Walks through the text of a file.</summary>
    /// <exception cref="SpecException">It is wrong.</exception>
    public static void Read(string path, ReadOnlySpan<byte> text, ConfigWalk walk)
    {
        var reader = new ConfigReader(path, text);
        try
        {
            walk(ref reader);
            // Nothing but comments follows.
            _ = reader._json.Read();
        }
        catch (JsonException exception)
        {
            throw new SpecException($"{path}:{exception.LineNumber + 1}: this is no JSON: {FirstSentence(exception.Message)}");
        }
    }

    /// <summary>File and line of the token read last.</summary>
    public readonly string Here => $"{_path}:{_text[..(int)_json.TokenStartIndex].Count((byte)'\n') + 1}";

    /// <summary>The next token must open an object.</summary>
    public void EnterObject(string what)
    {
        _json.Read();
        EnterCurrentObject(what);
    }

    /// <summary>The current token must.</summary>
    public readonly void EnterCurrentObject(string what)
    {
        Require(JsonTokenType.StartObject, what, "an object: { ... }");
        _names.Push([]);
    }

    /// <summary>The next token must open an array.</summary>
    public void EnterArray(string what)
    {
        _json.Read();
        Require(JsonTokenType.StartArray, what, "an array: [ ... ]");
    }

    /// <summary>Goes to the next element of an array; false at its end.</summary>
    public bool NextElement() => _json.Read() && _json.TokenType != JsonTokenType.EndArray;

    /// <summary>Goes to the next name of an object; null at its end.</summary>
    public SpecEntry? NextName()
    {
        _json.Read();
        if (_json.TokenType == JsonTokenType.EndObject)
        {
            _names.Pop();
            return null;
        }

        string name = _json.GetString()!;
        if (!_names.Peek().Add(name))
        {
            throw new SpecException($"{Here}: '{name}' is given twice. Give it once.");
        }

        return new SpecEntry(name, null, Here);
    }

    /// <summary>Reads the value of a name: text, a number, or true and false for on and off.</summary>
    public SpecEntry ReadValue(SpecEntry name)
    {
        _json.Read();
        string value = _json.TokenType switch
        {
            JsonTokenType.String => _json.GetString()!,
            JsonTokenType.Number => Encoding.ASCII.GetString(_json.ValueSpan),
            JsonTokenType.True => "on",
            JsonTokenType.False => "off",
            _ => throw new SpecException($"{Here}: '{name.Key}' takes text, a number, true or false."),
        };
        return name with { Value = value, Origin = Here };
    }

    /// <summary>Reads the current object: what the disk is, and the keys beside it.</summary>
    public (SpecEntry Disk, List<SpecEntry> Entries) ReadDisk(string what)
    {
        string origin = Here;
        EnterCurrentObject(what);
        SpecEntry? disk = null;
        List<SpecEntry> entries = [];
        while (NextName() is { } name)
        {
            SpecEntry entry = ReadValue(name);
            if (name.Key == DiskName)
            {
                disk = entry;
            }
            else
            {
                entries.Add(entry);
            }
        }

        return (disk ?? throw new SpecException($"{origin}: {what} says what it is: \"{DiskName}\": \"KIND:WHAT\"."), entries);
    }

    // The library adds where it is, in bytes, on the same line.
    private static string FirstSentence(string message)
    {
        int end = message.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return end < 0 ? message : message[..end];
    }

    private readonly void Require(JsonTokenType token, string what, string form)
    {
        if (_json.TokenType != token)
        {
            throw new SpecException($"{Here}: {what} is {form}.");
        }
    }
}
