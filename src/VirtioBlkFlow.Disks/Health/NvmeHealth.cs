using System.Buffers.Binary;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>Reads the log page with an NVMe device's health into a buffer.</summary>
/// <returns>Why it could not; null if it could.</returns>
internal delegate string? ReadNvmePage(Span<byte> page);

/// <summary>How an NVMe device fares: "SMART / Health Information" log page, 02h (NVM Express Base Specification, "Get Log Page command").</summary>
/// <param name="readPage">Asks the device.</param>
/// <param name="temperature">Tells its temperature to those who may not ask the device itself.</param>
internal sealed class NvmeHealth(ReadNvmePage readPage, TemperatureSensor? temperature) : IHealthSource
{
    /// <summary>Size of the page.</summary>
    public const int PageBytes = 512;

    private const int CriticalWarningOffset = 0;
    private const int TemperatureOffset = 1;
    private const int SpareOffset = 3;
    private const int WearOffset = 5;

    // Bit 0 of the critical warning: the spare has fallen below the threshold of the maker.
    private const byte SpareBelowThreshold = 1;

    private const int KelvinOfZeroCelsius = 273;

    /// <inheritdoc/>
    public string Name => "NVMe";

    /// <inheritdoc/>
    public HealthReading Read()
    {
        Span<byte> page = stackalloc byte[PageBytes];
        page.Clear();
        if (readPage(page) is { } obstacle)
        {
            int? measured = temperature?.Read();
            return new HealthReading { TemperatureCelsius = measured, Obstacle = measured is null ? obstacle : null };
        }

        // 0 K is what a device says that measures nothing.
        ushort kelvin = BinaryPrimitives.ReadUInt16LittleEndian(page[TemperatureOffset..]);
        return HealthReading.FromPercent(
            page[WearOffset],
            Math.Min((int)page[SpareOffset], 100),
            kelvin == 0 ? temperature?.Read() : kelvin - KelvinOfZeroCelsius,
            isUrgent: (page[CriticalWarningOffset] & SpareBelowThreshold) != 0);
    }
}
