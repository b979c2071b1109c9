using FsCheck;
using FsCheck.Fluent;
using VirtioBlkFlow.Daemon.Specs;
using Xunit;

namespace VirtioBlkFlow.UnitTests.Daemon.Specs;

public sealed class SpecTextTests
{
    [Theory]
    [InlineData("a,b", "a", "b")]
    [InlineData("a,,b", "a,b")]
    [InlineData("a,,,b", "a,", "b")]
    [InlineData("a,,,,b", "a,,b")]
    [InlineData(",,", ",")]
    [InlineData(",", "", "")]
    [InlineData("", "")]
    [InlineData("file:/x,,y.img,ro", "file:/x,y.img", "ro")]
    public void Splits_at_single_commas_and_takes_doubled_ones_for_themselves(string text, params string[] parts) =>
        Assert.Equal(parts, SpecText.Split(text));

    [Fact]
    public void Parts_that_begin_with_no_comma_come_back_whatever_is_in_them()
    {
        // A part that began with a comma would make a doubled one of the separator, as it does for QEMU.
        Gen<string> part = Gen.Elements('a', ',', '=', ':', ' ').ArrayOf().Select(characters => "p" + new string(characters));
        Gen<string[]> parts = part.NonEmptyListOf().Select(list => list.ToArray());
        Check.QuickThrowOnFailure(Prop.ForAll(parts.ToArbitrary(), written =>
            SpecText.Split(string.Join(',', written.Select(text => text.Replace(",", ",,", StringComparison.Ordinal)))).SequenceEqual(written)));
    }

    [Theory]
    [InlineData("ro", "ro", null)]
    [InlineData("serial=", "serial", "")]
    [InlineData("serial=a=b", "serial", "a=b")]
    public void What_follows_the_first_equals_sign_is_the_value(string part, string key, string? value) =>
        Assert.Equal(new SpecEntry(key, value, "here"), SpecText.EntryOf(part, "here"));
}
