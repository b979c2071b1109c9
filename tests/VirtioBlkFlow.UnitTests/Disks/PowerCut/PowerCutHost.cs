using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>
/// A host whose power is cut. Its files are real ones and hold what the last cut has left; what is done to them since is kept in memory, in
/// <see cref="VolatileFile"/>. Shared by all engines of a disk.
/// </summary>
internal sealed class PowerCutHost
{
    private readonly Dictionary<string, VolatileFile> _files = [];
    private readonly Dictionary<SafeFileHandle, OpenFile> _open = [];

    /// <summary>Held by whoever looks at a file or changes it.</summary>
    public Lock Gate { get; } = new();

    /// <summary>Sectors a cut could leave in more than one way.</summary>
    public int VolatileCount
    {
        get
        {
            lock (Gate)
            {
                return _files.Values.Sum(static file => file.Storage.VolatileCount);
            }
        }
    }

    /// <summary>What an open file stands for; the file is as it was when it was first asked for.</summary>
    public OpenFile OpenFileOf(SafeFileHandle handle)
    {
        string path = File.ResolveLinkTarget($"/proc/self/fd/{handle.DangerousGetHandle()}", returnFinalTarget: false)!.FullName;
        lock (Gate)
        {
            if (!_files.TryGetValue(path, out VolatileFile? file))
            {
                _files.Add(path, file = new VolatileFile(path, isFirst: _files.Count == 0));
            }

            if (!_open.TryGetValue(handle, out OpenFile? open))
            {
                _open.Add(handle, open = new OpenFile(file));
            }

            return open;
        }
    }

    /// <summary>The power goes; the files are as a cut may leave them, and the host is as if it had just started.</summary>
    public void Cut(Random random)
    {
        lock (Gate)
        {
            foreach (VolatileFile file in _files.Values)
            {
                file.Cut(random);
            }

            _files.Clear();
            _open.Clear();
        }
    }
}
