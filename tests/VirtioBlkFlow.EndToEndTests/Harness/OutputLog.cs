using System.Text.RegularExpressions;

namespace VirtioBlkFlow.EndToEndTests.Harness;

/// <summary>The lines a process or a guest has printed so far. Any thread may add, read and wait.</summary>
internal sealed partial class OutputLog
{
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly List<string> _lines = [];
    private readonly List<(Func<string, bool> Wanted, TaskCompletionSource<string> Found)> _waiters = [];
    private bool _ended;

    public IReadOnlyList<string> Lines
    {
        get
        {
            lock (_gate)
            {
                return [.. _lines];
            }
        }
    }

    public void Add(string raw)
    {
        // Firmware and boot loaders move the cursor about.
        string line = TerminalControl().Replace(raw, "").TrimEnd('\r');
        lock (_gate)
        {
            _lines.Add(line);
            for (int i = _waiters.Count - 1; i >= 0; i--)
            {
                if (_waiters[i].Wanted(line))
                {
                    _waiters[i].Found.SetResult(line);
                    _waiters.RemoveAt(i);
                }
            }
        }
    }

    /// <summary>No more lines will come: whoever still waits is told.</summary>
    public void End()
    {
        lock (_gate)
        {
            _ended = true;
            foreach ((_, TaskCompletionSource<string> found) in _waiters)
            {
                found.SetException(new EndOfStreamException("The output ended without the line waited for."));
            }

            _waiters.Clear();
        }
    }

    /// <summary>The first line, printed already or yet to come, that is wanted.</summary>
    public async Task<string> WaitForAsync(Func<string, bool> wanted, TimeSpan deadline)
    {
        TaskCompletionSource<string> found = new(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            string? earlier = _lines.FirstOrDefault(wanted);
            if (earlier is not null)
            {
                return earlier;
            }

            if (_ended)
            {
                throw new EndOfStreamException("The output ended without the line waited for." + Environment.NewLine + string.Join('\n', _lines));
            }

            _waiters.Add((wanted, found));
        }

        try
        {
            return await found.Task.WaitAsync(deadline);
        }
        catch (Exception e) when (e is TimeoutException or EndOfStreamException)
        {
            throw new TimeoutException($"The line waited for did not come within {deadline.TotalSeconds} s.\n{this}", e);
        }
    }

    public override string ToString() => string.Join('\n', Lines);

    [GeneratedRegex(@"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[a-zA-Z]|[\x00-\x08\x0b\x0c\x0e-\x1a]")]
    private static partial Regex TerminalControl();
}
