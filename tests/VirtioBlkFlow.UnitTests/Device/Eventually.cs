using VirtioBlkFlow.Frontend;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Device;

/// <summary>Waits for what happens on another thread, with a deadline.</summary>
internal static class Eventually
{
    public const int PatienceMs = DriverQueue.PatienceMs;

    public static void Holds(Func<bool> condition, string what)
    {
        Deadline deadline = Deadline.In(PatienceMs);
        while (!condition())
        {
            Assert.False(deadline.HasPassed, $"Not within {PatienceMs} ms: {what}.");
            Thread.Yield();
        }
    }

    /// <summary>Waits for a task, and passes on its failure.</summary>
    public static void Ends(Task task, string what)
    {
        Assert.True(Task.WhenAny(task, Task.Delay(PatienceMs)).GetAwaiter().GetResult() == task, $"Not within {PatienceMs} ms: {what}.");
        task.GetAwaiter().GetResult();
    }

    /// <summary>Waits for a task, and passes on its result or failure.</summary>
    public static T Result<T>(Task<T> task, string what)
    {
        Ends(task, what);
        return task.Result;
    }

    /// <summary>Runs on a thread of its own what might hang.</summary>
    public static T Returns<T>(Func<T> body, string what) =>
        Result(Task.Factory.StartNew(body, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default), what);

    public static void Returns(Action body, string what) => Returns(
        () =>
        {
            body();
            return 0;
        },
        what);
}
