using Xunit;
using Xunit.Sdk;

namespace VirtioBlkFlow.UnitTests.Abi;

public class CProgramTests
{
    [Fact]
    public void Evaluates_sizes_offsets_and_macros()
    {
        IReadOnlyDictionary<string, long> values = CProgram.Evaluate(
            ["sys/uio.h", "errno.h"],
            ["sizeof(struct iovec)", "offsetof(struct iovec, iov_len)", "EIO == 5", "-1"],
            ["EINTR", "NO_SUCH_MACRO"]);

        Assert.Equal(16, values["sizeof(struct iovec)"]);
        Assert.Equal(8, values["offsetof(struct iovec, iov_len)"]);
        Assert.Equal(1, values["EIO == 5"]);
        Assert.Equal(-1, values["-1"]);
        Assert.Equal(4, values["EINTR"]);
        Assert.DoesNotContain("NO_SUCH_MACRO", values.Keys);
    }

    [Fact]
    public void Shows_what_the_compiler_complains_about()
    {
        var error = Assert.Throws<XunitException>(() => CProgram.Evaluate([], ["NO_SUCH_MACRO"]));
        Assert.Contains("NO_SUCH_MACRO", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Refuses_output_that_is_not_name_and_value() => Assert.Throws<XunitException>(() => CProgram.Parse("hello\n"));

    [Fact]
    public void Fails_when_the_program_fails() => Assert.Throws<XunitException>(() => CProgram.Run("int main(void) { return 3; }"));
}
