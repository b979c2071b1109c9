using VirtioBlkFlow.Virtio;

namespace VirtioBlkFlow.UnitTests.Disks.PowerCut;

/// <summary>A file of a <see cref="PowerCutHost"/>: what it reads as, and what a cut may leave of it. Used under the host's lock.</summary>
internal sealed unsafe class VolatileFile
{
    /// <summary>What is never torn: the smallest sector there is.</summary>
    public const int SectorBytes = 512;

    private readonly string _path;
    private readonly byte[] _current;

    // What the real file held when it was looked at last.
    private readonly byte[] _seen;
    private bool _isWrittenByEngine;

    public VolatileFile(string path, bool isFirst)
    {
        _path = path;
        _current = File.ReadAllBytes(path);
        _seen = [.. _current];
        IsFirst = isFirst;
        for (int at = 0; at < _current.Length; at += SectorBytes)
        {
            Storage.Load(at / SectorBytes, _seen.AsMemory(at, Math.Min(SectorBytes, _seen.Length - at)).ToArray());
        }
    }

    /// <summary>Whether no other file of the host was used before this one.</summary>
    public bool IsFirst { get; }

    /// <summary>Syncs that have failed.</summary>
    public int ErrorCount { get; private set; }

    public VolatileStorage Storage { get; } = new(SectorBytes);

    public void Read(long offsetBytes, ReadOnlySpan<Iovec> pieces)
    {
        foreach (Iovec piece in pieces)
        {
            _current.AsSpan((int)offsetBytes, (int)piece.LengthBytes).CopyTo(new Span<byte>(piece.Base, (int)piece.LengthBytes));
            offsetBytes += (long)piece.LengthBytes;
        }
    }

    /// <summary>An engine begins to write.</summary>
    public VolatileStorage.PendingWrite BeginWrite(long offsetBytes, ReadOnlyMemory<byte> data)
    {
        _isWrittenByEngine = true;
        return Storage.BeginWrite(offsetBytes, data);
    }

    /// <summary>An engine begins to zero a range.</summary>
    public VolatileStorage.PendingWrite BeginZeroes(long offsetBytes, long lengthBytes)
    {
        _isWrittenByEngine = true;
        return Storage.BeginZeroes(offsetBytes, lengthBytes);
    }

    /// <summary>What was written is read from now on.</summary>
    public void Show(long offsetBytes, ReadOnlySpan<byte> data) => data.CopyTo(_current.AsSpan((int)offsetBytes));

    public void ShowZeroes(long offsetBytes, long lengthBytes) => _current.AsSpan((int)offsetBytes, (int)lengthBytes).Clear();

    /// <summary>
    /// Looks for what was written to the real file without an engine, as records of zones are: by system calls that have returned.
    /// </summary>
    public void Look()
    {
        if (_isWrittenByEngine)
        {
            return;
        }

        byte[] now = File.ReadAllBytes(_path);
        for (int at = 0; at < now.Length; at += SectorBytes)
        {
            ReadOnlyMemory<byte> sector = now.AsMemory(at, Math.Min(SectorBytes, now.Length - at));
            if (!sector.Span.SequenceEqual(_seen.AsSpan(at, sector.Length)))
            {
                sector.CopyTo(_seen.AsMemory(at));
                sector.CopyTo(_current.AsMemory(at));
                Storage.End(Storage.BeginWrite(at, sector), durable: false);
            }
        }
    }

    /// <summary>A sync has failed: what it was to cover may be lost, and each open file will hear of it once.</summary>
    public void Fail()
    {
        ErrorCount++;
        Storage.FailSync();
    }

    /// <summary>Makes the real file what a cut may leave.</summary>
    public void Cut(Random random)
    {
        Look();
        using FileStream file = new(_path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
        foreach ((long sector, ReadOnlyMemory<byte> content) in Storage.Cut(random))
        {
            file.Position = sector * SectorBytes;
            file.Write(content.IsEmpty ? new byte[SectorBytes] : content.Span);
        }
    }
}

/// <summary>An open file: each hears of an error of its file once, at its next sync (fsync(2), "ERRORS"). Used under the host's lock.</summary>
internal sealed class OpenFile(VolatileFile file)
{
    private int _errorsHeard = file.ErrorCount;

    public VolatileFile File => file;

    /// <summary>Whether there was an error that this one has not heard of; now it has.</summary>
    public bool TakeError()
    {
        bool isNew = _errorsHeard != file.ErrorCount;
        _errorsHeard = file.ErrorCount;
        return isNew;
    }
}
