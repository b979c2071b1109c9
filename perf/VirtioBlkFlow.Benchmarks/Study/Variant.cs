namespace VirtioBlkFlow.Benchmarks.Study;

/// <summary>The architectures compared, in the order they are shown. The first is what the others are divided by.</summary>
internal enum Variant
{
    /// <summary>One plain loop on one thread.</summary>
    HandWritten,

    /// <summary>The pipeline as it is: blocks of our own on the reactor.</summary>
    OurBlocks,

    /// <summary>The same stages as stock Dataflow blocks on the reactor.</summary>
    StockBlocks,

    /// <summary>Stock blocks on the thread pool, a message for each batch.</summary>
    PoolBatches,

    /// <summary>Stock blocks on the thread pool, a message for each request.</summary>
    PoolRequests,
}

/// <summary>Variants by their names.</summary>
internal static class Variants
{
    /// <summary>All of them.</summary>
    public static IReadOnlyList<Variant> All { get; } = Enum.GetValues<Variant>();

    /// <summary>The name on command lines and in results.</summary>
    public static string NameOf(Variant variant) => variant switch
    {
        Variant.HandWritten => "hand-written",
        Variant.OurBlocks => "our-blocks",
        Variant.StockBlocks => "stock-blocks",
        Variant.PoolBatches => "pool-batches",
        Variant.PoolRequests => "pool-requests",
        _ => throw new ArgumentOutOfRangeException(nameof(variant)),
    };

    /// <summary>The variant of a name; null if there is none.</summary>
    public static Variant? Find(string name) => All.Where(variant => NameOf(variant) == name).Select(variant => (Variant?)variant).FirstOrDefault();
}
