namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>The kinds of disks there are.</summary>
internal static class DiskKinds
{
    public static DiskKind File { get; } = new FileKind();

    public static IReadOnlyList<DiskKind> All { get; } = [File, new MemoryKind(), new NullKind(), new CompositeKind(), new RbdKind(), new NbdKind()];

    /// <summary>The kind of a name, or null.</summary>
    public static DiskKind? Find(string name) => All.FirstOrDefault(kind => kind.Name == name || kind.OtherNames.Contains(name));
}
