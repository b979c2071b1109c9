using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging.Abstractions;
using VirtioBlkFlow.Device;
using VirtioBlkFlow.Disks;
using VirtioBlkFlow.Disks.File;
using VirtioBlkFlow.Disks.Null;
using VirtioBlkFlow.VhostUser;
using VirtioBlkFlow.VhostUser.Server;
using VirtioBlkFlow.VhostUser.Session;
using VirtioBlkFlow.VhostUser.Wire;
using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Benchmarks.Study.Serving;

/// <summary>The <c>serve</c> command from its arguments to its exit code: a variant on a vhost-user-blk socket, until SIGTERM or SIGINT.</summary>
internal static class ServeProgram
{
    private const ulong NullBytes = 1UL << 30;

    // The variants that are not the pipeline read, write and flush; so that is all that is offered, by the pipeline too.
    private const BlkFeatures NotOffered = BlkFeatures.VIRTIO_BLK_F_DISCARD | BlkFeatures.VIRTIO_BLK_F_WRITE_ZEROES
        | BlkFeatures.VIRTIO_BLK_F_SECURE_ERASE | BlkFeatures.VIRTIO_BLK_F_LIFETIME | BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE;

    // No record of requests in flight, no dirty log: the pipeline would pay for what the others do not have.
    private const ProtocolFeatures Offered = ProtocolFeatures.MQ | ProtocolFeatures.REPLY_ACK | ProtocolFeatures.BACKEND_REQ | ProtocolFeatures.CONFIG
        | ProtocolFeatures.RESET_DEVICE | ProtocolFeatures.CONFIGURE_MEM_SLOTS | ProtocolFeatures.STATUS;

    /// <summary>Runs it.</summary>
    /// <returns>0, 1 if it cannot serve, 2 for a wrong command line.</returns>
    public static int Run(IReadOnlyList<string> arguments)
    {
        if (ServeCommand.Parse(arguments, out string complaint) is not { } options)
        {
            Console.Error.WriteLine($"serve: {complaint}");
            return 2;
        }

        using var stop = new CancellationTokenSource();
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, End);
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, End);
        try
        {
            Serve(options, stop.Token);
            return 0;
        }
        catch (Exception exception) when (exception is DiskOpenException or OfferException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"serve: {exception.Message}");
            return 1;
        }

        void End(PosixSignalContext context)
        {
            context.Cancel = true;
            stop.Cancel();
        }
    }

    /// <summary>Serves one front-end after the other until it is told to stop; requests in flight are finished.</summary>
    /// <exception cref="DiskOpenException">The disk cannot be opened.</exception>
    /// <exception cref="IOException">The socket cannot be had.</exception>
    public static void Serve(ServeOptions options, CancellationToken stop)
    {
        if (options.Direct && options.Variant is Variant.PoolBatches or Variant.PoolRequests)
        {
            // Their threads wait in the kernel; the pool would add one at a time, with half a second between.
            ThreadPool.GetMinThreads(out int workers, out int completions);
            ThreadPool.SetMinThreads(Math.Max(workers, BlkDeviceOptions.DefaultParallelism + 2), completions);
        }

        using IDisk disk = options.FilePath is { } path
            ? FileDisk.Open(new FileDiskOptions(path, ReadOnly: true, options.Direct, Lock: false))
            : NullDisk.Open(new NullDiskOptions(NullBytes));
        var choices = new BlkDeviceOptions { QueueCount = 1, Cache = CacheMode.Writeback, Features = new FeatureChoices(0, (ulong)NotOffered) };
        IVhostUserBackend device = options.Variant == Variant.OurBlocks
            ? new BlkDevice(disk, choices, NullLogger.Instance)
            : new StudyDevice(options.Variant, disk, choices);
        using var ending = (IDisposable)device;
        VhostUserSessionOptions session = VhostUserSessionOptions.Default with { OfferedProtocolFeatures = Offered };
        using var server = VhostUserServer.OnListener(ListeningSocket.Listen(options.SocketPath), device, session, NullLogger.Instance);
        server.Start(stop).GetAwaiter().GetResult();
    }
}
