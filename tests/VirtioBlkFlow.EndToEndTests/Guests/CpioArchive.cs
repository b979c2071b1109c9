using System.Globalization;
using System.Text;

namespace VirtioBlkFlow.EndToEndTests.Guests;

/// <summary>The format of an initramfs ("newc"). The kernel unpacks several, one after the other.</summary>
internal static class CpioArchive
{
    private const int RegularFile = 0x8000;

    /// <summary>An archive with one file in its root.</summary>
    public static byte[] WithFile(string name, string content)
    {
        using MemoryStream archive = new();
        Append(archive, name, Encoding.UTF8.GetBytes(content), RegularFile | 0x1ed);
        Append(archive, "TRAILER!!!", [], mode: 0);
        return archive.ToArray();
    }

    private static void Append(MemoryStream archive, string name, byte[] content, int mode)
    {
        // magic, then ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        int[] fields = [1, mode, 0, 0, 1, 0, content.Length, 0, 0, 0, 0, name.Length + 1, 0];
        archive.Write(Encoding.ASCII.GetBytes("070701" + string.Concat(fields.Select(f => f.ToString("x8", CultureInfo.InvariantCulture)))));
        archive.Write(Encoding.ASCII.GetBytes(name + "\0"));
        PadToFour(archive);
        archive.Write(content);
        PadToFour(archive);
    }

    private static void PadToFour(MemoryStream archive)
    {
        while (archive.Length % 4 != 0)
        {
            archive.WriteByte(0);
        }
    }
}
