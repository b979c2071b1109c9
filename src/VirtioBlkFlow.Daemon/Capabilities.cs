namespace VirtioBlkFlow.Daemon;

/// <summary>What management programs learn before they start a back-end (vhost-user.rst, "Backend program conventions"; vhost-user.json).</summary>
internal static class Capabilities
{
    public const string OptionName = "--print-capabilities";

    public const string Json =
        """
        {
          "type": "block",
          "features": [
            "read-only",
            "blk-file"
          ]
        }
        """;
}
