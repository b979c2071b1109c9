using IoUring;

namespace VirtioBlkFlow.Disks.Engine;

/// <summary>
/// Memory that is registered with a ring: its pages are pinned, so that an operation within it need not look them up and hold them. Owned by
/// the ring's thread.
/// </summary>
internal sealed unsafe class RegisteredMemory(Ring ring)
{
    // The kernel takes no larger buffer: io_sqe_buffer_register, "Don't impose further limits on the size and buffer constraints here" after
    // its check against 1 GiB (EFAULT).
    private const nuint MaxBufferBytes = 1 << 30;

    // Places in the table; 256 GiB of guest memory. Arbitrary.
    private const int BufferCount = 256;

    private readonly Buffer[] _buffers = new Buffer[BufferCount];
    private bool _hasTable;
    private int _usedCount;

    /// <summary>Registers an area, once more if it is registered already.</summary>
    /// <exception cref="IoUringException">The kernel refuses; nothing of the area is registered then.</exception>
    public void Add(Iovec area)
    {
        if (!_hasTable)
        {
            ring.RegisterBuffers(BufferCount);
            _hasTable = true;
        }

        for (nuint done = 0; done < area.LengthBytes; done += MaxBufferBytes)
        {
            try
            {
                AddBuffer(area.Base + done, nuint.Min(MaxBufferBytes, area.LengthBytes - done));
            }
            catch
            {
                Remove(new Iovec(area.Base, done));
                throw;
            }
        }
    }

    /// <summary>Takes back what <see cref="Add"/> did. No operation within the area may be in flight.</summary>
    public void Remove(Iovec area)
    {
        for (nuint done = 0; done < area.LengthBytes; done += MaxBufferBytes)
        {
            int index = Find(area.Base + done, nuint.Min(MaxBufferBytes, area.LengthBytes - done));
            if (--_buffers[index].Holds == 0)
            {
                ring.UpdateBuffer((uint)index, null, 0);
                _buffers[index] = default;
            }
        }

        while (_usedCount > 0 && _buffers[_usedCount - 1].Holds == 0)
        {
            _usedCount--;
        }
    }

    /// <summary>The buffer a piece lies in, as a whole; −1 if in none.</summary>
    public int IndexOf(Iovec piece)
    {
        for (int i = 0; i < _usedCount; i++)
        {
            ref readonly Buffer buffer = ref _buffers[i];
            nuint offset = (nuint)(piece.Base - buffer.Start);
            // An empty place has no length.
            if (offset < buffer.LengthBytes && piece.LengthBytes <= buffer.LengthBytes - offset)
            {
                return i;
            }
        }

        return -1;
    }

    private void AddBuffer(byte* start, nuint lengthBytes)
    {
        int index = Find(start, lengthBytes);
        if (index < 0)
        {
            index = Array.FindIndex(_buffers, buffer => buffer.Holds == 0);
            if (index < 0)
            {
                throw new IoUringException($"More than {BufferCount} GiB or regions of guest memory cannot be registered.", 0);
            }

            ring.UpdateBuffer((uint)index, start, lengthBytes);
            _buffers[index] = new Buffer { Start = start, LengthBytes = lengthBytes };
            _usedCount = Math.Max(_usedCount, index + 1);
        }

        _buffers[index].Holds++;
    }

    private int Find(byte* start, nuint lengthBytes) =>
        Array.FindIndex(_buffers, 0, _usedCount, buffer => buffer.Start == start && buffer.LengthBytes == lengthBytes);

    private struct Buffer
    {
        public byte* Start;
        public nuint LengthBytes;
        public int Holds;
    }
}
