namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>Pieces of scenarios that several tests share.</summary>
internal static class Scenarios
{
    /// <summary>Random reads and writes with a checksum in each block, verified at the end. Direct, so that the disk sees every one.</summary>
    public static string FioVerify(string target, int mebibytes = 4, int jobs = 1, string more = "") =>
        $"fio --name=verify {target} --size={mebibytes}m --numjobs={jobs} --rw=randrw --bsrange=4k-64k --direct=1 --ioengine=libaio --iodepth=16 "
        + $"--verify=crc32c --verify_fatal=1 --group_reporting --minimal {more}";

    /// <summary>The whole life of a file system, then of a bare disk.</summary>
    /// <param name="scenario">The scenario to extend.</param>
    /// <param name="type">ext4 or xfs.</param>
    /// <param name="jobs">How many fio jobs run side by side.</param>
    public static GuestScenario WholeLifeOf(this GuestScenario scenario, string type, int jobs = 1)
    {
        (string make, string check) = type switch
        {
            "ext4" => ("mkfs.ext4 -q -F /dev/vda", "e2fsck -f -n /dev/vda"),
            "xfs" => ("mkfs.xfs -q -f /dev/vda", "xfs_repair -n /dev/vda"),
            _ => throw new ArgumentOutOfRangeException(nameof(type)),
        };
        return scenario
            .Step("mkfs", make)
            .Step("mount", $"mount -t {type} /dev/vda /mnt")
            .Step("fio_on_files", FioVerify("--directory=/mnt", jobs: jobs))
            .Step("write_file", "dd if=/dev/urandom of=/mnt/file bs=64k count=128 && sha256sum /mnt/file >/mnt/sum && forget_cache")
            .Step("read_file_again", "sha256sum -c /mnt/sum")
            .Step("fstrim", "rm /mnt/verify* && sync && fstrim -v /mnt")
            .Step("read_file_after_trim", "forget_cache && sha256sum -c /mnt/sum")
            .Step("umount", "umount /mnt")
            .Step("check", check)
            .DiscardAndZero();
    }

    /// <summary>Verified random I/O on the bare disk, in many small requests and in a few large ones.</summary>
    public static GuestScenario RawTraffic(this GuestScenario scenario) => scenario
        .Step("fio_small_requests", FioVerify("--filename=/dev/vda", more: "--offset=0"))
        .Step("fio_large_requests", FioVerify("--filename=/dev/vda", mebibytes: 16, more: "--offset=16m --bsrange=512k-1m"))
        .Step("write_large", "dd if=/dev/urandom of=$HOME/data bs=1M count=8 && dd if=$HOME/data of=/dev/vda bs=1M seek=40 && forget_cache")
        .Step("read_large_again", "dd if=/dev/vda bs=1M skip=40 count=8 | cmp - $HOME/data");

    /// <summary>blkdiscard of the whole disk, then zeros written over a pattern by one command and read back.</summary>
    public static GuestScenario DiscardAndZero(this GuestScenario scenario) => scenario
        // -f: a signature of a file system is no objection, and User Mode Linux finds the device busy.
        .Step("discard_all", "blkdiscard -f /dev/vda")
        .Step("write_pattern", "yes pattern | head -c 4194304 | dd of=/dev/vda bs=64k iflag=fullblock && forget_cache")
        .Step("zero_middle", "blkdiscard -f -z -o 1048576 -l 2097152 /dev/vda && forget_cache")
        .Step("middle_reads_as_zeros", "dd if=/dev/vda bs=1M skip=1 count=2 | cmp -n 2097152 - /dev/zero")
        .Step("pattern_before_is_whole", "yes pattern | head -c 1048576 >$HOME/pattern; dd if=/dev/vda bs=1M count=1 | cmp - $HOME/pattern")
        .Step("pattern_after_is_whole", "dd if=/dev/vda bs=1M skip=3 count=1 | cmp - $HOME/pattern");

    /// <summary>The feature bits in use, as zeros and ones, bit 0 first.</summary>
    public static GuestScenario ReportFeatures(this GuestScenario scenario) =>
        scenario.Report("features", "cat /sys/block/vda/device/features");
}
