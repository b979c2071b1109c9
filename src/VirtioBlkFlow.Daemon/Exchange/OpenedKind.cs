using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Disks;

namespace VirtioBlkFlow.Daemon.Exchange;

/// <summary>A disk that is there already, for what serves disks of any kind. Not one that can be asked for by name.</summary>
/// <param name="disk">Belongs to who opens it here.</param>
internal sealed class OpenedKind(IDisk disk) : DiskKind
{
    public override string Name => "exchange";

    public override string Form => "";

    public override string Meaning => "";

    public override string Example => "";

    public override IReadOnlyList<SpecKey> OwnKeys => [];

    public override IDisk Open(DiskSpec spec, ILogger logger) => disk;
}
