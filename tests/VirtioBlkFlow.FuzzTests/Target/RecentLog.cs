using Microsoft.Extensions.Logging;

namespace VirtioBlkFlow.FuzzTests.Target;

/// <summary>The last things the device had to say, for the report of a finding. Used by many threads.</summary>
internal sealed class RecentLog : ILogger
{
    // Arbitrary: enough to see what led to the end.
    private const int Lines = 40;

    private readonly Queue<string> _lines = new();

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (!IsEnabled(logLevel))
        {
            return;
        }

        string line = $"{logLevel}: {formatter(state, exception)}{(exception is null ? "" : $"\n{exception}")}";
        if (logLevel == LogLevel.Critical)
        {
            // What comes next may be the end of the process.
            Console.Error.WriteLine(line);
        }

        lock (_lines)
        {
            _lines.Enqueue(line);
            if (_lines.Count > Lines)
            {
                _lines.Dequeue();
            }
        }
    }

    public override string ToString()
    {
        lock (_lines)
        {
            return string.Join('\n', _lines);
        }
    }
}
