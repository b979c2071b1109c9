using System.Globalization;
using System.Text;
using VirtioBlkFlow.EndToEndTests.Guests;

namespace VirtioBlkFlow.EndToEndTests.PowerCut;

/// <summary>
/// What a guest does until its power is cut, and what another looks for afterwards. Two file systems, on parts of one disk, get files that
/// are synced one by one, a number that is overwritten in place and synced, and others that are not synced. After each sync the guest writes
/// a mark to a third part of the disk: where the mark has begun to be written, the sync had ended.
/// </summary>
internal static class GuestLoad
{
    public const int BlockBytes = 4096;

    /// <summary>Size of the disk.</summary>
    public const long DiskBytes = (MarksSector + MarksSectors) * SectorBytes;

    private const int SectorBytes = 512;
    private const long Ext4Sectors = 128 << 11;

    // mkfs.xfs makes no file system of less than 300 MiB.
    private const long XfsSectors = 320 << 11;
    private const long MarksSector = Ext4Sectors + XfsSectors;
    private const long MarksSectors = 8 << 11;

    // The mark of the file systems being there is the first; then those of ext4, then those of xfs.
    private const int FirstMark = 1;
    private const int FirstXfsMark = 1000;
    private const int FilesInEachHalf = 20;

    private const string Functions =
        """
        mark() { # its place, its text
          echo "$2" | dd of=/dev/vda3 bs=4k seek=$1 conv=sync,notrunc oflag=direct 2>/dev/null
        }
        load() { # type, place of its first mark, first and last file
          n=$3
          while [ $n -le $4 ]; do
            head -c $((n * 7 % 61 * 1024 + 3000)) /dev/urandom >/tmp/$1 &&
            dd if=/dev/urandom of=/mnt/$1/unsynced$((n % 3)) bs=16k count=$((n % 9 + 1)) 2>/dev/null &&
            dd if=/tmp/$1 of=/mnt/$1/f$n bs=4k conv=fsync 2>/dev/null &&
            sync /mnt/$1 &&
            echo $((10000 + n)) >/tmp/$1.number &&
            dd if=/tmp/$1.number of=/mnt/$1/number conv=notrunc,fsync 2>/dev/null &&
            mark $(($2 + n)) "$(sha256sum </tmp/$1 | cut -c1-64)  f$n" || return 1
            [ $((n % 4)) -ne 0 ] || rm -f /mnt/$1/unsynced$(((n + 1) % 3))
            n=$((n + 1))
          done
        }
        both() { # first and last file
          load ext4 1 $1 $2 &
          first=$!
          load xfs 1000 $1 $2 &
          second=$!
          wait $first && wait $second
        }
        """;

    private const string CheckFunctions =
        """
        look() { # type, device, files that must be there, how to check
          mount -t $1 $2 /mnt || { echo "is not mounted"; return; }
          if [ $3 -gt 0 ]; then
            head -n $3 /tmp/$1.sums | (cd /mnt && sha256sum -c 2>&1) >/tmp/sums || echo "lost $(grep -v OK /tmp/sums | head -n 2)"
            [ "$(head -n 1 /mnt/number)" -ge $((10000 + $3)) ] || echo "holds number $(cat /mnt/number), not $3"
          fi
          umount /mnt || echo "is not unmounted"
          $4 $2 >/tmp/check 2>&1 || echo "is damaged: $(tail -n 3 /tmp/check)"
        }
        check() { # number, its start, files that must be in ext4 and in xfs
          addpart /dev/vda $((2 * $1 + 1)) $2 $ext4_sectors
          addpart /dev/vda $((2 * $1 + 2)) $(($2 + ext4_sectors)) $xfs_sectors
          report ext4_$1 "look ext4 /dev/vda$((2 * $1 + 1)) $3 \"e2fsck -f -n\""
          report xfs_$1 "look xfs /dev/vda$((2 * $1 + 2)) $4 \"xfs_repair -n\""
        }
        """;

    /// <summary>The load. The cache of the disk is writeback at first, and writethrough in the second half.</summary>
    public static GuestScenario Scenario() => new GuestScenario()
        .Shell(Functions)
        .Step("parts", Invariant($"addpart /dev/vda 1 0 {Ext4Sectors} && addpart /dev/vda 2 {Ext4Sectors} {XfsSectors} && addpart /dev/vda 3 {MarksSector} {MarksSectors}"))
        .Step("mkfs", "mkfs.ext4 -q -F -b 4096 -J size=4 -N 1024 /dev/vda1 && mkfs.xfs -q -f /dev/vda2")
        .Step("mount", "mkdir /mnt/ext4 /mnt/xfs && mount -t ext4 -o discard /dev/vda1 /mnt/ext4 && mount -t xfs -o discard /dev/vda2 /mnt/xfs && sync")
        .Report("cache", "cat /sys/block/vda/queue/write_cache")
        .Step("begin", "mark 0 begin")
        .Step("writeback", Invariant($"both 1 {FilesInEachHalf}"))
        .Step("switch", "echo write through >/sys/block/vda/cache_type")
        .Report("switched", "cat /sys/block/vda/queue/write_cache")
        .Step("writethrough", Invariant($"both {FilesInEachHalf + 1} {2 * FilesInEachHalf}"))
        .Step("umount", "umount /mnt/ext4 && umount /mnt/xfs");

    /// <summary>The marks of a load, by where in the log they begin.</summary>
    public static List<Mark> MarksOf(StorageLog log) =>
    [
        .. log.WritesIn(MarksSector * SectorBytes, DiskBytes).Select(static write => new Mark(
            write.Position,
            (int)((write.OffsetBytes - (MarksSector * SectorBytes)) / BlockBytes),
            Encoding.ASCII.GetString(write.Data).TrimEnd('\0', '\n'))),
    ];

    /// <summary>Looks at what cuts have left: the file systems must be whole, with the files of all marks before the cut.</summary>
    /// <param name="positions">The moment of each cut.</param>
    /// <param name="marks">All marks.</param>
    public static GuestScenario Check(IReadOnlyList<int> positions, IReadOnlyList<Mark> marks)
    {
        GuestScenario scenario = new GuestScenario()
            .Shell(CheckFunctions)
            .Shell(Invariant($"ext4_sectors={Ext4Sectors} xfs_sectors={XfsSectors}"))
            .Shell($"cat >/tmp/ext4.sums <<'END'\n{Texts(marks, isXfs: false)}\nEND\ncat >/tmp/xfs.sums <<'END'\n{Texts(marks, isXfs: true)}\nEND");
        for (int i = 0; i < positions.Count; i++)
        {
            int ext4 = marks.Count(mark => mark.Position < positions[i] && mark.Place >= FirstMark && !mark.IsXfs);
            int xfs = marks.Count(mark => mark.Position < positions[i] && mark.IsXfs);
            scenario.Shell(Invariant($"check {i} {i * (DiskBytes / SectorBytes)} {ext4} {xfs}"));
        }

        return scenario;
    }

    private static string Texts(IReadOnlyList<Mark> marks, bool isXfs) =>
        string.Join('\n', marks.Where(mark => mark.Place >= FirstMark && mark.IsXfs == isXfs).Select(static mark => mark.Text));

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>What a guest wrote when a sync had ended: checksum and name of a file.</summary>
    /// <param name="Position">Where in the log it begins.</param>
    /// <param name="Place">Which block of the marks.</param>
    /// <param name="Text">What it says.</param>
    internal sealed record Mark(int Position, int Place, string Text)
    {
        public bool IsXfs => Place >= FirstXfsMark;
    }
}
