using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>The example of the README is the code that runs here, line by line.</summary>
public unsafe class ReadmeTests
{
    [Fact]
    public void The_example_of_the_readme_runs()
    {
        string path = Path.GetTempFileName();
        File.WriteAllText(path, "Hello, ring");
        using (SafeFileHandle file = File.OpenHandle(path))
        {
            int descriptor = (int)file.DangerousGetHandle();

            // README example begins
            using Ring ring = Ring.Create(new RingOptions { SubmissionEntries = 8 });
            byte* buffer = stackalloc byte[5];
            if (ring.TryGetEntry(out SubmissionEntry* entry))
            {
                entry->PrepareRead(descriptor, buffer, lengthBytes: 5, offsetBytes: 0, userData: 42);
            }
            ring.SubmitAndWait(minimumCompletions: 1);
            Span<CompletionEntry> completions = stackalloc CompletionEntry[8];
            int count = ring.Reap(completions);
            string text = Encoding.UTF8.GetString(buffer, completions[0].Result);
            // README example ends

            Assert.Equal((1, 42ul, "Hello"), (count, completions[0].UserData, text));
        }

        File.Delete(path);
    }

    [Fact]
    public void The_example_of_the_readme_is_the_one_that_runs()
    {
        string[] example = Between(ReadmePath(), "```csharp", "```");
        Assert.Equal(Between(ThisFile(), "// README example begins", "// README example ends"), example);
        Assert.Equal(10, example.Length);
    }

    [Fact]
    public void The_readme_tells_the_number_of_operations()
    {
        Assert.Equal(15, Enum.GetValues<Opcode>().Length);
        Assert.Contains("- Fifteen operations:", File.ReadAllText(ReadmePath()), StringComparison.Ordinal);
    }

    // The lines between the first line that is one text and the next that is the other, without their common indentation.
    private static string[] Between(string path, string first, string last)
    {
        string[] lines = [.. File.ReadLines(path).SkipWhile(line => line.Trim() != first).Skip(1).TakeWhile(line => line.Trim() != last)];
        Assert.NotEmpty(lines);
        int indentation = lines[0].Length - lines[0].TrimStart().Length;
        return [.. lines.Select(line => line.Length >= indentation ? line[indentation..] : line)];
    }

    private static string ReadmePath() =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(ThisFile())!, "..", "..", "..", "src", "IoUring.Net", "README.md"));

    // Where the compiler saw it: the tests run on the machine that built them.
    private static string ThisFile([CallerFilePath] string path = "") => path;
}
