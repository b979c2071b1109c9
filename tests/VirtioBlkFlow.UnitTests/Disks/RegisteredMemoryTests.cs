using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Frontend.Memory;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>Transfers to and from memory that is registered, partly registered, registered no more.</summary>
public sealed unsafe partial class RegisteredMemoryTests : IDisposable
{
    private const int PageBytes = 4096;
    private const uint Token = 3;
    private readonly TemporaryImage _image = new(1 << 20);
    private readonly SharedMemory _memory = SharedMemory.OfSize(64 * PageBytes);
    private readonly byte* _host;
    private readonly byte[] _content = new byte[1 << 20];

    public RegisteredMemoryTests()
    {
        new Random(1).NextBytes(_content);
        _image.Write(0, _content);
        _host = _memory.Regions[0].Host;
    }

    public void Dispose()
    {
        _memory.Dispose();
        _image.Dispose();
    }

    [Fact]
    public void Data_is_the_same_within_across_and_outside_of_what_is_registered()
    {
        using IIoEngine engine = IoEngines.Create(IoEngineKind.IoUring, 16);
        using var file = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.ReadWrite);
        int number = engine.RegisterFile(file);
        Iovec[] areas = [AreaOf(0, 16), AreaOf(32, 16)];
        // 8 to 24 pages: half in the first area. 20 to 28: in none. 32 to 48: exactly the second.
        (int First, int Count)[] places = [(0, 16), (1, 3), (8, 16), (20, 8), (32, 16), (47, 1), (40, 16)];
        for (int round = 0; round < 3; round++)
        {
            // The second round with both, twice; the others without any.
            for (int i = 0; i < (round == 1 ? 2 : 0); i++)
            {
                Assert.True(engine.TryRegisterMemory(areas, out string obstacle), obstacle);
            }

            foreach ((int first, int count) in places)
            {
                Iovec piece = AreaOf(first, count);
                var span = new Span<byte>(piece.Base, count * PageBytes);
                span.Clear();
                engine.Read(number, &piece, 1, (ulong)(first * PageBytes), Token);
                Assert.Equal(count * PageBytes, ResultOf(engine));
                Assert.True(span.SequenceEqual(_content.AsSpan(first * PageBytes, count * PageBytes)), $"round {round}, page {first}");
                engine.Write(number, &piece, 1, (ulong)((128 + first) * PageBytes), durable: round == 1, Token);
                Assert.Equal(count * PageBytes, ResultOf(engine));
                Assert.True(span.SequenceEqual(_image.Read((128 + first) * PageBytes, count * PageBytes)));
            }

            for (int i = 0; i < (round == 1 ? 2 : 0); i++)
            {
                engine.UnregisterMemory(areas);
            }
        }
    }

    [Fact]
    public void What_was_registered_twice_is_registered_until_both_are_taken_back()
    {
        using IIoEngine engine = IoEngines.Create(IoEngineKind.IoUring, 16);
        using var file = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.ReadWrite);
        int number = engine.RegisterFile(file);
        Iovec[] areas = [AreaOf(0, 4)];
        Assert.True(engine.TryRegisterMemory(areas, out _));
        Assert.True(engine.TryRegisterMemory(areas, out _));
        engine.UnregisterMemory(areas);
        Assert.True(IsPinned(engine, number));
        engine.UnregisterMemory(areas);
        Assert.False(IsPinned(engine, number));
    }

    [Fact]
    public void What_cannot_be_registered_is_refused_as_a_whole()
    {
        using IIoEngine engine = IoEngines.Create(IoEngineKind.IoUring, 16);
        using var file = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.ReadWrite);
        int number = engine.RegisterFile(file);
        // The second area is of nobody.
        Assert.False(engine.TryRegisterMemory([AreaOf(0, 4), new Iovec((byte*)PageBytes, PageBytes)], out string obstacle));
        Assert.Contains("IORING_REGISTER_BUFFERS_UPDATE", obstacle, StringComparison.Ordinal);
        Assert.False(IsPinned(engine, number));
        Assert.True(engine.TryRegisterMemory([AreaOf(0, 4)], out _));
        Assert.True(IsPinned(engine, number));
    }

    [Fact]
    public void The_other_engine_says_that_it_cannot()
    {
        using IIoEngine engine = IoEngines.Create(IoEngineKind.Threads, 16);
        Assert.False(engine.TryRegisterMemory([AreaOf(0, 4)], out string obstacle));
        Assert.NotEmpty(obstacle);
    }

    private Iovec AreaOf(int firstPage, int pages) => new(_host + (firstPage * PageBytes), (nuint)(pages * PageBytes));

    // A pinned page stays what the ring knows when its owner gives it back and touches it anew: the danger of pinning is how to see it.
    private bool IsPinned(IIoEngine engine, int file)
    {
        const int KeepSizePunchHole = 3;
        *_host = 1;
        Assert.Equal(0, Fallocate(_memory.Regions[0].Handle, KeepSizePunchHole, 0, PageBytes));
        *_host = 2;
        Iovec piece = AreaOf(0, 1);
        engine.Write(file, &piece, 1, 0, durable: false, Token);
        Assert.Equal(PageBytes, ResultOf(engine));
        return _image.Read(0, 1)[0] == 1;
    }

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int Fallocate(SafeFileHandle file, int mode, long offset, long length);

    private static int ResultOf(IIoEngine engine)
    {
        Span<IoCompletion> completions = stackalloc IoCompletion[4];
        int count;
        do
        {
            engine.Wait(Eventually.PatienceMs * 1_000_000L);
            count = engine.Reap(completions);
        }
        while (count == 0);
        Assert.Equal((1, Token), (count, completions[0].Token));
        return completions[0].Result;
    }
}
