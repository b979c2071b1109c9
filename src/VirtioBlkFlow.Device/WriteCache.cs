using VirtioBlkFlow.Virtio.Blk;

namespace VirtioBlkFlow.Device;

/// <summary>What the operator asked for.</summary>
public enum CacheMode
{
    /// <summary>A write is durable before it completes.</summary>
    Writethrough,

    /// <summary>A write is durable after the next FLUSH.</summary>
    Writeback,
}

/// <summary>
/// Whether writes are durable before they complete (VIRTIO 1.4, "Block Device", "Device Requirements: Device Operation", on stable
/// writes). Changed by the device's actor, read by every queue's thread.
/// </summary>
public sealed class WriteCache
{
    private readonly CacheMode _mode;
    private BlkFeatures _negotiated;
    private bool _writebackField;
    private volatile bool _isWritethrough = true;

    /// <summary>Creates the state of a device that was not negotiated yet.</summary>
    public WriteCache(CacheMode mode)
    {
        _mode = mode;
        BeginAnew();
    }

    /// <summary>Whether a write must be durable before it completes.</summary>
    public bool IsWritethrough => _isWritethrough;

    /// <summary>The <c>writeback</c> field of the configuration space.</summary>
    public byte WritebackField => _writebackField ? (byte)1 : (byte)0;

    /// <summary>Another front-end, another driver: back to what the operator asked for.</summary>
    public void BeginAnew()
    {
        _writebackField = _mode == CacheMode.Writeback;
        Reset();
    }

    /// <summary>
    /// The device was reset. That need not mean another driver: QEMU resets the device whenever the machine is paused, and the driver that
    /// goes on afterwards trusts the mode it chose. So writethrough stays, whoever chose it; only writeback may be taken back.
    /// </summary>
    public void Reset()
    {
        _negotiated = BlkFeatures.None;
        _writebackField &= _mode == CacheMode.Writeback;
        Update();
    }

    /// <summary>The driver chose its features; repeating the same ones changes nothing.</summary>
    public void Negotiate(BlkFeatures features)
    {
        if (features == _negotiated)
        {
            return;
        }

        _negotiated = features;
        bool mayFlush = (features & BlkFeatures.VIRTIO_BLK_F_FLUSH) != 0;
        if ((features & BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE) != 0 && !mayFlush)
        {
            _writebackField = false;
        }

        Update();
    }

    /// <summary>The driver wrote the <c>writeback</c> field.</summary>
    /// <returns>True if volatile writes may exist that the new mode would not cover: then flush.</returns>
    public bool SetWritebackField(bool writeback)
    {
        bool wasWritethrough = _isWritethrough;
        _writebackField = writeback;
        Update();
        return _isWritethrough && !wasWritethrough;
    }

    private void Update()
    {
        bool mayFlush = (_negotiated & BlkFeatures.VIRTIO_BLK_F_FLUSH) != 0;
        bool mayToggle = (_negotiated & BlkFeatures.VIRTIO_BLK_F_CONFIG_WCE) != 0;
        _isWritethrough = (mayToggle, mayFlush) switch
        {
            (true, _) => !_writebackField,
            // A driver that never flushes must not have to.
            (false, false) => true,
            (false, true) => _mode == CacheMode.Writethrough,
        };
    }
}
