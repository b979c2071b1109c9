namespace VirtioBlkFlow.Disks.Engine;

/// <summary>
/// Transfers over sockets that an engine has in flight, by a number of their own: unlike other operations they belong to no slot, as what
/// comes over a connection may be for any. Owned by the engine's thread.
/// </summary>
internal sealed unsafe class SocketOperations
{
    private Operation[] _operations = new Operation[4];
    private int _first = -1;
    private int _used;

    /// <summary>How many are in flight.</summary>
    public int Count { get; private set; }

    /// <summary>One more than the largest number ever given.</summary>
    public int Bound => _used;

    /// <summary>An operation in flight.</summary>
    public ref Operation this[int number] => ref _operations[number];

    /// <summary>Begins one.</summary>
    /// <returns>Its number.</returns>
    public int Begin(bool isSend, SafeFileHandle socket, SocketMessage* message, ISocketUser user, int token)
    {
        int number = _first;
        if (number >= 0)
        {
            _first = _operations[number].Next;
        }
        else
        {
            number = _used++;
            if (number == _operations.Length)
            {
                Array.Resize(ref _operations, 2 * number);
            }
        }

        Count++;
        _operations[number] = new Operation
        {
            Descriptor = (int)socket.DangerousGetHandle(),
            Message = message,
            User = user,
            Token = token,
            IsSend = isSend,
        };
        return number;
    }

    /// <summary>Ends one: its number is free, then its user hears of it, who may begin others.</summary>
    public void End(int number, int result)
    {
        Operation operation = _operations[number];
        _operations[number] = new Operation { Next = _first };
        _first = number;
        Count--;
        operation.User!.OnSocketCompleted(operation.Token, result);
    }

    /// <summary>A transfer, or a free place.</summary>
    public struct Operation
    {
        public int Descriptor;
        public SocketMessage* Message;

        /// <summary>Null if the place is free.</summary>
        public ISocketUser? User;
        public int Token;
        public bool IsSend;

        /// <summary>Of free places: the next one.</summary>
        public int Next;
    }
}
