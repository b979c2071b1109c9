namespace VirtioBlkFlow.Benchmarks.Compare;

/// <summary>Somebody to be measured: a server on a vhost-user-blk socket, or fio on the file itself as the ceiling.</summary>
/// <param name="Name">In results.</param>
/// <param name="Program">Its path, which is nobody's business in results; empty if it is part of a command.</param>
/// <param name="IsCeiling">Whether it does the load itself, without a socket.</param>
/// <param name="CommandFor">The shell command that serves a cell, with {socket}, {file} and {bytes}; null if it cannot.</param>
internal sealed record Contestant(string Name, string Program, bool IsCeiling, Func<Cell, string?> CommandFor)
{
    /// <summary>The only disk whose cells it serves; null if that is not how it is limited.</summary>
    public DiskKind? OnlyDisk { get; private init; }

    /// <summary>Option behind the command, with {control}, that makes it tell where latency comes from; null if it cannot.</summary>
    public string? ControlOption { get; init; }

    /// <summary>The size of disks that store nothing, in bytes, which every program takes. As large as makes no difference.</summary>
    public const string Size = "1073741824";

    /// <summary>Our program.</summary>
    /// <param name="program">Where it is.</param>
    /// <param name="options">More of its options, for all cells.</param>
    public static Contestant Ours(string program, string options = "") => new("vblkflow", program, false, cell =>
    {
        string disk = cell.Disk switch
        {
            DiskKind.Null => $"--disk null:{Size}",
            DiskKind.Memory => "--disk memory:{bytes}",
            // The kernel lets go of a file some time after the process that had it in an io_uring, and so of its locks.
            DiskKind.Direct => "--blk-file {file} --no-lock --direct",
            _ => "--blk-file {file} --no-lock",
        };
        // A peer's disk is as the peer has it, which is a write cache that a guest has to flush.
        return $"{Quote(program)} {disk} --socket-path {{socket}} --cache writeback{(cell.ServerPolls ? " --poll" : "")} {options}".TrimEnd();
    })
    {
        ControlOption = " --control {control}",
    };

    /// <summary>QEMU's storage daemon.</summary>
    public static Contestant StorageDaemon(string program) => new("qemu-storage-daemon", program, false, cell =>
    {
        string? disk = cell.Disk switch
        {
            DiskKind.Null => $"driver=null-co,size={Size},node-name=disk",
            DiskKind.Cache => "driver=file,filename={file},locking=off,aio=io_uring,node-name=disk",
            DiskKind.Direct => "driver=file,filename={file},locking=off,aio=io_uring,cache.direct=on,node-name=disk",
            // It has no disk in memory.
            _ => null,
        };
        return disk is null
            ? null
            : $"{Quote(program)} --blockdev {disk} --export type=vhost-user-blk,id=e,node-name=disk,writable=on,addr.type=unix,addr.path={{socket}}";
    });

    /// <summary>fio with io_uring on the same file.</summary>
    public static Contestant Fio(string program) => new("fio", program, true, cell => cell.NeedsFile && !cell.ClientSleeps
        ? $"{Quote(program)} --name=ceiling --thread --filename={{file}} --ioengine=io_uring --rw={cell.Pattern} --bs={cell.BlockBytes} --iodepth={cell.Depth}"
            + $" --direct={(cell.Disk == DiskKind.Direct ? 1 : 0)} --invalidate=0 --time_based --runtime={{seconds}} --ramp_time=1 --randrepeat=0 --output-format=json"
        : null);

    /// <summary>Any other server: NAME=COMMAND, or NAME@DISK=COMMAND for one kind of disk.</summary>
    /// <remarks>A command with {file} serves the cells with a file; with DISK, the cells of that disk alone. {bytes} is the size of a disk in memory.</remarks>
    /// <exception cref="CompareException">It is no such thing.</exception>
    public static Contestant Parse(string text)
    {
        int equals = text.IndexOf('=', StringComparison.Ordinal);
        string[] who = equals < 1 ? [] : text[..equals].Split('@');
        string command = text[(equals + 1)..];
        DiskKind disk = default;
        if (who.Length is 0 or > 2 || (who.Length == 2 && !Enum.TryParse(who[1], ignoreCase: true, out disk)) || !command.Contains("{socket}", StringComparison.Ordinal))
        {
            throw new CompareException(
                $"'{text}' is no peer: NAME=COMMAND or NAME@null|memory|cache|direct=COMMAND, where the command has {{socket}} for the socket's path and {{file}} for that of the file.");
        }

        bool usesFile = command.Contains("{file}", StringComparison.Ordinal);
        return new Contestant(who[0], "", false, cell => (who.Length == 2 ? cell.Disk == disk : cell.NeedsFile == usesFile) ? command : null)
        {
            OnlyDisk = who.Length == 2 ? disk : null,
        };
    }

    /// <summary>Makes one contestant of those of one name that are for different disks. All others stay as they are.</summary>
    public static IEnumerable<Contestant> Join(IEnumerable<Contestant> contestants) => contestants.GroupBy(contestant => contestant.Name).SelectMany(
        named => named.All(contestant => contestant.OnlyDisk is not null) && named.DistinctBy(contestant => contestant.OnlyDisk).Count() == named.Count()
            ? [new Contestant(named.Key, "", false, cell => named.Select(contestant => contestant.CommandFor(cell)).FirstOrDefault(command => command is not null))]
            : named.AsEnumerable());

    /// <summary>The command as results have it.</summary>
    public string DescribeCommand(Cell cell) => WithoutPath(CommandFor(cell)!);

    /// <summary>A text without where the program is on this machine.</summary>
    public string WithoutPath(string text) => Program.Length == 0
        ? text
        : text.Replace(Quote(Program), Path.GetFileName(Program), StringComparison.Ordinal).Replace(Program, Path.GetFileName(Program), StringComparison.Ordinal);

    /// <summary>A word for the shell.</summary>
    public static string Quote(string word) => "'" + word.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
}
