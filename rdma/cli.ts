/**
 * The verbs' part of the `weft` command: `weft perf` and `weft ping`.
 *
 * @module
 */
import { CommandError, type CommandIo, UsageError } from "./command_line.ts";
import { RdmaError } from "./errors.ts";
import { ToolchainError } from "./_ffi/toolchain.ts";

/** What each command does, in a line. */
export const RDMA_COMMANDS: Readonly<Record<string, string>> = {
  perf: "measure RDMA Writes, Reads and Sends between two processes",
  ping: "make round trips by RDMA, as rping does",
};

/** Exit statuses. */
const FAILURE = 1;
const USAGE = 2;
/** As shells show it for a signal that ends a command. */
const STATUS_OF_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;
/** As shells show it for SIGPIPE. */
const BROKEN_PIPE = 141;

/** Carries a command out; what it throws ends it. */
type Run = (args: readonly string[], io: CommandIo) => Promise<void>;

/** The commands, each loaded when it is called. */
const loaders: Readonly<Record<string, () => Promise<Run>>> = {
  perf: async () => (await import("./perf/command.ts")).perf,
  ping: async () => (await import("./ping/command.ts")).ping,
};

/** Runs one of the verbs' commands in this process; returns its exit status. */
export async function runRdmaCommand(name: string, args: readonly string[]): Promise<number> {
  const abort = new AbortController();
  let interrupted = 0;
  const listeners = (["SIGINT", "SIGTERM"] as const).map((signal) => {
    const interrupt = () => {
      if (interrupted !== 0) Deno.exit(interrupted);
      interrupted = STATUS_OF_SIGNAL[signal];
      abort.abort(new DOMException("interrupted", "AbortError"));
    };
    Deno.addSignalListener(signal, interrupt);
    return [signal, interrupt] as const;
  });
  const io = new ProcessIo(abort.signal);
  try {
    const run = await loaders[name]();
    await run(args, io);
    return 0;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return BROKEN_PIPE;
    if (interrupted !== 0) return interrupted;
    if (error instanceof UsageError) {
      io.say(`weft ${name}: ${error.message}\nTry 'weft ${name} --help' for more information.`);
      return USAGE;
    }
    if (!isExplained(error)) throw error;
    io.say(`weft ${name}: ${error.message}`);
    return FAILURE;
  } finally {
    io.progress("");
    for (const [signal, interrupt] of listeners) Deno.removeSignalListener(signal, interrupt);
  }
}

/** Whether the message is for who called the command. Any other error is a fault of ours. */
function isExplained(error: unknown): error is Error {
  return [RdmaError, CommandError, ToolchainError, ...Object.values(Deno.errors)].some((kind) => error instanceof kind);
}

/** Redraws of the progress line are at least this far apart. */
const REDRAW_MS = 100;

/** Standard output and standard error of this process. */
class ProcessIo implements CommandIo {
  readonly #encoder = new TextEncoder();
  readonly #isTerminal = Deno.stderr.isTerminal();
  #isDrawn = false;
  #drawnMs = -Infinity;

  constructor(readonly signal: AbortSignal) {}

  write(text: string): void {
    this.progress("");
    const bytes = this.#encoder.encode(text);
    try {
      for (let at = 0; at < bytes.byteLength;) at += Deno.stdout.writeSync(bytes.subarray(at));
    } catch (cause) {
      if (cause instanceof Deno.errors.BrokenPipe) throw cause;
      // a full disk is no class of Deno.errors
      throw new CommandError(`cannot write: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }

  say(text: string): void {
    this.progress("");
    this.#tell(text + "\n");
  }

  progress(text: string): void {
    if (!this.#isTerminal || (text === "" && !this.#isDrawn)) return;
    const now = performance.now();
    if (text !== "" && now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    this.#isDrawn = text !== "";
    this.#tell(`\r${text}\x1b[K`);
  }

  #tell(text: string): void {
    const bytes = this.#encoder.encode(text);
    try {
      for (let at = 0; at < bytes.byteLength;) at += Deno.stderr.writeSync(bytes.subarray(at));
    } catch {
      // nobody listens to standard error: there is nobody to tell
    }
  }
}
