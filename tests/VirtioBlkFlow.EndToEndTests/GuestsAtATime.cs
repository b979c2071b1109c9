// Each test class is a collection of its own, and the tests of a class run one after the other: at most two guests run at a time.
// More would not be faster on two cores, only closer to their deadlines.
[assembly: CollectionBehavior(MaxParallelThreads = 2)]
