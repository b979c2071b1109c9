using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Device.Reactor;
using VirtioBlkFlow.Disks.Engine;

namespace VirtioBlkFlow.Daemon;

/// <summary>What --reactors asks for: threads that all queues share, and so work alike for all of them.</summary>
/// <param name="Count">How many.</param>
/// <param name="Polling">What they do before they sleep.</param>
/// <param name="Processors">Where they run, one each and again from the start; empty for anywhere.</param>
internal sealed record SharedReactors(int Count, PollMode Polling, IReadOnlyList<int> Processors)
{
    /// <summary>As the options for all disks have it.</summary>
    /// <exception cref="SpecException">A disk wants something else for itself.</exception>
    public static SharedReactors Of(int count, DiskSpec defaults, IEnumerable<DiskSpec> disks)
    {
        foreach (DiskSpec disk in disks)
        {
            SpecKey? own = disk.Device.Polling != defaults.Device.Polling ? QueueKeys.Poll
                : !disk.Device.Processors.SequenceEqual(defaults.Device.Processors) ? QueueKeys.Processors
                : null;
            if (own != null)
            {
                throw new SpecException($"{disk.Origin}: {own} is for a disk with threads of its own; with --reactors give it for all disks.");
            }
        }

        return new SharedReactors(count, defaults.Device.Polling, defaults.Device.Processors);
    }

    /// <summary>What each of them is to be like.</summary>
    public IReadOnlyList<ReactorOptions> OptionsFor(IoEngineKind engine) =>
        [.. Enumerable.Range(0, Count).Select(i => new ReactorOptions(engine, Polling, Processors.Count == 0 ? null : Processors[i % Processors.Count]))];
}
