namespace VirtioBlkFlow.ConformanceTests.Rig;

/// <summary>Waits for what another thread does, with a deadline.</summary>
internal static class Await
{
    /// <summary>Generous and arbitrary: only a failure takes so long.</summary>
    public const int DeadlineMs = 10_000;

    public static void Until(Func<bool> condition, string what) =>
        Assert.True(SpinWait.SpinUntil(condition, DeadlineMs), $"Not within {DeadlineMs} ms: {what}.");
}
