using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>User Mode Linux: the kernel itself is the vhost-user front-end. One queue, no MSI, SET_MEM_TABLE, NEED_REPLY on every set.</summary>
internal static class UmlGuest
{
    /// <summary>VIRTIO_ID_BLOCK (virtio 1.3, "Device Types").</summary>
    private const int VIRTIO_ID_BLOCK = 2;

    /// <summary>From power-on until the guest switches itself off.</summary>
    public static async Task<GuestReport> RunAsync(
        TestFolder folder, IDiskServer daemon, GuestScenario scenario, string hint = "", TimeSpan? deadline = null)
    {
        string[] arguments =
        [
            "mem=512M", $"initrd={Initramfs.Compose(folder, scenario)}", "con=null", "con0=fd:0,fd:1",
            $"virtio_uml.device={daemon.SocketPath}:{VIRTIO_ID_BLOCK}", .. Guest.KernelCommandLine.Split(' '),
        ];

        // It keeps its pid file and control socket under HOME.
        Dictionary<string, string> environment = new() { ["HOME"] = folder.FullName };
        await using Guest guest = new(ChildProcess.Start("linux.uml", arguments, environment, folder.FullName), daemon, scenario);
        return await guest.FinishAsync(hint, deadline);
    }
}
