/**
 * What a command is, and how one is run.
 *
 * @module
 */
import { CommandContext, type CommandIo, describeError } from "./context.ts";
import { formatOptions, type OptionSpecs, type ParsedOptions, parseOptions, UsageError } from "./options.ts";

/** A command of `weft`. */
export interface Command<Specs extends OptionSpecs = OptionSpecs> {
  readonly name: string;
  /** Forms of its arguments. */
  readonly usage: readonly string[];
  /** What it does, for the help. */
  readonly description: string;
  readonly options: Specs;
  /** Examples for the help. */
  readonly examples: readonly string[];
  /** Exit status for a wrong call; 1 unless said otherwise. */
  readonly usageStatus?: number;
  /** It has something to put in order when it is interrupted. */
  readonly isGraceful?: boolean;
  /** Carries it out. Says what goes wrong through the context; what it throws ends the command. */
  run(context: CommandContext, args: { options: ParsedOptions<Specs>; operands: string[] }): Promise<void>;
}

/** Keeps the types of a command's options. */
export function defineCommand<const Specs extends OptionSpecs>(command: Command<Specs>): Command<Specs> {
  return command;
}

const helpOption = { help: { long: "help", help: "display this help and exit" } } as const;

/** The help of a command. */
export function formatHelp(command: Command): string {
  const usage = command.usage.map((form, at) => `${at === 0 ? "Usage:" : "  or: "} weft ${command.name} ${form}`);
  return [
    ...usage,
    command.description,
    "",
    formatOptions({ ...command.options, ...helpOption }),
    "",
    "A URL is nfs://HOST[:PORT]/PATH[?OPTION=VALUE&...] (default port 20049). Options:",
    "  proto=rdma|tcp  use only this transport; RDMA, else TCP, by default",
    "  uid=N, gid=N    act as this user and group",
    "  crc=on|off      ask for CRC32C on an RDMA connection",
    "  mountport=N     TCP port of a MOUNT service of its own",
    '%XX stands for any byte of a name: %3F for a "?".',
    "",
    "Examples:",
    ...command.examples.map((example) => `  weft ${command.name} ${example}`),
    "",
  ].join("\n");
}

/** Exit status of a command that was interrupted. */
export const INTERRUPTED = 130;
/** Exit status of a command whose reader went away, as shells show it for SIGPIPE. */
export const BROKEN_PIPE = 141;

/** Runs a command to its exit status. */
export async function runCommand(command: Command, args: readonly string[], io: CommandIo): Promise<number> {
  try {
    const specs = { ...command.options, ...helpOption } as OptionSpecs;
    const parsed = parseOptions(args, specs);
    if (parsed.options.help !== undefined) {
      await io.write(formatHelp(command));
      return 0;
    }
    const context = new CommandContext(command.name, io, { isGraceful: command.isGraceful ?? false });
    try {
      await command.run(context, parsed as never);
    } finally {
      await dispose(context);
    }
    return io.signal.aborted ? INTERRUPTED : context.status;
  } catch (error) {
    if (error instanceof UsageError) {
      io.warn(`weft ${command.name}: ${error.message}\nTry 'weft ${command.name} --help' for more information.\n`);
      return command.usageStatus ?? 1;
    }
    if (error instanceof Deno.errors.BrokenPipe) return BROKEN_PIPE;
    if (io.signal.aborted) return INTERRUPTED;
    io.warn(`weft ${command.name}: ${describeError(error)}\n`);
    return 1;
  }
}

/** Unmounts; what closed files could not bring to stable storage is a failure of the command. */
async function dispose(context: CommandContext): Promise<void> {
  try {
    await context[Symbol.asyncDispose]();
  } catch (error) {
    context.fail("cannot finish writing", error);
  }
}
