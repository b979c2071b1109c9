namespace VirtioBlkFlow.Device;

/// <summary>
/// How the owner of something takes commands: one after the other, on its own scheduler, so that a command never runs beside its work.
/// Usable from any thread but the owner's own, which would wait for itself.
/// </summary>
internal sealed class CommandMailbox
{
    private readonly ActionBlock<Func<Task>> _commands;

    public CommandMailbox(TaskScheduler owner) =>
        _commands = new ActionBlock<Func<Task>>(command => command(), new ExecutionDataflowBlockOptions { TaskScheduler = owner });

    /// <summary>Runs a command and waits for its end, exceptions included.</summary>
    public void Run(Action command) => Ask(() =>
    {
        command();
        return true;
    });

    /// <summary>Runs a command and waits for its answer.</summary>
    public T Ask<T>(Func<T> command) => Ask(() => Task.FromResult(command()));

    /// <summary>Runs a command that takes several turns of its owner, and waits for its answer.</summary>
    public T Ask<T>(Func<Task<T>> command)
    {
        var answer = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        bool accepted = _commands.Post(async () =>
        {
            try
            {
                answer.SetResult(await command());
            }
            catch (Exception exception)
            {
                answer.SetException(exception);
            }
        });
        ObjectDisposedException.ThrowIf(!accepted, this);
        return answer.Task.GetAwaiter().GetResult();
    }

    /// <summary>Takes no more commands.</summary>
    public void Close() => _commands.Complete();
}
