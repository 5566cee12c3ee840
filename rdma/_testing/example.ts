/**
 * Examples as processes, for tests that run them as their reader would.
 *
 * @module
 */
import { TextLineStream } from "@std/streams";
import { ROOT } from "../_ffi/build.ts";

function command(name: string, args: (string | number)[], io: Deno.CommandOptions): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${ROOT}/rdma/examples/${name}.ts`, ...args.map(String)],
    env: { NO_COLOR: "1" },
    ...io,
  });
}

/** Runs an example to its end, without input; returns its exit status, and what it said on standard error. */
export async function runExample(name: string, ...args: string[]): Promise<{ code: number; stderr: string }> {
  const { code, stderr } = await command(name, args, { stdin: "null" }).output();
  return { code, stderr: new TextDecoder().decode(stderr) };
}

/** A running example. Disposing kills it. */
export class Example implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  /** Starts `rdma/examples/NAME.ts`. */
  constructor(name: string, ...args: (string | number)[]) {
    this.#process = command(name, args, { stdin: "piped", stdout: "piped", stderr: "inherit" }).spawn();
    this.#input = this.#process.stdin.getWriter();
    const lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** Resolves with the next line that it prints. Rejects where it ends first. */
  async line(): Promise<string> {
    const { done, value } = await this.#lines.next();
    if (done) throw new Error("it ended without another line");
    return value;
  }

  /** The port that it says it listens on. */
  async port(): Promise<number> {
    return Number((await this.line()).match(/^listening on port (\d+)$/)?.[1]);
  }

  /** Types something. */
  async type(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  /** Ends its input, and resolves with the lines that it still prints when it has ended well. Rejects where it has not. */
  async end(): Promise<string[]> {
    await this.#input.close();
    const lines: string[] = [];
    for (let next = await this.#lines.next(); !next.done; next = await this.#lines.next()) lines.push(next.value);
    const { code } = await this.#process.status;
    if (code !== 0) throw new Error(`it ended with exit status ${code}`);
    return lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // it has ended already
    }
    await this.#input.abort().catch(() => {});
    await this.#lines.return?.();
    await this.#process.status;
  }
}
