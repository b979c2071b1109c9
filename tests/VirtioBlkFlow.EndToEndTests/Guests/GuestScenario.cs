using System.Text;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>What a guest does once it runs: a short shell text, whose steps the harness expects to see succeed.</summary>
internal sealed class GuestScenario
{
    private readonly StringBuilder _shell = new();
    private readonly List<string> _steps = [];

    /// <summary>The steps a complete run reports, in their order.</summary>
    public IReadOnlyList<string> Steps => _steps;

    /// <summary>fio is large, and only unpacked where a step needs it.</summary>
    public bool NeedsFio { get; private set; }

    /// <summary>A command that must succeed. The disk is /dev/vda.</summary>
    public GuestScenario Step(string name, string command)
    {
        _steps.Add(name);
        NeedsFio |= command.Contains("fio ", StringComparison.Ordinal);
        return Call("step", name, command);
    }

    /// <summary>A command that must fail.</summary>
    public GuestScenario Refused(string name, string command) => Step(name, $"! {{ {command}; }}");

    /// <summary>A command whose output the test looks at.</summary>
    public GuestScenario Report(string name, string command) => Call("report", name, command);

    /// <summary>Goes on with another scenario, whose steps follow.</summary>
    public GuestScenario Then(GuestScenario other)
    {
        _steps.AddRange(other._steps);
        return Shell(other._shell.ToString().TrimEnd('\n'));
    }

    /// <summary>Shell text taken over as it is.</summary>
    public GuestScenario Shell(string text)
    {
        NeedsFio |= text.Contains("fio ", StringComparison.Ordinal);
        _shell.Append(text).Append('\n');
        return this;
    }

    public byte[] ToInitramfs() => CpioArchive.WithFile("scenario.sh", _shell.ToString());

    private GuestScenario Call(string function, string name, string command)
    {
        _shell.Append(function).Append(' ').Append(name).Append(" '").Append(command.Replace("'", @"'\''", StringComparison.Ordinal)).Append("'\n");
        return this;
    }
}
