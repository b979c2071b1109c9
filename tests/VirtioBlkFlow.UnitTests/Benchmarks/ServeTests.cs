using VirtioBlkFlow.Benchmarks.Study;
using VirtioBlkFlow.Benchmarks.Study.Serving;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Frontend.Blk;
using VirtioBlkFlow.Frontend.Load;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.Frontend.Protocol;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Benchmarks;

/// <summary>Every architecture of the study on a real socket, with our own front-end.</summary>
public sealed class ServeTests : IDisposable
{
    private const int BlockBytes = 4096;
    private const int BlockCount = 256;
    private const ulong SectorsPerBlock = BlockBytes / BlkRequest.SectorBytes;

    private readonly string _socketPath = Path.Combine(Path.GetTempPath(), $"vbf-serve-{Guid.NewGuid():n}.sock");
    private readonly TemporaryImage _image = new(BlockBytes * BlockCount);

    public static TheoryData<string> Names => [.. Variants.All.Select(Variants.NameOf)];

    public void Dispose()
    {
        _image.Dispose();
        File.Delete(_socketPath);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Reads_what_is_in_the_file_and_refuses_what_is_none_of_its_business(string variant)
    {
        byte[] content = new byte[BlockBytes * BlockCount];
        new Random(3).NextBytes(content);
        _image.Write(0, content);
        Serving(variant, _image.Path, () =>
        {
            using var frontend = new VhostUserFrontend(UnixSocket.Connect(_socketPath));
            Negotiation agreed = Negotiation.Run(frontend, new NegotiationOptions());
            using var memory = SharedMemory.OfSize(1 << 20);
            using var queue = new FrontendQueue(memory, 0, 64, agreed.RingFeatures);
            agreed.SendMemory(frontend, memory);
            agreed.StartQueues(frontend, queue);
            agreed.SendDriverOk(frontend);
            var driver = new BlkDriver(memory, queue, new BlkDriverOptions());
            byte[] read = new byte[BlockBytes];
            for (int block = 0; block < BlockCount; block++)
            {
                Assert.Equal(BlkStatus.VIRTIO_BLK_S_OK, driver.Read((ulong)block * SectorsPerBlock, read));
                Assert.True(read.AsSpan().SequenceEqual(content.AsSpan(block * BlockBytes, BlockBytes)), $"Block {block} is another.");
            }

            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Read(BlockCount * SectorsPerBlock, read));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_IOERR, driver.Write(0, read));
            Assert.Equal(BlkStatus.VIRTIO_BLK_S_UNSUPP, driver.Execute((BlkRequestType)99, 0, 0).Status);
        });
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Serves_one_load_after_the_other_and_ends_when_it_is_told_to(string variant) => Serving(variant, null, () =>
    {
        foreach ((CompletionWait wait, bool packed) in new[] { (CompletionWait.Poll, false), (CompletionWait.Call, false), (CompletionWait.Poll, true) })
        {
            using LoadRun run = LoadRun.Connect(_socketPath, new LoadOptions
            {
                QueueDepth = 32,
                Wait = wait,
                Packed = packed,
                WarmUp = TimeSpan.Zero,
                Duration = null,
                RequestCount = 20_000,
            });
            Assert.True(run.Run(null, CancellationToken.None).Total.RequestCount >= 20_000);
        }
    });

    [Fact]
    public void A_file_that_is_not_there_is_refused()
    {
        var options = new ServeOptions(Variant.HandWritten, _socketPath, _image.Path + ".not", false);

        Assert.Throws<DiskOpenException>(() => ServeProgram.Serve(options, CancellationToken.None));
    }

    // The path is there before the socket listens. A front-end that leaves at once is one of many.
    private bool TryConnect()
    {
        try
        {
            UnixSocket.Connect(_socketPath).Dispose();
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    private void Serving(string variant, string? filePath, Action body)
    {
        using var stop = new CancellationTokenSource();
        var options = new ServeOptions(Variants.Find(variant)!.Value, _socketPath, filePath, Direct: false);
        Task serving = Task.Factory.StartNew(
            () => ServeProgram.Serve(options, stop.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Eventually.Holds(() => serving.IsCompleted || TryConnect(), "it listens");
        Eventually.Returns(body, "all requests are answered");
        stop.Cancel();
        Eventually.Ends(serving, "it ends when it is told to");
        Assert.False(File.Exists(_socketPath));
    }
}
