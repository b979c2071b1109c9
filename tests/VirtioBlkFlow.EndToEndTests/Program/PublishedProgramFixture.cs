using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>The program as it ships: published once, and a root directory that holds it and what every Linux has, and nothing else.</summary>
public sealed class PublishedProgramFixture : IAsyncLifetime
{
    private static readonly TimeSpan s_publishDeadline = TimeSpan.FromMinutes(8);

    private readonly TestFolder _folder = new();

    /// <summary>Where dotnet publish put its result.</summary>
    internal string PublishFolder => _folder["out"];

    /// <summary>A root directory with the program at /vblkflow, the loader and the C and C++ libraries, and no .NET.</summary>
    internal string Root => _folder["root"];

    public async Task InitializeAsync()
    {
        string project = Path.Combine(RepoPaths.Root, "src/VirtioBlkFlow.Daemon");
        // In folders of its own, so that the build under test is left alone.
        await ChildProcess.RunAsync(
            "dotnet",
            ["publish", project, "-c", "Release", "-o", PublishFolder, "--artifacts-path", _folder["artifacts"]],
            s_publishDeadline);
        Directory.CreateDirectory(Path.Combine(Root, "tmp"));
        Directory.CreateDirectory(Path.Combine(Root, "proc"));
        string program = Path.Combine(PublishFolder, "vblkflow");
        File.Copy(program, Path.Combine(Root, "vblkflow"));
        // What is inside of the file has needs, too: the native library of Mono.Posix wants zlib. The tests have a copy of it.
        string inside = Path.Combine(AppContext.BaseDirectory, "runtimes/linux-x64/native/libMonoPosixHelper.so");
        foreach (string needing in new[] { program, inside })
        {
            foreach (string library in await LibrariesOfAsync(needing))
            {
                string copy = Root + library;
                Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
                File.Copy(library, copy, overwrite: true);
            }
        }
    }

    public Task DisposeAsync()
    {
        _folder.Dispose();
        return Task.CompletedTask;
    }

    // ldd prints "libc.so.6 => /lib/libc.so.6 (0x…)" and, for the loader, "/lib64/ld-linux-x86-64.so.2 (0x…)".
    private static async Task<IEnumerable<string>> LibrariesOfAsync(string program)
    {
        string listing = await ChildProcess.RunAsync("ldd", [program], TimeSpan.FromSeconds(30));
        return listing.Split([' ', '\t', '\n'], StringSplitOptions.RemoveEmptyEntries).Where(word => word.StartsWith('/')).Distinct();
    }
}
