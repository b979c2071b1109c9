using VirtioBlkFlow.EndToEndTests.Harness;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>The prepared root file system with a scenario on top.</summary>
internal static class Initramfs
{
    /// <summary>Writes the initramfs of one run into the test's folder.</summary>
    public static string Compose(TestFolder folder, GuestScenario scenario)
    {
        string path = folder["initramfs.cpio"];
        File.Copy(RepoPaths.BaseInitramfs, path, overwrite: true);
        using FileStream file = new(path, FileMode.Append);
        if (scenario.NeedsFio)
        {
            using FileStream fio = File.OpenRead(RepoPaths.FioInitramfs);
            fio.CopyTo(file);
        }

        file.Write(scenario.ToInitramfs());
        return path;
    }
}
