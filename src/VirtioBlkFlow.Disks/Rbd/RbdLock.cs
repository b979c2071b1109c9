using Mono.Unix.Native;
using static VirtioBlkFlow.Disks.Rbd.LibRbd;

namespace VirtioBlkFlow.Disks.Rbd;

/// <summary>
/// The lock of an image's exclusive-lock feature (https://docs.ceph.com/en/pacific/rbd/rbd-exclusive-locks/), held from open to close and
/// not given away meanwhile. All calls may block.
/// </summary>
internal static unsafe class RbdLock
{
    // Who is alive answers in milliseconds; who is not is waited for anyway, until its watch runs out. Arbitrary.
    private static readonly TimeSpan s_answerPatience = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Takes the lock. A holder that has died is shut out of the cluster first; that takes until its watch runs out, half a minute.
    /// </summary>
    /// <exception cref="DiskOpenException">Somebody has it, or the image has no such lock.</exception>
    public static void Take(RbdImage image, RbdDiskOptions options)
    {
        // Most clients hand the lock over when asked for it, and their writes fail as long as they cannot have it back: whoever has it and
        // is alive is not even asked.
        if (OwnerOf(image) is { } holder)
        {
            string name = NameOf(image, holder);
            if (image.Answers(ClientAt(image, holder), s_answerPatience))
            {
                throw InUse(image, options, holder);
            }

            options.Report?.Invoke($"'{options.Path}' is locked by {name}, which does not answer. Waiting until the cluster gives it up.");
        }

        int result = rbd_lock_acquire(image.Handle, RBD_LOCK_MODE_EXCLUSIVE);
        if ((Errno)(-result) == Errno.EINVAL)
        {
            throw new DiskOpenException(
                $"'{options.Path}' has no exclusive lock. Give it one, rbd feature enable {options.Path} exclusive-lock, or do without: lock=off");
        }

        if (result < 0)
        {
            throw OwnerOf(image) is { } owner
                ? InUse(image, options, owner)
                : new DiskOpenException($"'{options.Path}' cannot be locked: {RbdCluster.Describe(result)}. Check the cluster: ceph -s");
        }
    }

    /// <summary>For who only reads: looks whether somebody who is there may write. Whoever comes later is not kept from it.</summary>
    /// <exception cref="DiskOpenException">Somebody does.</exception>
    public static void RequireNoWriter(RbdImage image, RbdDiskOptions options)
    {
        if (OwnerOf(image) is { } owner && ClientAt(image, owner) != 0)
        {
            throw new DiskOpenException(
                $"'{options.Path}' is in use by {NameOf(image, owner)}, who may write to it. Stop that client, serve a snapshot (rbd:POOL/IMAGE@SNAP), or read what changes meanwhile: lock=off");
        }
    }

    /// <summary>Asks the cluster whether the lock is still ours. No answer at all says nothing about it.</summary>
    public static bool IsLost(RbdImage image)
    {
        int isOwner = 0;
        int result = rbd_is_exclusive_lock_owner(image.Handle, &isOwner);
        return result == 0 ? isOwner == 0 : (Errno)(-result) == Errno.ESHUTDOWN;
    }

    private static DiskOpenException InUse(RbdImage image, RbdDiskOptions options, string owner) =>
        new($"'{options.Path}' is in use by {NameOf(image, owner)}. Stop that client, or do without locks: lock=off");

    private static string NameOf(RbdImage image, string owner) =>
        ClientAt(image, owner) is var id and not 0 ? $"client.{id} at {owner}" : $"a client at {owner}";

    private static string? OwnerOf(RbdImage image)
    {
        byte* owner = null;
        nuint count = 1;
        int mode = 0;
        if (rbd_lock_get_owners(image.Handle, &mode, &owner, &count) < 0 || count == 0)
        {
            return null;
        }

        string? address = Marshal.PtrToStringUTF8((nint)owner);
        rbd_lock_get_owners_cleanup(&owner, count);
        return address;
    }

    // The number of the client that has the image open at an address; 0 for none.
    private static long ClientAt(RbdImage image, string address)
    {
        ImageWatcher[] watchers = new ImageWatcher[16];
        nuint count;
        int result;
        do
        {
            fixed (ImageWatcher* first = watchers)
            {
                count = (nuint)watchers.Length;
                result = rbd_watchers_list(image.Handle, first, &count);
            }

            // There are more than that: it says how many.
            watchers = (Errno)(-result) == Errno.ERANGE ? new ImageWatcher[count + 16] : watchers;
        }
        while ((Errno)(-result) == Errno.ERANGE);

        long id = 0;
        if (result < 0)
        {
            return id;
        }

        foreach (ref ImageWatcher watcher in watchers.AsSpan(0, (int)count))
        {
            if (Marshal.PtrToStringUTF8((nint)watcher.Address) == address)
            {
                id = watcher.Id;
            }
        }

        fixed (ImageWatcher* first = watchers)
        {
            rbd_watchers_list_cleanup(first, count);
        }

        return id;
    }
}
