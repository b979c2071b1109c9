using System.CommandLine;

namespace VirtioBlkFlow.Benchmarks.Study.Serving;

/// <summary>What to serve where.</summary>
/// <param name="Variant">Who serves.</param>
/// <param name="SocketPath">Where front-ends connect.</param>
/// <param name="FilePath">A raw image, served read-only; null for a disk that costs nothing.</param>
/// <param name="Direct">Whether the page cache is bypassed.</param>
internal sealed record ServeOptions(Variant Variant, string SocketPath, string? FilePath, bool Direct);

/// <summary>The command line of <c>serve</c>.</summary>
internal sealed class ServeCommand
{
    private readonly Argument<string> _variant = new("VARIANT") { Description = string.Join(", ", Variants.All.Select(Variants.NameOf)) };

    private readonly Option<string> _socketPath = new("--socket-path") { Description = "where front-ends connect", Required = true };

    private readonly Option<string?> _disk = new("--disk") { Description = "null: a disk that costs nothing" };

    private readonly Option<string?> _file = new("--blk-file") { Description = "a raw image; it is served read-only" };

    private readonly Option<bool> _direct = new("--direct") { Description = "bypass the page cache" };

    private ServeCommand() => Root = new RootCommand("Serves a disk on a vhost-user-blk socket by one of the architectures of the study.")
    {
        _variant, _socketPath, _disk, _file, _direct,
    };

    private RootCommand Root { get; }

    /// <summary>Reads a command line; null, with a complaint, if it is wrong.</summary>
    /// <param name="arguments">Behind the word serve.</param>
    /// <param name="complaint">What is wrong.</param>
    public static ServeOptions? Parse(IReadOnlyList<string> arguments, out string complaint)
    {
        var command = new ServeCommand();
        ParseResult result = command.Root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (result.Errors.Count > 0)
        {
            complaint = result.Errors[0].Message;
            return null;
        }

        string name = result.GetValue(command._variant)!;
        Variant? variant = Variants.Find(name);
        string? disk = result.GetValue(command._disk);
        string? file = result.GetValue(command._file);
        bool direct = result.GetValue(command._direct);
        complaint = variant is null ? $"'{name}' is none of {command._variant.Description}."
            : disk is not (null or "null") ? "--disk takes null."
            : disk is null == file is null ? "Give one of --disk null and --blk-file PATH."
            : direct && file is null ? "--direct needs --blk-file."
            : "";
        return complaint.Length > 0 ? null : new ServeOptions(variant!.Value, result.GetValue(command._socketPath)!, file, direct);
    }
}
