/**
 * The `weft` command as a process, for tests that look at it from outside.
 *
 * @module
 */
import { ROOT } from "../_ffi/build.ts";

/** How a process ended, and what it said. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** A running `weft`. Disposing kills it. */
export class Weft implements AsyncDisposable {
  readonly process: Deno.ChildProcess;
  /** How it ends. */
  readonly outcome: Promise<Outcome>;
  #stderr = "";
  #isOver = false;
  #heard: (() => void)[] = [];

  /** Starts it. */
  constructor(...args: string[]) {
    this.process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", `${ROOT}/main.ts`, ...args],
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.outcome = this.#follow();
  }

  async #follow(): Promise<Outcome> {
    const stderr = this.process.stderr.pipeThrough(new TextDecoderStream());
    const [stdout, { code }] = await Promise.all([
      new Response(this.process.stdout).text(),
      this.process.status,
      (async () => {
        for await (const text of stderr) {
          this.#stderr += text;
          for (const wake of this.#heard.splice(0)) wake();
        }
        this.#isOver = true;
        for (const wake of this.#heard.splice(0)) wake();
      })(),
    ]);
    return { code, stdout, stderr: this.#stderr };
  }

  /** Resolves with what the pattern matches on standard error. Rejects where the process ends first. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.#stderr);
      if (match !== null) return match;
      if (this.#isOver) throw new Error(`it ended without having said ${pattern}:\n${this.#stderr}`);
      await new Promise<void>((resolve) => this.#heard.push(resolve));
    }
  }

  /** The port that a server says it listens on. */
  async port(): Promise<number> {
    return Number((await this.says(/waiting for .* on .*:(\d+)/))[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) {
      try {
        this.process.kill("SIGKILL");
      } catch {
        // it has ended meanwhile
      }
    }
    await this.outcome;
  }
}

/** Runs `weft` to its end. */
export async function weft(...args: string[]): Promise<Outcome> {
  await using process = new Weft(...args);
  return await process.outcome;
}
