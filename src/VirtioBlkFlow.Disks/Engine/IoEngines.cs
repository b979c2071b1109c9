using IoUring;

namespace VirtioBlkFlow.Disks.Engine;

/// <summary>The engines there are.</summary>
public enum IoEngineKind
{
    /// <summary>io_uring.</summary>
    IoUring,

    /// <summary>Blocking calls on threads, where io_uring is refused.</summary>
    Threads,
}

/// <summary>Makes engines.</summary>
public static class IoEngines
{
    /// <summary>Makes an engine, on the thread that will own it.</summary>
    /// <param name="kind">Which.</param>
    /// <param name="operationCount">Operations that may be in flight at once.</param>
    /// <exception cref="IoUringException">io_uring is refused; the message says why and what to do.</exception>
    public static IIoEngine Create(IoEngineKind kind, int operationCount) => kind switch
    {
        IoEngineKind.IoUring => new UringEngine(operationCount),
        IoEngineKind.Threads => new ThreadEngine(),
        _ => throw new ArgumentOutOfRangeException(nameof(kind)),
    };

    /// <summary>Name of an engine, as on the command line.</summary>
    public static string NameOf(IoEngineKind kind) => kind == IoEngineKind.IoUring ? "io_uring" : "threads";

    /// <summary>Whether this process gets a ring that can do all that is needed of it.</summary>
    /// <param name="obstacle">If not: why, and what to do.</param>
    public static bool IsUringAvailable(out string obstacle)
    {
        obstacle = "";
        if (!Ring.TryCreate(new RingOptions { SubmissionEntries = 1 }, out Ring? ring, out IoUringException? error))
        {
            obstacle = error.Message;
            return false;
        }

        using (ring)
        {
            try
            {
                foreach (Opcode opcode in UringEngine.NeededOpcodes)
                {
                    if (!ring.Supports(opcode))
                    {
                        obstacle = $"This kernel's io_uring lacks {opcode}.";
                        return false;
                    }
                }

                return true;
            }
            catch (IoUringException probing)
            {
                obstacle = probing.Message;
                return false;
            }
        }
    }
}
