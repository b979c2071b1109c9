using System.Collections.Concurrent;
using System.Reflection;
using Xunit.Abstractions;
using Xunit.Sdk;

[assembly: TestFramework("VirtioBlkFlow.ConformanceTests.Machinery.RecordingFramework", "VirtioBlkFlow.ConformanceTests")]
[assembly: TestCollectionOrderer("VirtioBlkFlow.ConformanceTests.Machinery.DocumentLast", "VirtioBlkFlow.ConformanceTests")]

namespace VirtioBlkFlow.ConformanceTests.Machinery;

/// <summary>xunit's own framework, with an ear on every result: the document says what the runner saw and nothing else.</summary>
internal sealed class RecordingFramework(IMessageSink messages) : XunitTestFramework(messages)
{
    protected override ITestFrameworkExecutor CreateExecutor(AssemblyName assemblyName) =>
        new RecordingExecutor(assemblyName, SourceInformationProvider, DiagnosticMessageSink);

    private sealed class RecordingExecutor(AssemblyName assembly, ISourceInformationProvider source, IMessageSink diagnostics)
        : XunitTestFrameworkExecutor(assembly, source, diagnostics)
    {
        protected override void RunTestCases(
            IEnumerable<IXunitTestCase> testCases, IMessageSink executionMessageSink, ITestFrameworkExecutionOptions executionOptions) =>
            base.RunTestCases(testCases, new RecordingSink(executionMessageSink), executionOptions);
    }

    private sealed class RecordingSink(IMessageSink inner) : LongLivedMarshalByRefObject, IMessageSink
    {
        public bool OnMessage(IMessageSinkMessage message)
        {
            if (message is ITestResultMessage result)
            {
                RunRecord.Note(NameOf(result.TestMethod), result switch
                {
                    ITestPassed => TestOutcome.Passed,
                    ITestSkipped => TestOutcome.Skipped,
                    _ => TestOutcome.Failed,
                });
            }
            else if (message is ITestClassCleanupFailure or ITestCollectionCleanupFailure or ITestCaseCleanupFailure or ITestMethodCleanupFailure)
            {
                foreach (ITestCase testCase in ((IExecutionMessage)message).TestCases)
                {
                    RunRecord.Note(NameOf(testCase.TestMethod), TestOutcome.Failed);
                }
            }

            return inner.OnMessage(message);
        }

        private static string NameOf(ITestMethod method) => RunRecord.NameOf(method.TestClass.Class.Name, method.Method.Name);
    }
}

/// <summary>What this run has shown so far. Any thread notes and reads.</summary>
internal static class RunRecord
{
    private static readonly ConcurrentDictionary<string, TestOutcome> s_outcomes = new();

    public static void Note(string test, TestOutcome outcome) =>
        s_outcomes.AddOrUpdate(test, outcome, (_, before) => outcome > before ? outcome : before);

    public static TestOutcome OutcomeOf(string test) => s_outcomes.GetValueOrDefault(test, TestOutcome.NotRun);

    /// <summary>A test as the document writes it: the class without its namespace, and the method.</summary>
    public static string NameOf(string fullClassName, string method) => $"{fullClassName[(fullClassName.LastIndexOf('.') + 1)..]}.{method}";
}

/// <summary>The document comes when everything else has run: its collection is last, and beside no other.</summary>
internal sealed class DocumentLast : ITestCollectionOrderer
{
    public const string Collection = "The document";

    public IEnumerable<ITestCollection> OrderTestCollections(IEnumerable<ITestCollection> testCollections) =>
        testCollections.OrderBy(collection => collection.DisplayName == Collection).ThenBy(collection => collection.DisplayName, StringComparer.Ordinal);
}
