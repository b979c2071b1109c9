namespace VirtioBlkFlow.VhostUser;

/// <summary>How a device took a write to its configuration space.</summary>
public enum ConfigWriteOutcome
{
    /// <summary>Done.</summary>
    Written,

    /// <summary>The range is not, or not only, a writable field; nothing was changed.</summary>
    NotWritable,

    /// <summary>The field is writable but this value or these flags make no sense; nothing was changed.</summary>
    InvalidValue,
}
