namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>What is done wrong between a disk and its storage. Each must be found by the checks that find nothing in the real disks.</summary>
public enum Sabotage
{
    None,

    /// <summary>Syncs are not made, and said to have succeeded.</summary>
    NoFlush,

    /// <summary>Writes that are to be durable are written like any other.</summary>
    NoDurableFlag,

    /// <summary>A sync is said to have succeeded when it begins.</summary>
    FlushAnsweredEarly,

    /// <summary>A durable write is said to have ended when its data is written and not yet synced.</summary>
    DurableWriteAnsweredEarly,

    /// <summary>A sync that failed is made again, and its success believed.</summary>
    FailedFlushRepeated,

    /// <summary>Of several files only the first one is synced.</summary>
    OneFileFlushed,
}
