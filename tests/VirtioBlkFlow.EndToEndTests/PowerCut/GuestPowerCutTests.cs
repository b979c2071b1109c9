using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Presented;
using VirtioBlkFlow.EndToEndTests.Guests;
using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.UnitTests.Disks.PowerCut;
using Xunit.Abstractions;

namespace VirtioBlkFlow.EndToEndTests.PowerCut;

/// <summary>
/// Real file systems whose power is cut: one guest works on them, and what is asked of the image is written down; then at random moments of
/// that record a storage loses of it what it may, and a second guest replays the journals and checks what is left of each.
/// </summary>
public class GuestPowerCutTests(ITestOutputHelper output)
{
    /// <summary>How many cuts, each of both file systems.</summary>
    private static readonly int s_cuts = CutCount.Take(50);

    private static readonly TimeSpan s_deadline = TimeSpan.FromMinutes(9);

    /// <summary>Cuts of a daemon without its flush.</summary>
    private const int CanaryCuts = 3;

    [Fact]
    public async Task File_systems_under_load_survive_cuts_at_any_moment_and_do_not_without_the_flush()
    {
        int seed = RandomSeed.Take();
        string hint = $"VIRTIOBLKFLOW_SEED={seed}";
        Random random = new(seed);
        using TestFolder folder = new();
        StorageLog log = new();
        await RunLoadAsync(folder, log, hint);
        List<GuestLoad.Mark> marks = GuestLoad.MarksOf(log);
        int begin = marks.Single(static mark => mark.Place == 0).Position;

        int[] positions = [.. Enumerable.Range(0, s_cuts).Select(_ => random.Next(begin + 1, log.Count + 1)).Order()];
        int volatileBlocks = 0;
        List<Dictionary<long, ReadOnlyMemory<byte>>> left = [];
        foreach (VolatileStorage storage in log.Follow(positions, GuestLoad.BlockBytes))
        {
            volatileBlocks += storage.VolatileCount;
            left.Add(storage.Cut(random));
        }

        // A daemon that never syncs leaves the storage with the same writes and nothing durable.
        int[] canaries = [.. Enumerable.Range(0, CanaryCuts).Select(_ => random.Next((begin + log.Count) / 2, log.Count + 1)).Order()];
        left.AddRange(log.Follow(canaries, GuestLoad.BlockBytes, withSyncs: false).Select(storage => storage.Cut(random)));

        GuestReport report;
        using (InProcessServer server = new(folder["cut.sock"], new CutDisk(left, GuestLoad.DiskBytes, GuestLoad.BlockBytes), CacheMode.Writeback))
        {
            report = await UmlGuest.RunAsync(folder, server, GuestLoad.Check([.. positions, .. canaries], marks), hint, s_deadline);
        }

        output.WriteLine(
            $"{hint}: {log.Count} steps from {begin} on cut at random, {log.CountOf(StepKind.Sync)} syncs, {log.CountOf(StepKind.Zeroes)} discards and zeroes, "
            + $"{log.WritesIn(0, GuestLoad.DiskBytes).Sum(static write => write.Data.Length) >> 20} MiB, {marks.Count} marks, {volatileBlocks} volatile blocks");
        for (int i = s_cuts; i < s_cuts + CanaryCuts; i++)
        {
            output.WriteLine($"Without the flush ext4 {report[$"ext4_{i}"]}; xfs {report[$"xfs_{i}"]}");
        }

        // The cuts had something to take.
        Assert.True(volatileBlocks > s_cuts, $"{volatileBlocks} blocks in {s_cuts} cuts were not durable. {hint}");
        for (int i = 0; i < s_cuts; i++)
        {
            foreach (string type in new[] { "ext4", "xfs" })
            {
                string fault = report[$"{type}_{i}"];
                Assert.True(fault == "", $"After cut {i}, at step {positions[i]} of {log.Count}, {type} {fault}. {hint}");
            }
        }

        Assert.Contains(Enumerable.Range(s_cuts, CanaryCuts), i => report[$"ext4_{i}"] != "");
        Assert.Contains(Enumerable.Range(s_cuts, CanaryCuts), i => report[$"xfs_{i}"] != "");
    }

    // With all of the record done, it says what the image holds.
    private static async Task RunLoadAsync(TestFolder folder, StorageLog log, string hint)
    {
        DiskImage image = new(folder["disk.img"]);
        await using (FileStream file = new(image.FilePath, FileMode.CreateNew))
        {
            file.SetLength(GuestLoad.DiskBytes);
        }

        PresentedDisk disk = PresentedDisk.Open(
            FileDisk.Open(new FileDiskOptions(image.FilePath)), new BlockSizes(GuestLoad.BlockBytes, GuestLoad.BlockBytes));
        using (InProcessServer server = new(folder["load.sock"], new RecordedDisk(disk, log), CacheMode.Writeback))
        {
            GuestReport report = await UmlGuest.RunAsync(folder, server, GuestLoad.Scenario(), hint, s_deadline);
            Assert.Equal(("write back", "write through"), (report["cache"], report["switched"]));
        }

        VolatileStorage end = Assert.Single(log.Follow([log.Count], GuestLoad.BlockBytes));
        byte[] block = new byte[GuestLoad.BlockBytes];
        using FileStream content = File.OpenRead(image.FilePath);
        foreach (long number in end.Touched)
        {
            content.Position = number * GuestLoad.BlockBytes;
            content.ReadExactly(block);
            ReadOnlyMemory<byte> recorded = end.Newest(number);
            Assert.True(recorded.IsEmpty ? !block.AsSpan().ContainsAnyExcept((byte)0) : recorded.Span.SequenceEqual(block), $"Block {number} is not as recorded.");
        }
    }
}
