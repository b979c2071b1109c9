using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtioBlkFlow.Disks.Engine;
using VirtioBlkFlow.Frontend;
using VirtioBlkFlow.UnitTests.Device;
using VirtioBlkFlow.Virtio;
using Xunit;
using EventDescriptor = VirtioBlkFlow.Frontend.EventDescriptor;
using OpenFlags = Mono.Unix.Native.OpenFlags;
using Stdlib = Mono.Unix.Native.Stdlib;
using Syscall = Mono.Unix.Native.Syscall;

namespace VirtioBlkFlow.UnitTests.Disks;

/// <summary>What both engines do for the thread that owns them.</summary>
public sealed class EngineTests : IDisposable
{
    private const long WaitNanoseconds = Eventually.PatienceMs * 1_000_000L;
    private readonly TemporaryImage _image = new(1 << 20);

    public void Dispose() => _image.Dispose();

    public static TheoryData<IoEngineKind> Engines => [.. Enum.GetValues<IoEngineKind>()];

    [Theory]
    [MemberData(nameof(Engines))]
    public void Each_signal_of_a_watched_descriptor_ends_a_wait(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var descriptor = new EventDescriptor();
        engine.Watch(5, descriptor.Handle);
        for (int i = 0; i < 10; i++)
        {
            // Never read, so the count only grows: each signal tells nevertheless.
            descriptor.Signal();
            Assert.Equal(new IoCompletion(IoCompletionKind.Signal, 5, 0), WaitForOne(engine));
        }

        Assert.Equal(10ul, descriptor.Take());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_signal_from_before_the_watch_is_reported(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var descriptor = new EventDescriptor();
        descriptor.Signal();
        engine.Watch(7, descriptor.Handle);
        Assert.Equal(7u, WaitForOne(engine).Token);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_signal_from_another_thread_wakes_the_owner(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var descriptor = new EventDescriptor();
        engine.Watch(1, descriptor.Handle);
        var other = new Thread(descriptor.Signal);
        other.Start();
        Assert.Equal(1u, WaitForOne(engine).Token);
        other.Join();
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void What_is_not_watched_any_more_is_not_reported(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var first = new EventDescriptor();
        using var second = new EventDescriptor();
        for (int i = 0; i < 50; i++)
        {
            engine.Watch(1, first.Handle);
            first.Signal();
            engine.Unwatch(1);
            // The same number for another descriptor: nothing of the first may be taken for it.
            engine.Watch(1, second.Handle);
            engine.Wait(0);
            Assert.DoesNotContain(Reaped(engine), completion => completion.Token == 1);
            first.Signal();
            engine.Wait(0);
            Assert.DoesNotContain(Reaped(engine), completion => completion.Token == 1);
            second.Signal();
            Assert.Equal(1u, WaitForOne(engine).Token);
            second.Take();
            engine.Unwatch(1);
        }

        engine.Unwatch(99);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Two_watches_are_told_apart(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var first = new EventDescriptor();
        using var second = new EventDescriptor();
        engine.Watch(1, first.Handle);
        engine.Watch(2, second.Handle);
        second.Signal();
        Assert.Equal(2u, WaitForOne(engine).Token);
        first.Signal();
        Assert.Equal(1u, WaitForOne(engine).Token);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_wake_ends_the_sleep_that_comes_or_is(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        for (int i = 0; i < 20; i++)
        {
            engine.Wake();
            Assert.Equal(new IoCompletion(IoCompletionKind.Signal, IIoEngine.WakeToken, 0), WaitForOne(engine));
            var other = new Thread(engine.Wake);
            other.Start();
            Assert.Equal(IIoEngine.WakeToken, WaitForOne(engine).Token);
            other.Join();
        }
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_wait_ends_with_its_time(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        engine.Wait(1_000_000);
        Assert.Empty(Reaped(engine));
        Assert.False(engine.HasCompletions);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_wake_after_the_end_does_no_harm(IoEngineKind kind)
    {
        IIoEngine engine = IoEngines.Create(kind, 16);
        engine.Dispose();
        Assert.Null(Record.Exception(engine.Wake));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void A_file_keeps_its_number(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var first = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.Read);
        using var second = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.Read);
        int number = engine.RegisterFile(first);
        Assert.NotEqual(number, engine.RegisterFile(second));
        Assert.Equal(number, engine.RegisterFile(first));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public unsafe void More_files_than_the_ring_has_places_for_can_be_read(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var memory = new NativePieces(20, 512);
        var handles = Enumerable.Range(0, 20).Select(i =>
        {
            _image.Write(i * 512, [(byte)(i + 1)]);
            return File.OpenHandle(_image.Path, FileMode.Open, FileAccess.Read);
        }).ToArray();
        for (uint i = 0; i < 20; i++)
        {
            engine.Read(engine.RegisterFile(handles[i]), memory.Pieces + i, 1, i * 512, i);
        }

        Assert.Equal(Enumerable.Repeat(512, 20), WaitForOperations(engine, 20).Select(completion => completion.Result));
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(i + 1, memory.Pieces[i].Base[0]);
        }

        Array.ForEach(handles, handle => handle.Dispose());
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public unsafe void More_operations_than_the_ring_has_entries_all_end_once(IoEngineKind kind)
    {
        const int Operations = 3000;
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var handle = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.ReadWrite);
        using var memory = new NativePieces(1, 512);
        int file = engine.RegisterFile(handle);
        for (uint i = 0; i < Operations; i++)
        {
            engine.Read(file, memory.Pieces, 1, i % 2048 * 512, i);
        }

        uint[] tokens = [.. WaitForOperations(engine, Operations).Select(completion => completion.Token).Order()];
        Assert.Equal(Enumerable.Range(0, Operations).Select(i => (uint)i), tokens);
        engine.Wait(0);
        Assert.DoesNotContain(Reaped(engine), completion => completion.Kind == IoCompletionKind.Operation);
    }

    [Theory]
    [InlineData(false, 1)]
    [InlineData(true, 3)]
    public void Operations_on_a_file_open_for_direct_io_are_handed_over_a_few_at_once(bool direct, int calls)
    {
        const int Operations = 10;
        using IIoEngine engine = IoEngines.Create(IoEngineKind.IoUring, 16);
        int descriptor = Syscall.open(_image.Path, direct ? OpenFlags.O_RDONLY | OpenFlags.O_DIRECT : OpenFlags.O_RDONLY);
        Assert.True(descriptor >= 0, $"{_image.Path}: {Stdlib.GetLastError()}");
        using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        int file = engine.RegisterFile(handle);
        for (uint i = 0; i < Operations; i++)
        {
            engine.Fdatasync(file, i);
        }

        ulong before = engine.SystemCallCount;
        engine.Submit();
        Assert.Equal((ulong)calls, engine.SystemCallCount - before);
        uint[] tokens = [.. WaitForOperations(engine, Operations).Select(completion => completion.Token).Order()];
        Assert.Equal(Enumerable.Range(0, Operations).Select(i => (uint)i), tokens);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public unsafe void Errors_come_as_negated_numbers(IoEngineKind kind)
    {
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var readOnly = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.Read);
        using var memory = new NativePieces(1, 512);
        int file = engine.RegisterFile(readOnly);
        engine.Write(file, memory.Pieces, 1, 0, durable: true, 1);
        engine.Fallocate(file, 3, 0, 512, 2);
        engine.Read(file, memory.Pieces, 1, 1 << 20, 3);
        engine.Fdatasync(file, 4);
        Dictionary<uint, int> results = WaitForOperations(engine, 4).ToDictionary(one => one.Token, one => one.Result);
        const int EBADF = 9;
        Assert.Equal(-EBADF, results[1]);
        Assert.Equal(-EBADF, results[2]);
        Assert.Equal(0, results[3]);
        Assert.Equal(0, results[4]);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public unsafe void An_ioctl_answers_into_its_argument_and_errors_come_as_negated_numbers(IoEngineKind kind)
    {
        const nuint FIONREAD = 0x541b;
        const nuint BLKSECDISCARD = 0x127d;
        const int ENOTTY = 25;
        const int Calls = 100;
        using IIoEngine engine = IoEngines.Create(kind, 16);
        using var handle = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.ReadWrite);
        using var answers = new NativePieces(Calls, 64);
        int file = engine.RegisterFile(handle);
        for (uint i = 0; i < Calls; i++)
        {
            engine.Ioctl(file, i % 2 == 0 ? FIONREAD : BLKSECDISCARD, answers.Pieces[i].Base, i);
        }

        IoCompletion[] ends = [.. WaitForOperations(engine, Calls).OrderBy(one => one.Token)];
        Assert.Equal(Enumerable.Range(0, Calls).Select(i => ((uint)i, i % 2 == 0 ? 0 : -ENOTTY)), ends.Select(one => (one.Token, one.Result)));
        for (int i = 0; i < Calls; i++)
        {
            Assert.Equal(i % 2 == 0 ? 1 << 20 : 0, *(int*)answers.Pieces[i].Base);
        }
    }

    [Fact]
    public unsafe void An_ioctl_that_blocks_holds_up_nothing_but_the_end()
    {
        using var release = new ManualResetEventSlim();
        var engine = new UringEngine(16, (_, request, _) =>
        {
            release.Wait(Eventually.PatienceMs);
            return (int)request;
        });
        using var handle = File.OpenHandle(_image.Path, FileMode.Open, FileAccess.Read);
        using var memory = new NativePieces(1, 512);
        int file = engine.RegisterFile(handle);
        engine.Ioctl(file, 77, null, 1);
        for (uint i = 2; i < 10; i++)
        {
            engine.Read(file, memory.Pieces, 1, 0, i);
            Assert.Equal(i, Assert.Single(WaitForOperations(engine, 1)).Token);
        }

        engine.Ioctl(file, 78, null, 10);
        var other = new Thread(release.Set);
        other.Start();
        Assert.Equal([(1u, 77), (10u, 78)], WaitForOperations(engine, 2).Select(one => (one.Token, one.Result)));
        other.Join();

        release.Reset();
        engine.Ioctl(file, 79, null, 11);
        var end = new Thread(engine.Dispose);
        end.Start();
        Eventually.Holds(() => (end.ThreadState & (ThreadState.WaitSleepJoin | ThreadState.Stopped)) != 0, "the end waits, or is there");
        Assert.True(end.IsAlive);
        release.Set();
        Assert.True(end.Join(Eventually.PatienceMs));
    }

    [Fact]
    public void Both_engines_have_the_names_of_the_command_line()
    {
        Assert.Equal("io_uring", IoEngines.NameOf(IoEngineKind.IoUring));
        Assert.Equal("threads", IoEngines.NameOf(IoEngineKind.Threads));
        Assert.Throws<ArgumentOutOfRangeException>(() => IoEngines.Create((IoEngineKind)9, 1));
    }

    private static IoCompletion WaitForOne(IIoEngine engine)
    {
        var deadline = Deadline.In(Eventually.PatienceMs);
        List<IoCompletion> found = [];
        // A sleep may end for something that is the engine's own business.
        while (found.Count == 0)
        {
            Assert.False(deadline.HasPassed, "Nothing was reported.");
            engine.Wait(WaitNanoseconds);
            found = Reaped(engine);
        }

        return Assert.Single(found.Distinct());
    }

    private static List<IoCompletion> WaitForOperations(IIoEngine engine, int count)
    {
        List<IoCompletion> all = [];
        var deadline = Deadline.In(Eventually.PatienceMs);
        while (all.Count < count)
        {
            Assert.False(deadline.HasPassed, $"{all.Count} of {count} operations ended.");
            engine.Wait(1_000_000_000);
            all.AddRange(Reaped(engine).Where(completion => completion.Kind == IoCompletionKind.Operation));
        }

        return all;
    }

    private static List<IoCompletion> Reaped(IIoEngine engine)
    {
        List<IoCompletion> all = [];
        Span<IoCompletion> some = stackalloc IoCompletion[8];
        int count;
        do
        {
            count = engine.Reap(some);
            all.AddRange(some[..count]);
        }
        while (count == some.Length);
        return all;
    }

    private sealed unsafe class NativePieces : IDisposable
    {
        private readonly byte* _memory;

        public NativePieces(int count, int lengthBytes)
        {
            _memory = (byte*)NativeMemory.AllocZeroed((nuint)(count * lengthBytes));
            Pieces = (Iovec*)NativeMemory.Alloc((nuint)count, (nuint)sizeof(Iovec));
            for (int i = 0; i < count; i++)
            {
                Pieces[i] = new Iovec(_memory + (i * lengthBytes), (nuint)lengthBytes);
            }
        }

        public Iovec* Pieces { get; }

        public void Dispose()
        {
            NativeMemory.Free(_memory);
            NativeMemory.Free(Pieces);
        }
    }
}
