namespace VirtioBlkFlow.Device.Pipeline;

/// <summary>The four stages of a queue, not yet linked.</summary>
/// <param name="QueueIndex">Number of the queue.</param>
/// <param name="Notify">Pops chains.</param>
/// <param name="Parse">Decodes and checks.</param>
/// <param name="Io">Talks to the disk.</param>
/// <param name="Completion">Returns requests to the driver.</param>
/// <param name="Scheduler">Runs tasks on the queue's thread; blocks that are given it keep everything on that thread.</param>
public sealed record PipelineStages(
    int QueueIndex, NotifyBlock Notify, ParseBlock Parse, IoBlock Io, CompletionBlock Completion, TaskScheduler Scheduler)
{
    /// <summary>Optional, between notify and parse; null unless <see cref="BlkDeviceOptions.Lint"/> asks for it.</summary>
    public LintBlock? Lint { get; init; }
}

/// <summary>
/// Links the stages of a queue, with whatever other blocks between them, and says where kicks go in. Called for each start of a queue, on
/// its thread. Every batch and every burst must arrive exactly once at the stage it is for.
/// </summary>
public delegate ITargetBlock<QueueKick> PipelineAssembly(PipelineStages stages);

/// <summary>The assemblies there are.</summary>
public static class PipelineAssemblies
{
    private static readonly DataflowLinkOptions s_propagate = new() { PropagateCompletion = true };

    /// <summary>The stages alone, with the optional ones that were asked for, each linked to the next: every hop a method call.</summary>
    public static ITargetBlock<QueueKick> Direct(PipelineStages stages)
    {
        if (stages.Lint is { } lint)
        {
            stages.Notify.LinkTo(lint, s_propagate);
            lint.LinkTo(stages.Parse, s_propagate);
        }
        else
        {
            stages.Notify.LinkTo(stages.Parse, s_propagate);
        }

        stages.Parse.LinkTo(stages.Io, s_propagate);
        stages.Io.LinkTo(stages.Completion, s_propagate);
        return stages.Notify;
    }
}
