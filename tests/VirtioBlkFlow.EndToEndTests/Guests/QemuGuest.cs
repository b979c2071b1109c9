using System.Globalization;
using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>What QEMU offers its guest; what is not set is left to QEMU's defaults.</summary>
internal sealed record QemuOptions
{
    public int CpuCount { get; init; } = 1;

    public int? QueueCount { get; init; }

    public int? QueueSize { get; init; }

    public bool Packed { get; init; }

    public bool? EventIdx { get; init; }

    public bool? IndirectDescriptors { get; init; }

    public bool? ConfigWce { get; init; }

    /// <summary>Seconds between attempts to reach a back-end that has gone away.</summary>
    public int? Reconnect { get; init; }

    /// <summary>Sockets of further disks, with the properties of the first: /dev/vdb and so on, in this order.</summary>
    public IReadOnlyList<string> MoreSocketPaths { get; init; } = [];

    /// <summary>SeaBIOS starts what the disk's first sector holds, and a reboot does so again.</summary>
    public bool BootFromDisk { get; init; }

    /// <summary>Where QEMU's machine protocol listens; a socket's name within the test's folder.</summary>
    public string? QmpName { get; init; }

    /// <summary>The migration this machine is the destination of, as QEMU writes it: "unix:PATH".</summary>
    public string? Incoming { get; init; }

    public IEnumerable<string> ToDeviceProperties()
    {
        if (QueueCount is { } queueCount)
        {
            yield return string.Create(CultureInfo.InvariantCulture, $"num-queues={queueCount}");
        }

        if (QueueSize is { } queueSize)
        {
            yield return string.Create(CultureInfo.InvariantCulture, $"queue-size={queueSize}");
        }

        foreach ((string name, bool? value) in new[]
        {
            ("packed", Packed ? true : null), ("event_idx", EventIdx), ("indirect_desc", IndirectDescriptors), ("config-wce", ConfigWce),
        })
        {
            if (value is not null)
            {
                yield return $"{name}={(value.Value ? "on" : "off")}";
            }
        }

        if (BootFromDisk)
        {
            yield return "bootindex=0";
        }
    }
}

/// <summary>Debian's cloud kernel in QEMU, on an emulated processor: a real Linux driver without KVM.</summary>
internal static class QemuGuest
{
    public static Guest Start(TestFolder folder, IDiskServer daemon, GuestScenario scenario, QemuOptions? options = null)
    {
        options ??= new QemuOptions();
        string reconnect = options.Reconnect is { } seconds ? string.Create(CultureInfo.InvariantCulture, $",reconnect={seconds}") : "";
        List<string> arguments =
        [
            "-accel", "tcg", "-cpu", "max", "-smp", options.CpuCount.ToString(CultureInfo.InvariantCulture),
            "-m", "512M", "-object", "memory-backend-memfd,id=mem,size=512M,share=on", "-machine", "q35,memory-backend=mem,graphics=off",
            "-nodefaults", "-display", "none", "-serial", "stdio",
            "-chardev", $"socket,id=disk,path={daemon.SocketPath}{reconnect}",
            "-device", string.Join(',', ["vhost-user-blk-pci", "chardev=disk", .. options.ToDeviceProperties()]),
        ];
        for (int i = 0; i < options.MoreSocketPaths.Count; i++)
        {
            arguments.AddRange(
            [
                "-chardev", $"socket,id=disk{i},path={options.MoreSocketPaths[i]}{reconnect}",
                "-device", string.Join(',', ["vhost-user-blk-pci", $"chardev=disk{i}", .. options.ToDeviceProperties()]),
            ]);
        }

        if (options.QmpName is { } qmp)
        {
            arguments.AddRange(["-qmp", $"unix:{folder[qmp]},server=on,wait=off"]);
        }

        if (options.Incoming is { } incoming)
        {
            arguments.AddRange(["-incoming", incoming]);
        }

        if (!options.BootFromDisk)
        {
            // A kernel that panics restarts; without a disk to boot from that is the end.
            arguments.AddRange(
            [
                "-no-reboot", "-kernel", RepoPaths.GuestKernel, "-initrd", Initramfs.Compose(folder, scenario),
                // On a busy host the emulated timer is late enough for the kernel to take it for broken, and to panic.
                "-append", $"console=ttyS0 no_timer_check {Guest.KernelCommandLine}",
            ]);
        }

        return new Guest(ChildProcess.Start("qemu-system-x86_64", arguments), daemon, scenario);
    }

    /// <summary>From power-on until the guest switches itself off.</summary>
    public static async Task<GuestReport> RunAsync(TestFolder folder, IDiskServer daemon, GuestScenario scenario, QemuOptions? options = null)
    {
        await using Guest guest = Start(folder, daemon, scenario, options);
        return await guest.FinishAsync();
    }
}
