/**
 * Our own server as a process of its own, for tests that look at it from outside.
 *
 * @module
 */
import { ROOT } from "../rdma/_ffi/build.ts";

/** A running `weft serve`. */
export class WeftServer implements AsyncDisposable {
  #stopped?: Promise<Deno.CommandStatus>;
  #process: Deno.ChildProcess;
  readonly #args: readonly string[];

  private constructor(
    /** The directory that it exports as `/`. */
    readonly directory: string,
    readonly port: number,
    args: readonly string[],
  ) {
    this.#args = args;
    this.#process = this.#spawn();
  }

  /** Starts a server of a new directory on a free port of 127.0.0.1. `args`: further options of `weft serve`. */
  static async start(options: { args?: readonly string[] } = {}): Promise<WeftServer> {
    const directory = await Deno.makeTempDir({ prefix: "weft-export-" });
    await Deno.chmod(directory, 0o777);
    const server = new WeftServer(directory, freePort(), options.args ?? []);
    await waitForPort(server.port);
    return server;
  }

  /** The process. */
  get process(): Deno.ChildProcess {
    return this.#process;
  }

  /** Kills it in the middle of what it does. */
  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
  }

  /** Starts it again where it was, after `kill`. `main`: another program that takes the same arguments. */
  async startAgain(options: { main?: string } = {}): Promise<void> {
    this.#process = this.#spawn(options.main);
    await waitForPort(this.port);
  }

  #spawn(main = `${ROOT}/main.ts`): Deno.ChildProcess {
    const options = ["--listen", `127.0.0.1:${this.port}`, "--no-root-squash", ...this.#args];
    return new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", main, "serve", this.directory, ...options],
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
  }

  /** How many descriptors it has open, its cache of exported files not counted. */
  async descriptors(): Promise<number> {
    const directory = `/proc/${this.process.pid}/fd`;
    const targets = await Array.fromAsync(Deno.readDir(directory), ({ name }) => {
      return Deno.readLink(`${directory}/${name}`).catch(() => undefined); // closed meanwhile
    });
    return targets.filter((target) => target !== undefined && !target.startsWith(this.directory)).length;
  }

  /** Asks it to drain and end, as Ctrl-C does. */
  stop(): Promise<Deno.CommandStatus> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<Deno.CommandStatus> {
    this.#process.kill("SIGINT");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 20_000);
    const status = await this.#process.status;
    clearTimeout(timer);
    return status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => {}); // it may have ended by itself
    await Deno.remove(this.directory, { recursive: true });
  }
}

const given = new Set<number>();

/** A TCP port of 127.0.0.1 that nobody listens on, another one each time: until it is used, the system may choose it again. */
export function freePort(): number {
  while (true) {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    listener.close();
    if (!given.has(port)) {
      given.add(port);
      return port;
    }
  }
}

/** Resolves when somebody listens on a port of 127.0.0.1. Rejects after 15 s. */
export async function waitForPort(port: number): Promise<void> {
  for (let tries = 0; tries < 150; tries++) {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port }).catch(() => undefined);
    connection?.close();
    if (connection !== undefined) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`nobody listens on port ${port} after 15 s`);
}
