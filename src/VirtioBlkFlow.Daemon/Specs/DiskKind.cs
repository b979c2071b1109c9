using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Disks;

namespace VirtioBlkFlow.Daemon.Specs;

/// <summary>A kind of disk as an operator names it: KIND:WHAT, the keys it knows beside those of every disk, and how it is opened.</summary>
internal abstract class DiskKind
{
    /// <summary>The word before the colon.</summary>
    public abstract string Name { get; }

    /// <summary>Other words there, as of addresses that begin with something of their own.</summary>
    public virtual IReadOnlyList<string> OtherNames => [];

    /// <summary>What is behind the colon, in short.</summary>
    public abstract string Form { get; }

    /// <summary>One sentence.</summary>
    public abstract string Meaning { get; }

    /// <summary>A specification that works.</summary>
    public abstract string Example { get; }

    /// <summary>Keys that this kind knows and not every disk.</summary>
    public abstract IReadOnlyList<SpecKey> OwnKeys { get; }

    /// <summary>All keys of disks of this kind, but for those of features.</summary>
    public IEnumerable<SpecKey> Keys => OwnKeys.Concat(StackKeys.All).Concat(DeviceKeys.All).Concat(QueueKeys.All).Concat(SocketKeys.All);

    /// <summary>What keeps the sectors, of what was written.</summary>
    /// <param name="name">The word before the first colon.</param>
    /// <param name="rest">What is behind it.</param>
    public virtual string WhatOf(string name, string rest) => rest;

    /// <summary>What is wrong with a specification, as the rest of a sentence that begins with its origin; null for nothing.</summary>
    public virtual string? FindFault(DiskSpec spec) => null;

    /// <summary>
    /// What two disks must not share, such as the identity of an image; null if there is no such thing. Asks the host, and takes
    /// what is not there for something of its own.
    /// </summary>
    public virtual string? StorageOf(DiskSpec spec) => null;

    /// <summary>
    /// Why what was read from such a disk may not be written again in the background, with the remedy; null if it may: nobody but this
    /// process writes to it.
    /// </summary>
    public virtual string? ObstacleToRewrite(DiskSpec spec) => $"Nothing is known of who else writes to a disk of kind {Name}.";

    /// <summary>Opens the disk itself; what lies on top of it is the <see cref="DiskStack"/>'s.</summary>
    /// <exception cref="DiskOpenException">It cannot be opened as asked.</exception>
    public abstract IDisk Open(DiskSpec spec, ILogger logger);

    public override string ToString() => Name;
}
