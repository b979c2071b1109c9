using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Program;

/// <summary>Compiles launch.c, once for each class that uses it.</summary>
public sealed class LauncherFixture : IAsyncLifetime
{
    private readonly TestFolder _folder = new();

    /// <summary>The compiled launcher; see launch.c for its modes.</summary>
    internal string Launcher => _folder["launch"];

    public Task InitializeAsync()
    {
        string source = Path.Combine(RepoPaths.Root, "tests/VirtioBlkFlow.EndToEndTests/Program/launch.c");
        return ChildProcess.RunAsync("cc", ["-Wall", "-Wextra", "-Werror", "-O1", "-o", Launcher, source], TimeSpan.FromSeconds(30));
    }

    public Task DisposeAsync()
    {
        _folder.Dispose();
        return Task.CompletedTask;
    }
}
