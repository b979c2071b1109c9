using System.CommandLine;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using VirtioBlkFlow.Daemon;
using VirtioBlkFlow.Daemon.Bench;
using VirtioBlkFlow.Daemon.Exchange;
using VirtioBlkFlow.Daemon.Specs;
using VirtioBlkFlow.Daemon.Top;

// All other options are ignored with this one, whatever they are (vhost-user.rst, "Backend program conventions").
if (args.Contains(Capabilities.OptionName))
{
    Console.WriteLine(Capabilities.Json);
    return ExitCode.Success;
}

var commandLine = new CommandLine();
// Nothing here awaits: each method that does is a dozen generic ones to compile at every start.
commandLine.Root.SetAction(result => Run(() => commandLine.Read(result), noOptions: args.Length == 0));
commandLine.Root.Subcommands.Add(args is [BenchCommand.Name, ..] ? BenchCommand.Create() : BenchCommand.CreateStub());
commandLine.Root.Subcommands.Add(args is [TopCommand.Name, ..] ? TopCommand.Create() : TopCommand.CreateStub());
commandLine.Root.Subcommands.Add(args is [ExchangeCommand.Name, ..] ? ExchangeCommand.Create() : ExchangeCommand.CreateStub());
// A path that begins with @ is a path, not a file of more options.
ParseResult parsed = commandLine.Root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
if (parsed.Errors.Count > 0)
{
    // The library lists allowed values on lines of their own.
    string message = string.Join(' ', parsed.Errors[0].Message.Split(['\n', '\r', '\t'], StringSplitOptions.RemoveEmptyEntries));
    return RefuseUsage(message, args is [BenchCommand.Name or TopCommand.Name or ExchangeCommand.Name, ..] ? $"{args[0]} " : "");
}

// Signals are the host's business.
return parsed.Invoke(new InvocationConfiguration { ProcessTerminationTimeout = null });

static int RefuseUsage(string message, string command = "")
{
    Console.Error.WriteLine($"vblkflow: {message}");
    Console.Error.WriteLine($"'vblkflow {command}--help' lists the options.");
    return ExitCode.Usage;
}

static int Run(Func<DaemonOptions> read, bool noOptions)
{
    try
    {
        return Serve(read(), noOptions);
    }
    catch (SpecException exception)
    {
        return RefuseUsage(exception.Message);
    }
    catch (StartupException exception)
    {
        Console.Error.WriteLine($"vblkflow: {exception.Message}");
        return ExitCode.Failure;
    }
}

static int Serve(DaemonOptions options, bool noOptions)
{
    using IHost host = Build(options);
    try
    {
        host.Start();
    }
    catch (Exception exception) when (BlockServer.IsTheHostsFault(exception))
    {
        Console.Error.WriteLine($"vblkflow: {exception.Message}");
        return ExitCode.Failure;
    }
    catch (OperationCanceledException)
    {
        // A signal that came while it started is a signal to end like any other.
        host.StopAsync().GetAwaiter().GetResult();
        return ExitCode.Success;
    }

    if (noOptions)
    {
        Console.WriteLine($"Serving {DaemonOptions.DefaultImagePath} on {DaemonOptions.DefaultSocketPath}. Attach QEMU in another shell:");
        Console.WriteLine();
        Console.WriteLine(QemuCommandLine.For(DaemonOptions.DefaultSocketPath));
        Console.WriteLine();
        Console.WriteLine("Ctrl-C ends the daemon.");
    }

    host.WaitForShutdown();
    return host.Services.GetRequiredService<BlockServer>().HasFailed ? ExitCode.Failure : ExitCode.Success;
}

static IHost Build(DaemonOptions options)
{
    HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
    ConsoleLog.AddTo(builder.Logging, options.LogLevel);
    // The host's own start and stop messages are noise here.
    builder.Logging.AddFilter("Microsoft", options.LogLevel <= LogLevel.Debug ? options.LogLevel : LogLevel.None);
    builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(30));
    builder.Services.AddSingleton(options);
    builder.Services.AddSingleton<BlockServer>();
    builder.Services.AddHostedService(services => services.GetRequiredService<BlockServer>());
    return builder.Build();
}
