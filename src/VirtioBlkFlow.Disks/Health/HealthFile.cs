using System.Globalization;
using Mono.Unix.Native;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>
/// Health that another program writes into a file, or that was recorded: words <c>wear=N</c>, <c>spare=N</c> (percent) and <c>temperature=N</c>
/// (degrees Celsius), in any order, with white space between them, and comments from # to the end of a line. It is read anew each time.
/// </summary>
/// <param name="path">The file.</param>
public sealed class HealthFile(string path) : IHealthSource
{
    // As far as an NVMe device counts.
    private const int MostWear = 255;

    // Beyond what any sensor says; a file that says more is wrong.
    private const int LeastCelsius = -100;
    private const int MostCelsius = 300;

    // Arbitrary: three words and some comments. Whatever else the path leads to is not read into memory.
    private const int MostBytes = 64 << 10;

    /// <inheritdoc/>
    public string Name => path;

    /// <inheritdoc/>
    public HealthReading Read()
    {
        try
        {
            using SafeFileHandle handle = OpenToRead();
            using FileStream file = new(handle, FileAccess.Read, bufferSize: 0);
            byte[] bytes = new byte[MostBytes];
            int count = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return count == bytes.Length
                ? new HealthReading { Obstacle = $"'{path}' is too long." }
                : Parse(System.Text.Encoding.UTF8.GetString(bytes, 0, count));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            return new HealthReading { Obstacle = exception.Message };
        }
    }

    // A pipe without a writer would keep its reader waiting, and with it whoever waits for the monitor: the start or the end of the program.
    private SafeFileHandle OpenToRead()
    {
        int descriptor = Syscall.open(path, OpenFlags.O_RDONLY | OpenFlags.O_NONBLOCK | OpenFlags.O_CLOEXEC);
        return descriptor >= 0
            ? new SafeFileHandle(descriptor, ownsHandle: true)
            : throw new IOException($"'{path}' cannot be opened: {Stdlib.strerror(Stdlib.GetLastError())}.");
    }

    private HealthReading Parse(string text)
    {
        int? wear = null;
        int? spare = null;
        int? temperature = null;
        string[] lines = text.Split('\n');
        for (int i = 0; i < lines.Length; i++)
        {
            foreach (string word in lines[i].Split('#')[0].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
            {
                bool isTaken = word.Split('=') is [var name, var value] && name switch
                {
                    "wear" => TryTake(value, 0, MostWear, ref wear),
                    "spare" => TryTake(value, 0, 100, ref spare),
                    "temperature" => TryTake(value, LeastCelsius, MostCelsius, ref temperature),
                    _ => false,
                };
                if (!isTaken)
                {
                    return new HealthReading { Obstacle = $"{path}:{i + 1}: '{word}' is none of wear=N, spare=N, temperature=N, each once." };
                }
            }
        }

        HealthReading reading = HealthReading.FromPercent(wear, spare, temperature);
        return reading.IsAnything ? reading : reading with { Obstacle = $"'{path}' says nothing of wear=N, spare=N, temperature=N." };
    }

    private static bool TryTake(string text, int least, int most, ref int? value)
    {
        if (value is not null || !int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) || number < least || number > most)
        {
            return false;
        }

        value = number;
        return true;
    }
}
