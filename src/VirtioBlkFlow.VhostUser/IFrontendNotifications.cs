namespace VirtioBlkFlow.VhostUser;

/// <summary>What a device may tell the front-end on its own accord. Safe to call from every thread; never blocks on the peer.</summary>
public interface IFrontendNotifications
{
    /// <summary>
    /// The configuration space has changed (a resize). Sends CONFIG_CHANGE_MSG if the front-end can take it; while no queue runs
    /// it is kept until one does, as vhost-user.rst asks under "Suspended device state". Changes that wait become one message.
    /// </summary>
    void NotifyConfigChanged();

    /// <summary>
    /// A queue met a ring it cannot go on with. Sets DEVICE_NEEDS_RESET in the device status and, if the driver is ready
    /// (DRIVER_OK), sends one CONFIG_CHANGE_MSG. The queue's error descriptor is the device's to signal. Said again before
    /// the next reset, for whatever queue, it has no further effect.
    /// </summary>
    /// <param name="index">Number of the queue.</param>
    void ReportQueueBroken(int index);
}
