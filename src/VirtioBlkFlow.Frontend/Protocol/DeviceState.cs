using Microsoft.Win32.SafeHandles;

namespace VirtioBlkFlow.Frontend.Protocol;

/// <summary>
/// Moves the internal state of a suspended device through a pipe (vhost-user.rst, "Migrating back-end state"): SET_DEVICE_STATE_FD, the
/// bytes, CHECK_DEVICE_STATE.
/// </summary>
public static class DeviceState
{
    private const uint Save = 0;
    private const uint Load = 1;

    // Bits 0 to 7 of the answer.
    private const ulong ErrorMask = 0xff;

    /// <summary>Has the back-end save its state.</summary>
    /// <exception cref="BackendRefusedException">It does not, or says that it failed.</exception>
    public static byte[] SaveFrom(VhostUserFrontend frontend)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        (SafeFileHandle reader, SafeFileHandle writer) = OpenPipe();
        using var stream = new FileStream(reader, FileAccess.Read);
        using (writer)
        {
            Require(frontend.SetDeviceStateFd(new DeviceStateTransfer(Save, 0), writer) & ErrorMask, "SET_DEVICE_STATE_FD to save");
        }

        using var state = new MemoryStream();
        stream.CopyTo(state);
        Require(frontend.CheckDeviceState(), "CHECK_DEVICE_STATE after saving");
        return state.ToArray();
    }

    /// <summary>Has the back-end load a state.</summary>
    /// <exception cref="BackendRefusedException">It does not, or does not like the state.</exception>
    public static void LoadInto(VhostUserFrontend frontend, ReadOnlySpan<byte> state)
    {
        ArgumentNullException.ThrowIfNull(frontend);
        (SafeFileHandle reader, SafeFileHandle writer) = OpenPipe();
        using (var stream = new FileStream(writer, FileAccess.Write))
        {
            using (reader)
            {
                Require(frontend.SetDeviceStateFd(new DeviceStateTransfer(Load, 0), reader) & ErrorMask, "SET_DEVICE_STATE_FD to load");
            }

            stream.Write(state);
        }

        Require(frontend.CheckDeviceState(), "CHECK_DEVICE_STATE after loading");
    }

    /// <summary>
    /// A pipe to move a state through (pipe2(2)). Programs that are started meanwhile do not inherit its ends: one that did would keep
    /// a reader waiting for the end of the state.
    /// </summary>
    /// <exception cref="IOException">There are too many open files.</exception>
    public static unsafe (SafeFileHandle Reader, SafeFileHandle Writer) OpenPipe()
    {
        int* ends = stackalloc int[2];
        return NativeMethods.pipe2(ends, NativeMethods.O_CLOEXEC) == 0
            ? (new SafeFileHandle(ends[0], ownsHandle: true), new SafeFileHandle(ends[1], ownsHandle: true))
            : throw NativeMethods.LastError("pipe2");
    }

    private static void Require(ulong error, string step)
    {
        if (error != 0)
        {
            throw new BackendRefusedException($"The back-end refuses {step} with {error}.");
        }
    }
}
