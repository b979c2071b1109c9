using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Disks.Health;

/// <summary>
/// How flash memory fares, as sysfs tells it: eMMC (Linux, "driver-api/mmc/mmc-dev-attrs.rst", life_time and pre_eol_info) and UFS (Linux,
/// "ABI/testing/sysfs-driver-ufs", health_descriptor). Both count as virtio does. A UFS device must be asked, and may have to be woken first.
/// </summary>
internal sealed class FlashHealth : IHealthSource
{
    private readonly string _folder;
    private readonly bool _isUfs;
    private readonly TemperatureSensor? _temperature;

    private FlashHealth(string folder, bool isUfs, TemperatureSensor? temperature)
    {
        _folder = folder;
        _isUfs = isUfs;
        _temperature = temperature;
    }

    /// <inheritdoc/>
    public string Name => _isUfs ? "UFS" : "eMMC";

    /// <summary>Whether a device's folder tells of flash memory.</summary>
    /// <returns>Null if not.</returns>
    public static FlashHealth? Of(string folder, TemperatureSensor? temperature)
    {
        string ufsFolder = Path.Combine(folder, "health_descriptor");
        return Directory.Exists(ufsFolder) ? new FlashHealth(ufsFolder, isUfs: true, temperature)
            : System.IO.File.Exists(Path.Combine(folder, "life_time")) ? new FlashHealth(folder, isUfs: false, temperature)
            : null;
    }

    /// <inheritdoc/>
    public HealthReading Read()
    {
        // Of an eMMC both estimates are in one file, A first.
        DiskLifetime lifetime = _isUfs
            ? new DiskLifetime(Number("eol_info", 0), Number("life_time_estimation_a", 0), Number("life_time_estimation_b", 0))
            : new DiskLifetime(Number("pre_eol_info", 0), Number("life_time", 0), Number("life_time", 1));
        BlkLifetime payload = lifetime.Payload;
        int estimate = Math.Max(payload.EstimateA, payload.EstimateB);
        var reading = new HealthReading
        {
            // 1 is up to 10 %, 2 from there on, 11 beyond all of it.
            WearPercent = estimate == 0 ? null : (estimate - 1) * 10,
            // 1 is normal, 2 from 80 % used up on, 3 from 90 %.
            SparePercent = payload.PreEolInfo switch
            {
                1 => 100,
                2 => 20,
                3 => 10,
                _ => null,
            },
            TemperatureCelsius = _temperature?.Read(),
            Lifetime = lifetime.IsDefined ? lifetime : null,
        };
        return reading.IsAnything ? reading : reading with { Obstacle = $"'{_folder}' tells nothing." };
    }

    private uint Number(string file, int position) => SysfsText.Hexadecimal(Path.Combine(_folder, file), position);
}
