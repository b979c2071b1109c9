using VirtioBlkFlow.Benchmarks.Servers;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>The benchmarks' file, written once for all tests of a class.</summary>
public sealed class StudyFile : IDisposable
{
    internal TestFile File { get; } = TestFile.Create();

    public void Dispose() => File.Dispose();
}
