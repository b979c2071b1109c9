using System.Text;
using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests;

/// <summary>
/// A file system on each kind of disk that can hold one, and on what stands before disks, all in one guest. Images are in
/// <see cref="FileSystemTests"/>; what needs a server or a device of its own has its own tests.
/// </summary>
public sealed class EveryDiskTests
{
    // Kind and keys, by the name of the disk.
    private static readonly (string Name, string Spec)[] s_disks =
    [
        ("memory", "memory:96M"),
        ("shared", "memory:96M,shm={unique}"),
        ("direct", "file:{folder}/direct.img,direct"),
        ("range", "file:{folder}/range.img,range=2048/196608"),
        ("composite", "composite:{folder}/parts.json"),
        ("sectors", "file:{folder}/sectors.img,sectorsize=4096"),
        ("writeback", "file:{folder}/writeback.img,cache=writeback"),
        ("limited", "memory:96M,iops=100000,bps=4G"),
        ("tried", "memory:96M,faults=read:error:times=20+write:error:times=20,fault-seed=7,errors=retry:30:1ms"),
    ];

    [Fact]
    public async Task A_guest_makes_fills_and_checks_a_file_system_on_each()
    {
        using TestFolder folder = new();
        foreach (string image in new[] { "direct.img", "range.img", "sectors.img", "writeback.img", "first.img", "second.img" })
        {
            await using FileStream file = File.Create(folder[image]);
            file.SetLength(98 << 20);
        }

        // Two images and a disk in memory, one behind the other.
        await File.WriteAllTextAsync(folder["parts.json"], $$"""
            {
              "parts": [
                { "start": 0, "disk": "file:{{folder["first.img"]}}", "range": "0/65536" },
                { "start": 65536, "disk": "file:{{folder["second.img"]}}", "range": "2048/65536" },
                { "start": 131072, "disk": "memory:32M" },
              ]
            }
            """);
        string unique = $"vblkflow-test-{Path.GetFileName(folder.FullName)}";
        List<string> arguments = ["--num-queues", "1"];
        foreach ((string name, string spec) in s_disks)
        {
            string kind = spec.Replace("{folder}", folder.FullName, StringComparison.Ordinal).Replace("{unique}", unique, StringComparison.Ordinal);
            arguments.AddRange(["--disk", $"{kind},id={name},socket={folder[$"{name}.sock"]}"]);
        }

        await using ManyDiskDaemon daemon = await ManyDiskDaemon.StartAsync(folder, [.. s_disks.Select(disk => $"{disk.Name}.sock")], [.. arguments]);
        GuestReport report = await QemuGuest.RunAsync(
            folder, daemon, LifeOnEach(), new QemuOptions { QueueCount = 1, MoreSocketPaths = [.. daemon.Sockets.Skip(1)] });

        // That each letter is the disk it is taken for.
        Assert.Equal(s_disks.Select(disk => disk.Name), report["names"].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        await daemon.StopAsync();
    }

    // A disk's serial number is its id.
    private static GuestScenario LifeOnEach()
    {
        GuestScenario scenario = new GuestScenario().Report("names", "for disk in /sys/block/vd?; do cat $disk/serial; echo; done");
        for (int i = 0; i < s_disks.Length; i++)
        {
            string name = s_disks[i].Name;
            string device = $"/dev/vd{(char)('a' + i)}";
            var life = new StringBuilder();
            life.Append($"mkfs.ext4 -q -F {device} && mount -t ext4 {device} /mnt && ");
            life.Append(Scenarios.FioVerify("--directory=/mnt", mebibytes: 2)).Append(" && ");
            life.Append("dd if=/dev/urandom of=/mnt/file bs=64k count=16 && sha256sum /mnt/file >/mnt/sum && forget_cache && sha256sum -c /mnt/sum && ");
            life.Append($"umount /mnt && e2fsck -f -n {device}");
            scenario.Step(name, life.ToString());
        }

        return scenario;
    }
}
