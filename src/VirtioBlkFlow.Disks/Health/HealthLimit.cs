namespace VirtioBlkFlow.Disks.Health;

/// <summary>What a limit is about.</summary>
public enum HealthQuantity
{
    /// <summary><see cref="HealthReading.WearPercent"/>: bad is high.</summary>
    Wear,

    /// <summary><see cref="HealthReading.SparePercent"/>: bad is low.</summary>
    Spare,

    /// <summary><see cref="HealthReading.TemperatureCelsius"/>: bad is high.</summary>
    Temperature,
}

/// <summary>A value from which on something is wrong, and another one from which on it is right again, so that a value at the limit does not flicker.</summary>
/// <param name="Quantity">What it is about.</param>
/// <param name="Threshold">Wrong from here on: this, or worse. In percent or degrees Celsius.</param>
/// <param name="Back">Right again beyond this: better than it. At least as good as the threshold.</param>
public sealed record HealthLimit(HealthQuantity Quantity, int Threshold, int Back)
{
    /// <summary>Below the threshold of a temperature, unless told. Arbitrary: what a disk cools down by when it does nothing for some minutes.</summary>
    public const int DegreesBack = 5;

    /// <summary>A limit with the usual way back: <see cref="DegreesBack"/> for a temperature; of wear and spare blocks the threshold, as they do not come back by themselves.</summary>
    public HealthLimit(HealthQuantity quantity, int threshold)
        : this(quantity, threshold, quantity == HealthQuantity.Temperature ? threshold - DegreesBack : threshold)
    {
    }

    /// <summary>The unit of the values.</summary>
    public string Unit => Quantity == HealthQuantity.Temperature ? "C" : "%";

    private bool IsBadLow => Quantity == HealthQuantity.Spare;

    /// <summary>What a reading says of the quantity; null for nothing.</summary>
    public int? ValueIn(HealthReading reading) => Quantity switch
    {
        HealthQuantity.Wear => reading.WearPercent,
        HealthQuantity.Spare => reading.SparePercent,
        _ => reading.TemperatureCelsius,
    };

    /// <summary>Whether a value is wrong.</summary>
    public bool IsReachedBy(int value) => IsBadLow ? value <= Threshold : value >= Threshold;

    /// <summary>Whether a value is right again after it was wrong.</summary>
    public bool IsLeftBy(int value) => IsBadLow ? value > Back : value < Back;

    /// <summary>Refuses a way back that is worse than the threshold.</summary>
    /// <exception cref="DiskOpenException">It is.</exception>
    internal void Require()
    {
        if (IsBadLow ? Back < Threshold : Back > Threshold)
        {
            throw new DiskOpenException($"The limit of the {NameOf(Quantity)} is {Threshold} and the way back {Back}: that is on the wrong side of it.");
        }
    }

    /// <summary>The name of a quantity.</summary>
    public static string NameOf(HealthQuantity quantity) => quantity switch
    {
        HealthQuantity.Wear => "wear",
        HealthQuantity.Spare => "spare",
        _ => "temperature",
    };
}
