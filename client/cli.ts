/**
 * The client's half of the `weft` command.
 *
 * @module
 */
import type { Command } from "./commands/command.ts";
import type { CommandIo } from "./commands/context.ts";

/** Grace for what an interrupted command has to put in order, milliseconds. */
const GRACE_MS = 3000;

/** Exit status of a command that SIGTERM has ended, as shells show it. */
const TERMINATED = 143;

/** Width of a terminal that does not tell its own. */
const COLUMNS = 80;

/** The commands, each loaded when it is called. */
const loaders: Readonly<Record<string, () => Promise<Command>>> = {
  ls: async () => (await import("./commands/ls.ts")).ls as Command,
  cat: async () => (await import("./commands/cat.ts")).cat as Command,
  cp: async () => (await import("./commands/cp.ts")).cp as Command,
  mkdir: async () => (await import("./commands/mkdir.ts")).mkdir as Command,
  mv: async () => (await import("./commands/mv.ts")).mv as Command,
  rm: async () => (await import("./commands/rm.ts")).rm as Command,
  stat: async () => (await import("./commands/stat.ts")).stat as Command,
  df: async () => (await import("./commands/df.ts")).df as Command,
};

/** What each command does, in a line. */
export const CLIENT_COMMANDS: Readonly<Record<string, string>> = {
  ls: "list files and directories",
  cat: "write files to standard output",
  cp: "copy files and trees, here or on servers",
  mkdir: "make directories",
  mv: "rename or move files",
  rm: "remove files and trees",
  stat: "show everything known of a file",
  df: "show how full a file system is",
};

/** Runs one of the client's commands in this process; returns its exit status. */
export async function runClientCommand(name: string, args: readonly string[]): Promise<number> {
  const command = await loaders[name]();
  const { INTERRUPTED, runCommand } = await import("./commands/command.ts");
  const { terminalProgress } = await import("./commands/progress.ts");
  const { encodeName } = await import("./names.ts");
  const soft = new AbortController();
  const hard = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isTerminated = false;
  const interrupt = () => {
    const reason = new DOMException("interrupted", "AbortError");
    if (soft.signal.aborted) hard.abort(reason);
    soft.abort(reason);
    timer ??= setTimeout(() => hard.abort(reason), GRACE_MS);
  };
  const terminate = () => {
    isTerminated ||= !soft.signal.aborted;
    interrupt();
  };
  Deno.addSignalListener("SIGINT", interrupt);
  Deno.addSignalListener("SIGTERM", terminate);
  const io: CommandIo = {
    async write(text) {
      const bytes = typeof text === "string" ? encodeName(text) : text;
      for (let at = 0; at < bytes.byteLength;) at += await Deno.stdout.write(bytes.subarray(at));
    },
    warn: (text) => warn(encodeName(text)),
    columns: Deno.stdout.isTerminal() ? columns() : undefined,
    progress: terminalProgress,
    signal: soft.signal,
    killSignal: hard.signal,
  };
  try {
    const status = await runCommand(command, args, io);
    return status === INTERRUPTED && isTerminated ? TERMINATED : status;
  } finally {
    clearTimeout(timer);
    Deno.removeSignalListener("SIGINT", interrupt);
    Deno.removeSignalListener("SIGTERM", terminate);
  }
}

function warn(bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.byteLength;) at += Deno.stderr.writeSync(bytes.subarray(at));
  } catch {
    // Nobody listens to standard error: there is nobody to tell.
  }
}

function columns(): number {
  try {
    return Deno.consoleSize().columns || COLUMNS; // 0: a terminal that does not know
  } catch {
    return COLUMNS;
  }
}
