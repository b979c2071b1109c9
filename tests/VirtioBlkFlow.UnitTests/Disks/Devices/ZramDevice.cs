using System.Globalization;
using VirtioBlkFlow.Frontend;

namespace VirtioBlkFlow.UnitTests.Disks.Devices;

/// <summary>A block device in compressed memory (Linux, "admin-guide/blockdev/zram.rst"), added for a test and removed after it.</summary>
internal sealed class ZramDevice : IDisposable
{
    private const string Control = "/sys/class/zram-control";
    private const int PatienceMs = 60_000;

    private readonly string _number;

    public ZramDevice(long sizeBytes)
    {
        if (!Directory.Exists(Control) || Environment.UserName != "root")
        {
            throw new InvalidOperationException($"This test needs zram devices: {Control} (modprobe zram) and the rights of root to use it.");
        }

        // To read it is to add one.
        _number = File.ReadAllText($"{Control}/hot_add").Trim();
        File.WriteAllText($"/sys/block/zram{_number}/disksize", sizeBytes.ToString(CultureInfo.InvariantCulture));
    }

    public string Path => $"/dev/zram{_number}";

    /// <summary>Removes it, when it is closed: a ring lets go of its files a moment after it has ended.</summary>
    public void Dispose()
    {
        Deadline deadline = Deadline.In(PatienceMs);
        while (true)
        {
            try
            {
                File.WriteAllText($"/sys/block/zram{_number}/reset", "1");
                File.WriteAllText($"{Control}/hot_remove", _number);
                return;
            }
            catch (IOException) when (!deadline.HasPassed)
            {
                Thread.Yield();
            }
        }
    }
}
