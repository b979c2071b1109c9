using System.Runtime.InteropServices;
using VirtioBlkFlow.Virtio.Blk;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>
/// Writes and reads of a driver that knows what each place must hold. A place is in use by one request at a time; the ring itself checks
/// that each request comes back exactly once. Owned by one thread; goes on where it was when it is run again.
/// </summary>
internal sealed class VerifiedLoad(DriverQueue queue, int seed = 1)
{
    public const int PlaceBytes = 4096;
    private const int SectorsPerPlace = PlaceBytes / BlkRequest.SectorBytes;
    private const int PlaceCount = 128;

    private readonly Random _random = new(seed);
    private readonly uint[] _contents = new uint[PlaceCount];
    private readonly bool[] _busy = new bool[PlaceCount];
    private readonly Dictionary<RequestArea, (int Place, uint Content, bool IsWrite)> _inFlight = [];
    private uint _lastContent;

    /// <summary>Requests that ended.</summary>
    public int Completed { get; private set; }

    /// <summary>Sends so many requests, with at most <paramref name="depth"/> in flight, and waits for all.</summary>
    public void Run(int requests, int depth, Action? afterEach = null)
    {
        int sent = 0;
        while (sent < requests || _inFlight.Count > 0)
        {
            bool added = false;
            while (sent < requests && _inFlight.Count < depth && queue.CanAdd)
            {
                Send();
                sent++;
                added = true;
            }

            if (added)
            {
                queue.Publish();
            }

            Check(queue.Take());
            while (queue.TryTake(out Answer more))
            {
                Check(more);
            }

            afterEach?.Invoke();
        }
    }

    /// <summary>Sends so many requests without waiting for any.</summary>
    public void Send(int requests)
    {
        for (int i = 0; i < requests; i++)
        {
            Send();
        }

        queue.Publish();
    }

    /// <summary>Takes what has ended.</summary>
    public void TakeAll()
    {
        while (queue.TryTake(out Answer answer))
        {
            Check(answer);
        }
    }

    private void Send()
    {
        int place;
        do
        {
            place = _random.Next(PlaceCount);
        }
        while (_busy[place]);

        _busy[place] = true;
        bool isWrite = _random.Next(2) == 0;
        uint content = isWrite ? ++_lastContent : _contents[place];
        RequestArea area = queue.Add(
            isWrite ? BlkRequestType.VIRTIO_BLK_T_OUT : BlkRequestType.VIRTIO_BLK_T_IN, (ulong)(place * SectorsPerPlace), PlaceBytes);
        Span<uint> data = MemoryMarshal.Cast<byte, uint>(area.Data(PlaceBytes));
        data.Fill(isWrite ? content : 0xdead_beef);
        _inFlight.Add(area, (place, content, isWrite));
    }

    private void Check(Answer answer)
    {
        Assert.True(_inFlight.Remove(answer.Area, out var request));
        Assert.Equal((byte)BlkStatus.VIRTIO_BLK_S_OK, answer.Status);
        Assert.Equal(request.IsWrite ? 1u : PlaceBytes + 1u, answer.UsedBytes);
        if (request.IsWrite)
        {
            _contents[request.Place] = request.Content;
        }
        else
        {
            Span<uint> data = MemoryMarshal.Cast<byte, uint>(answer.Area.Data(PlaceBytes));
            Assert.False(data.ContainsAnyExcept(request.Content), $"Place {request.Place} does not hold what was written last, {request.Content}.");
        }

        _busy[request.Place] = false;
        Completed++;
    }
}
