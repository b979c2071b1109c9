namespace IoUring;

/// <summary>io_uring refused something. The message names the cause and what to do about it.</summary>
public sealed class IoUringException : Exception
{
    /// <summary>Creates the exception.</summary>
    public IoUringException(string message, int errno)
        : base(message) => Errno = errno;

    /// <summary>Creates the exception.</summary>
    public IoUringException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    public IoUringException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates the exception.</summary>
    public IoUringException()
    {
    }

    /// <summary>The error number of the system call (errno(3)); 0 if there was none.</summary>
    public int Errno { get; }

    internal static IoUringException FromSetup(int errno) => new(
        $"io_uring cannot be set up: {Marshal.GetPInvokeErrorMessage(errno)}. " + errno switch
        {
            Syscalls.EPERM => "The administrator disabled it (sysctl kernel.io_uring_disabled) or a seccomp filter blocks it.",
            Syscalls.ENOSYS => "The kernel has none (it came with Linux 5.1), or a seccomp filter blocks it.",
            Syscalls.ENOMEM => "Raise the limit on locked memory (ulimit -l, LimitMEMLOCK= of systemd) or free memory.",
            Syscalls.EMFILE or Syscalls.ENFILE => "Raise the limit on open files (ulimit -n, LimitNOFILE= of systemd).",
            _ => "See io_uring_setup(2).",
        },
        errno);

    internal static IoUringException From(string call, int errno) => new(
        $"{call} failed: {Marshal.GetPInvokeErrorMessage(errno)}." + errno switch
        {
            Syscalls.EEXIST => " With SINGLE_ISSUER a ring may be used only by the thread that created it.",
            Syscalls.ENOMEM => " Raise the limit on locked memory (ulimit -l, LimitMEMLOCK= of systemd) or free memory.",
            Syscalls.EMFILE or Syscalls.ENFILE => " Raise the limit on open files (ulimit -n, LimitNOFILE= of systemd).",
            _ => "",
        },
        errno);
}
