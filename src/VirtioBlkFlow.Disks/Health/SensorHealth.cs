namespace VirtioBlkFlow.Disks.Health;

/// <summary>A disk that tells nothing but its temperature.</summary>
internal sealed class SensorHealth(TemperatureSensor sensor) : IHealthSource
{
    /// <inheritdoc/>
    public string Name => "hwmon";

    /// <inheritdoc/>
    public HealthReading Read() =>
        sensor.Read() is { } degrees ? new HealthReading { TemperatureCelsius = degrees } : new HealthReading { Obstacle = "The sensor tells no temperature." };
}
