using System.Runtime.ExceptionServices;
using Xunit;

namespace IoUring.UnitTests;

/// <summary>Runs what might hang, an endless wait say, on a thread of its own and fails when it does.</summary>
internal sealed class OwnThread
{
    // Far more than any test needs, even on a busy machine.
    public const long PatienceNanoseconds = 20_000_000_000;
    public static readonly TimeSpan Patience = TimeSpan.FromMicroseconds(PatienceNanoseconds / 1000);

    private readonly Thread _thread;
    private Exception? _failure;

    private OwnThread(Action body, string name)
    {
        _thread = new Thread(() =>
        {
            try
            {
                body();
            }
            catch (Exception failure)
            {
                _failure = failure;
            }
        })
        {
            IsBackground = true,
            Name = name,
        };
        _thread.Start();
    }

    public static OwnThread Start(Action body, string name = "other") => new(body, name);

    public static void Run(Action body) => Start(body, "owner").Join();

    /// <summary>Waits for the end and passes on a failure.</summary>
    public void Join()
    {
        Assert.True(_thread.Join(Patience), $"The thread '{_thread.Name}' did not end within {Patience.TotalSeconds} s.");
        if (_failure != null)
        {
            ExceptionDispatchInfo.Throw(_failure);
        }
    }
}
