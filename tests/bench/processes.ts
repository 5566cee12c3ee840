/**
 * Processes of a benchmark: two, each on a core of its own.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";

/** Which core each end runs on. */
export const CORES = { client: 0, server: Math.min(1, navigator.hardwareConcurrency - 1) } as const;

/** A command line that keeps a program on its end's core. */
export function pinned(end: keyof typeof CORES, ...command: string[]): string[] {
  return ["taskset", "--cpu-list", String(CORES[end]), ...command];
}

/** A command line that runs one of our own programs. */
export function deno(path: string, ...args: string[]): string[] {
  return [Deno.execPath(), "run", "-A", "--no-check", `${ROOT}/${path}`, ...args];
}

/** Starts one end whose standard output is read. */
export function spawn([command, ...args]: string[]): Deno.ChildProcess {
  return new Deno.Command(command, { args, cwd: ROOT, stdin: "null", stdout: "piped", stderr: "inherit" }).spawn();
}

/** Runs one end, and parses the JSON that it prints. */
export async function runForJson<T>([command, ...args]: string[]): Promise<T> {
  const { success, stdout, code } = await new Deno.Command(command, {
    args,
    cwd: ROOT,
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`${args.slice(0, 8).join(" ")} failed with exit code ${code}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** The first line that a process prints. The rest is drained. */
export async function firstLine(stdout: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error("a process of the benchmark ended before it said anything");
    text += decoder.decode(value, { stream: true });
  }
  (async () => {
    while (!(await reader.read()).done);
  })().catch(() => {}); // the process was ended on purpose
  return text.slice(0, text.indexOf("\n"));
}

/** Starts the program `server`, runs `client` with what that says first and `args`, each on its core, and parses the JSON that the client prints. */
export async function runPair<T>(server: string, client: string, ...args: string[]): Promise<T> {
  const process = spawn(pinned("server", ...deno(server)));
  try {
    const told = await firstLine(process.stdout);
    return await runForJson<T>(pinned("client", ...deno(client, told, ...args)));
  } finally {
    process.kill("SIGKILL");
    await process.status;
  }
}
