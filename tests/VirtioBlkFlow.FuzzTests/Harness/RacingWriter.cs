namespace VirtioBlkFlow.FuzzTests.Harness;

/// <summary>A place in guest memory that changes between two values as fast as it goes.</summary>
/// <param name="Place">Host address, aligned to its width.</param>
/// <param name="First">One value; the one the case began with.</param>
/// <param name="Second">The other.</param>
/// <param name="IsShort">Whether it is 2 bytes wide, and not 8.</param>
internal readonly unsafe record struct Face(nint Place, ulong First, ulong Second, bool IsShort)
{
    public void Show(bool second)
    {
        ulong value = second ? Second : First;
        if (IsShort)
        {
            Volatile.Write(ref *(ushort*)Place, (ushort)value);
        }
        else
        {
            Volatile.Write(ref *(ulong*)Place, value);
        }
    }
}

/// <summary>
/// A thread that rewrites guest memory while the device reads it. Which faces there are is replayed from the seed; which of them the device
/// sees is up to the machine.
/// </summary>
internal sealed class RacingWriter : IDisposable
{
    private readonly ManualResetEventSlim _begin = new();
    private readonly ManualResetEventSlim _resting = new(initialState: true);
    private readonly Thread _thread;
    private volatile Face[] _faces = [];
    private volatile bool _racing;
    private volatile bool _ending;

    public RacingWriter()
    {
        _thread = new Thread(Run) { Name = "racing", IsBackground = true };
        _thread.Start();
    }

    public void Begin(Face[] faces)
    {
        _faces = faces;
        _resting.Reset();
        _racing = true;
        _begin.Set();
    }

    /// <summary>After the return nothing is written any more.</summary>
    public void End()
    {
        _racing = false;
        _resting.Wait();
    }

    public void Dispose()
    {
        _ending = true;
        _racing = false;
        _begin.Set();
        _thread.Join();
        _begin.Dispose();
        _resting.Dispose();
    }

    private void Run()
    {
        while (true)
        {
            _begin.Wait();
            _begin.Reset();
            if (_ending)
            {
                return;
            }

            for (uint turn = 0; _racing; turn++)
            {
                for (int i = 0; i < _faces.Length; i++)
                {
                    // Each at a pace of its own, so that all combinations come up.
                    _faces[i].Show(((turn >> (i & 3)) & 1) == 0);
                }
            }

            _resting.Set();
        }
    }
}
