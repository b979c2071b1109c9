using VirtioBlkFlow.EndToEndTests.Harness;
using VirtioBlkFlow.EndToEndTests.Program;

namespace VirtioBlkFlow.EndToEndTests.Bench;

/// <summary><c>vblkflow bench</c> against a back-end of others: QEMU's storage daemon, which has neither packed rings nor a whole configuration space.</summary>
public sealed class StorageDaemonTests : IAsyncLifetime, IDisposable
{
    private const string SocketName = "qsd.sock";

    private readonly TestFolder _folder = new();
    private ChildProcess? _server;

    public async Task InitializeAsync()
    {
        DiskImage image = _folder.CreateImage(16);
        _server = await ListeningSocket.StartListenerAsync(_folder, SocketName, () => ChildProcess.Start(
            "qemu-storage-daemon",
            [
                "--blockdev", $"driver=file,filename={image.FilePath},node-name=f",
                "--export", $"type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={_folder[SocketName]},writable=on,num-queues=2",
            ]));
    }

    public async Task DisposeAsync() => await _server!.DisposeAsync();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("--wait poll")]
    [InlineData("--wait sleep --queues 2")]
    [InlineData("--wait sleep --no-event-idx --no-indirect")]
    public async Task Reads_and_writes_come_back_right(string way)
    {
        BenchJob job = await BenchProgram.RunAsync(
            _folder, _folder[SocketName], $"--rw randrw --allow-writes --verify --block-size 4K:3/64K:1 --queue-depth 16 --count 2000 {way}");

        Assert.Equal(2000, job.Reads + job.Writes);
        Assert.True(job.OwnCount("verified_sectors") > 2000);
        Assert.Equal(_server!.ProcessId, job.Own.GetProperty("server").GetProperty("pid").GetInt32());
    }

    [Fact]
    public async Task What_it_has_not_got_is_named() =>
        (await BenchProgram.EndOfAsync(_folder, _folder[SocketName], "--ring packed")).AssertRefusedWith(ProgramEnd.Failure, "packed");
}
