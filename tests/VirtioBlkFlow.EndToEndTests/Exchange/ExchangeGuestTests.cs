using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Exchange;

/// <summary>A Linux guest that has busybox, and the scripts of docs/exchange.md as they stand there.</summary>
public class ExchangeGuestTests
{
    [Fact]
    public async Task A_guest_with_a_shell_makes_an_output_of_its_input()
    {
        using TestFolder folder = new();
        byte[] input = Letters(300_007);
        await File.WriteAllBytesAsync(folder["input"], input);
        await using DaemonProcess daemon = await StartAsync(folder, "--input", folder["input"], "--output", folder["output"]);
        GuestScenario scenario = new GuestScenario()
            .Report("serial", "cat /sys/block/vda/serial")
            .Refused("write_to_the_input", "dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")
            .Refused("mark_that_is_none", "dd if=/dev/zero of=/dev/vda bs=512 seek=$(($(blockdev --getsz /dev/vda) - 8)) count=1 conv=fsync")
            .Shell(Script("exchange-guest.sh"))
            .Step("exchange", "sh /tmp/exchange-guest.sh /dev/vda tr a-z A-Z");

        GuestReport report = await QemuGuest.RunAsync(folder, daemon, scenario);

        Assert.Equal("vblkflow-exchange", report["serial"]);
        await daemon.WaitForEndAsync(ProgramEnd.Success);
        Assert.Equal(System.Text.Encoding.ASCII.GetString(input).ToUpperInvariant(), await File.ReadAllTextAsync(folder["output"]));
    }

    [Fact]
    public async Task A_guest_with_a_shell_has_a_stream_in_and_one_out()
    {
        using TestFolder folder = new();
        byte[] input = Letters(90_003);
        await File.WriteAllBytesAsync(folder["in"], input);
        string arguments = string.Join(' ', "exchange", "--stream", "--ring-size", "32K", "--linger", "5m", "--socket-path", folder[Vblkflow.SocketName]);
        await using DaemonProcess daemon = await DaemonProcess.StartAsync(
            folder, () => ChildProcess.Start("sh", ["-c", $"exec '{RepoPaths.Daemon}' {arguments} <'{folder["in"]}' >'{folder["out"]}'"]));
        GuestScenario scenario = new GuestScenario()
            .Shell(Script("ring-guest.sh"))
            .Step("stream", "sh /tmp/ring-guest.sh /dev/vda tr a-z A-Z");

        await QemuGuest.RunAsync(folder, daemon, scenario);

        await daemon.WaitForEndAsync(ProgramEnd.Success);
        Assert.Equal(System.Text.Encoding.ASCII.GetString(input).ToUpperInvariant(), await File.ReadAllTextAsync(folder["out"]));
    }

    private static byte[] Letters(int count)
    {
        Random random = new(count);
        return [.. Enumerable.Range(0, count).Select(_ => (byte)(random.Next(27) is var letter && letter == 26 ? '\n' : 'a' + letter))];
    }

    private static Task<DaemonProcess> StartAsync(TestFolder folder, params string[] arguments) => DaemonProcess.StartAsync(
        folder, () => ChildProcess.Start(RepoPaths.Daemon, ["exchange", .. arguments, "--linger", "5m", "--socket-path", folder[Vblkflow.SocketName]]));

    // The block of the document that begins with this name, put into a file of the guest.
    private static string Script(string name)
    {
        string document = File.ReadAllText(Path.Combine(RepoPaths.Root, "docs/exchange.md"));
        string block = document.Split("```").Single(part => part.StartsWith($"sh\n#!/bin/sh\n# {name} ", StringComparison.Ordinal));
        return $"cat >/tmp/{name} <<'END_OF_SCRIPT'\n{block["sh\n".Length..]}END_OF_SCRIPT";
    }
}
