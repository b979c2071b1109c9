namespace VirtioBlkFlow.Device.Latency;

/// <summary>
/// Where a request is on its way through the device. The stages follow one another without a gap, from the ring to the call; every request
/// is counted once in each, with 0 where it did not stay. What comes before the first and after the last is the driver's, or the time a
/// sleeping thread takes to wake, which nobody sees from here.
/// </summary>
public enum LatencyStage
{
    /// <summary>
    /// Waiting in the ring although a batch was free: the queue's thread was busy with its turn. From the last moment at which the thread
    /// knew the ring to be empty, or woke up, to the pop. The device cannot know when the driver published, so this is the longest it can
    /// have been.
    /// </summary>
    Ring,

    /// <summary>
    /// Waiting in the ring because as many batches were in flight as may be (<see cref="BlkDeviceOptions.Parallelism"/>), or because the
    /// memory for its pieces was in use. As with <see cref="Ring"/>, the longest it can have been.
    /// </summary>
    Slot,

    /// <summary>From the pop to the disk: walking the chain, decoding, checking, and whatever blocks are linked in between.</summary>
    Parse,

    /// <summary>
    /// With the disk: from the moment the batch reaches the stage that talks to it, until the turn that finds the request ended. The
    /// system call that carries the turn's requests is in it; so is the wait of one that ended until its queue's thread looks.
    /// </summary>
    Kernel,

    /// <summary>From the turn that found it ended until the driver can see it: status byte, used element, index.</summary>
    Completion,

    /// <summary>Calling the driver; 0 where it did not want to be called.</summary>
    Call,
}
