using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Xunit.Sdk;

namespace VirtioBlkFlow.UnitTests.Abi;

/// <summary>
/// Asks the C compiler what the system's headers say: writes a program, compiles it with <c>cc</c>, runs it and reads the
/// <c>NAME=VALUE</c> lines it prints. Where there is no compiler the test fails: an unchecked layout is not a checked one.
/// </summary>
internal static class CProgram
{
    private const string NoCompiler =
        "The C compiler 'cc' cannot be run; these tests need it (Debian: apt install gcc libc6-dev linux-libc-dev)";

    // Generous and arbitrary: a compilation takes well under a second.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    /// <summary>
    /// Evaluates integer expressions of C, each under its own text: <c>sizeof(struct iovec)</c>, <c>offsetof(struct iovec, iov_len)</c>,
    /// a macro.
    /// </summary>
    /// <param name="headers">What to include: <c>sys/uio.h</c>. <c>stddef.h</c> and <c>stdio.h</c> are there anyway.</param>
    /// <param name="expressions">Expressions that must compile.</param>
    /// <param name="newerMacros">Macros the installed headers may be too old for; one that is unknown is missing in the result.</param>
    public static IReadOnlyDictionary<string, long> Evaluate(
        IEnumerable<string> headers, IEnumerable<string> expressions, IEnumerable<string>? newerMacros = null)
    {
        var source = new StringBuilder("#define _GNU_SOURCE\n#include <stddef.h>\n#include <stdio.h>\n");
        foreach (string header in headers)
        {
            source.Append(CultureInfo.InvariantCulture, $"#include <{header}>\n");
        }

        source.Append("int main(void)\n{\n");
        foreach (string expression in expressions)
        {
            source.Append(Print(expression));
        }

        foreach (string macro in newerMacros ?? [])
        {
            source.Append(CultureInfo.InvariantCulture, $"#ifdef {macro}\n{Print(macro)}#endif\n");
        }

        return Run(source.Append("    return 0;\n}\n").ToString());
    }

    /// <summary>Compiles and runs a program; its output is <c>NAME=VALUE</c> lines with decimal numbers.</summary>
    public static IReadOnlyDictionary<string, long> Run(string source)
    {
        DirectoryInfo directory = Directory.CreateTempSubdirectory("c-program-");
        try
        {
            string program = Path.Combine(directory.FullName, "program");
            Compile(source, program);
            return Parse(Execute(program, [], complaint: "The compiled program cannot be run"));
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    /// <summary>Compiles a program for a test that runs it by itself.</summary>
    /// <param name="source">The source, one file.</param>
    /// <param name="program">Where the program goes; its source goes beside it.</param>
    public static void Compile(string source, string program)
    {
        string sourcePath = program + ".c";
        File.WriteAllText(sourcePath, source);
        Execute("cc", ["-Wall", "-Werror", "-o", program, sourcePath], complaint: NoCompiler);
    }

    // The value after the last '=', for a name may be an expression that contains one.
    internal static Dictionary<string, long> Parse(string output)
    {
        var values = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (string line in output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            int equals = line.LastIndexOf('=');
            if (equals <= 0
                || !long.TryParse(line.AsSpan(equals + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value))
            {
                throw new XunitException($"The C program printed a line that is not NAME=VALUE: '{line}'.");
            }

            values.Add(line[..equals], value);
        }

        return values;
    }

    private static string Print(string expression)
    {
        string name = expression.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal);
        return $"    printf(\"%s=%lld\\n\", \"{name}\", (long long)({expression}));\n";
    }

    private static string Execute(string program, string[] arguments, string complaint)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        try
        {
            using Process process = Process.Start(start)!;
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            Task<string> errors = process.StandardError.ReadToEndAsync();
            if (!process.WaitForExit(s_patience))
            {
                process.Kill();
                throw new XunitException($"'{program}' did not end within {s_patience.TotalSeconds} s.");
            }

            return process.ExitCode == 0
                ? output.GetAwaiter().GetResult()
                : throw new XunitException($"'{program}' ended with {process.ExitCode}:\n{errors.GetAwaiter().GetResult()}");
        }
        catch (Win32Exception notStarted)
        {
            throw new XunitException($"{complaint}: {notStarted.Message}");
        }
    }
}
