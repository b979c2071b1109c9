namespace VirtioBlkFlow.Daemon;

/// <summary>A QEMU command that attaches to a socket, ready to paste into a shell.</summary>
internal static class QemuCommandLine
{
    /// <summary>
    /// Guest memory must be shared with us, or requests would point into nowhere; the machine's memory and the shared one have the same
    /// size. Uses KVM where it is, emulation otherwise.
    /// </summary>
    public static string For(string socketPath) =>
        $"""
        qemu-system-x86_64 -accel kvm -accel tcg -m 512M -nographic \
          -object memory-backend-memfd,id=mem,size=512M,share=on -machine q35,memory-backend=mem \
          -chardev {Quote($"socket,id=vblk,path={Path.GetFullPath(socketPath).Replace(",", ",,", StringComparison.Ordinal)}")} -device vhost-user-blk-pci,chardev=vblk
        """;

    // For a POSIX shell; plain words stay as they are.
    private static string Quote(string text) =>
        text.All(character => char.IsAsciiLetterOrDigit(character) || "/._,=-+:@".Contains(character, StringComparison.Ordinal))
            ? text
            : $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";
}
