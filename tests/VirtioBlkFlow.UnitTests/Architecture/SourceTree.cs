using System.Runtime.CompilerServices;
using System.Xml.Linq;

namespace VirtioBlkFlow.UnitTests.Architecture;

/// <summary>The repository as it lies on disk, found from where this file was compiled or from where the tests run.</summary>
internal static class SourceTree
{
    public static string Root { get; } = Find();

    public static string ProjectFile(string project) => Path.Combine(Root, "src", project, project + ".csproj");

    /// <summary>Names of the projects a project refers to, sorted.</summary>
    public static string[] ReferencesOf(string project) =>
    [
        .. XDocument.Load(ProjectFile(project)).Descendants("ProjectReference")
            .Select(reference => Path.GetFileNameWithoutExtension(reference.Attribute("Include")!.Value.Replace('\\', '/')))
            .Order(StringComparer.Ordinal),
    ];

    /// <summary>A property of a project file; null if it does not set it.</summary>
    public static string? PropertyOf(string project, string property) =>
        XDocument.Load(ProjectFile(project)).Descendants(property).LastOrDefault()?.Value;

    public static IEnumerable<string> SourceFiles() =>
        Directory.EnumerateFiles(Path.Combine(Root, "src"), "*.cs", SearchOption.AllDirectories)
            .Where(file => !file.Contains("/obj/", StringComparison.Ordinal) && !file.Contains("/bin/", StringComparison.Ordinal));

    private static string Find([CallerFilePath] string here = "")
    {
        foreach (string start in new[] { Path.GetDirectoryName(here) ?? "", AppContext.BaseDirectory })
        {
            for (string? folder = start; !string.IsNullOrEmpty(folder); folder = Path.GetDirectoryName(folder))
            {
                if (File.Exists(Path.Combine(folder, "VirtioBlkFlow.sln")))
                {
                    return folder;
                }
            }
        }

        throw new InvalidOperationException("VirtioBlkFlow.sln is in no folder above the tests.");
    }
}
