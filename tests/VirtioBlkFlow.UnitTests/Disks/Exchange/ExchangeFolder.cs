using VirtioBlkFlow.Disks.Exchange;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks.Exchange;

/// <summary>A folder with an input in it, where an output is to be. Gone after the test.</summary>
internal sealed class ExchangeFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("virtioblkflow-exchange-");

    public ExchangeFolder(byte[] input)
    {
        File.WriteAllBytes(InputPath, input);
        Options = new ExchangeOptions(InputPath, OutputPath) { Refused = Refusals.Add };
    }

    public string InputPath => this["input"];

    public string OutputPath => this["output"];

    public ExchangeOptions Options { get; }

    /// <summary>What did not count, and why.</summary>
    public List<string> Refusals { get; } = [];

    public string this[string name] => Path.Combine(_folder.FullName, name);

    /// <summary>Nothing has been left behind beside these.</summary>
    public void AssertHolds(params string[] names) =>
        Assert.Equal(names.Order(StringComparer.Ordinal), _folder.EnumerateFileSystemInfos().Select(file => file.Name).Order(StringComparer.Ordinal));

    public void Dispose() => _folder.Delete(recursive: true);
}
