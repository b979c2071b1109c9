using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using VirtioBlkFlow.Daemon.Specs;

namespace VirtioBlkFlow.Daemon;

/// <summary>--help: the library's list of options, and behind it what can be said about disks, each with an example.</summary>
internal sealed class HelpText(HelpAction options) : SynchronousCommandLineAction
{
    private const int Indent = 2;

    /// <summary>Puts it in the place of a command's help.</summary>
    public static void AddTo(RootCommand root)
    {
        HelpOption help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpText((HelpAction)help.Action!);
    }

    public override int Invoke(ParseResult parseResult)
    {
        int exitCode = options.Invoke(parseResult);
        parseResult.InvocationConfiguration.Output.WriteLine(DiskHelp());
        return exitCode;
    }

    /// <summary>Kinds, keys, slots, configuration.</summary>
    public static string DiskHelp()
    {
        List<string> lines = [$"Disks: --disk {SpecReader.DiskForm}, where a comma in a value is written twice and SIZE takes K, M, G or T."];
        foreach (DiskKind kind in DiskKinds.All)
        {
            lines.Add("");
            lines.AddRange(Entry($"{kind}:{kind.Form}", kind.Meaning, $"--disk {kind.Example}"));
            lines.AddRange(kind.OwnKeys.SelectMany(KeyEntry));
        }

        lines.Add("");
        lines.Add("Keys of every disk; options of the same name are for all disks that do not have the key:");
        lines.AddRange(StackKeys.All.Concat(DeviceKeys.All).Concat(QueueKeys.All).Append(SpecReader.AnyFeature).Concat(SocketKeys.All).SelectMany(KeyEntry));
        lines.Add("");
        lines.Add($"Slots: -s {SlotText.Form}, with all keys of file disks for options, and:");
        lines.AddRange(SlotText.Words.Select(word => $"{new string(' ', Indent)}{word.Option}, the same as {word.Meaning.Key}={word.Meaning.Value}"));
        lines.AddRange(Entry("", "", $"-s {SlotText.Example} --socket-dir /run/vm"));
        lines.Add("");
        lines.Add("Configuration: --config FILE, JSON with comments and the keys above:");
        lines.AddRange(ConfigFile.Example.Split('\n').Select(line => new string(' ', Indent) + line));
        return string.Join(Environment.NewLine, lines);
    }

    private static IEnumerable<string> KeyEntry(SpecKey key) => Entry(
        string.Join(", ", new[] { $"{key.Name}={key.Form}" }.Concat(key.Aliases)), key.Meaning, key.ExampleText);

    private static IEnumerable<string> Entry(string form, string meaning, string example)
    {
        string indent = new(' ', Indent);
        if (form.Length > 0)
        {
            yield return $"{indent}{form}";
        }

        yield return $"{indent}{indent}{meaning}{(meaning.Length > 0 ? " " : "")}Example: {example}";
    }
}
