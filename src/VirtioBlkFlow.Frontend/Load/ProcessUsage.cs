using System.Globalization;
using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.Frontend.Load;

/// <summary>Memory of a process as <c>/proc/PID/status</c> has it, in bytes.</summary>
/// <param name="ResidentBytes">VmRSS: all of it.</param>
/// <param name="SharedMemoryBytes">RssShmem: the part that is shared memory; for a back-end, what it has touched of the guest's memory.</param>
/// <param name="PeakBytes">VmHWM: the most there ever was.</param>
public readonly record struct ProcessMemory(long ResidentBytes, long SharedMemoryBytes, long PeakBytes)
{
    /// <summary>What the process takes of its own.</summary>
    public long OwnBytes => ResidentBytes - SharedMemoryBytes;
}

/// <summary>What another process, the back-end, takes of the machine.</summary>
public static unsafe class ProcessUsage
{
    /// <summary>CPU time of all its threads since it began.</summary>
    /// <returns>False when there is no such process.</returns>
    public static bool TryReadCpu(int processId, out long ns) => CpuClock.TryReadProcess(processId, out ns);

    /// <summary>Its memory; null when there is no such process.</summary>
    public static ProcessMemory? ReadMemory(int processId)
    {
        try
        {
            long resident = 0;
            long shared = 0;
            long peak = 0;
            foreach (string line in File.ReadLines(string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/status")))
            {
                switch (line.Split(':')[0])
                {
                    case "VmRSS":
                        resident = Kilobytes(line);
                        break;
                    case "RssShmem":
                        shared = Kilobytes(line);
                        break;
                    case "VmHWM":
                        peak = Kilobytes(line);
                        break;
                }
            }

            return new ProcessMemory(resident, shared, peak);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Its name, as <c>/proc/PID/comm</c> has it; null when there is no such process.</summary>
    public static string? ReadName(int processId)
    {
        try
        {
            return File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/comm")).Trim();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Who listens at the other end of a connected unix socket (SO_PEERCRED); 0 when it cannot be told, as across containers.</summary>
    internal static int PeerOf(SafeFileHandle socket)
    {
        NativeMethods.Credentials credentials;
        int length = sizeof(NativeMethods.Credentials);
        return NativeMethods.GetSocketOption(socket, NativeMethods.SOL_SOCKET, NativeMethods.SO_PEERCRED, &credentials, &length) == 0
            ? credentials.ProcessId
            : 0;
    }

    // "VmRSS:	   12345 kB"
    private static long Kilobytes(string line) => long.Parse(line.Split(':')[1].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture) * 1024;
}
