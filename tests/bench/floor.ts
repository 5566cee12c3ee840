/**
 * The floor: what a plain program gets from a loopback TCP socket. Runs the two processes of `floor/`.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";
import { findCargo } from "../../rdma/_ffi/toolchain.ts";
import { COLD_GAP_MS, COLD_PINGS } from "./verbs_protocol.ts";
import { CORES, firstLine, pinned } from "./processes.ts";

/** What one round of the floor gives. */
export interface FloorFigures {
  /** 64 bytes there and back, both ends blocking, µs. */
  blockingRoundTrip: number;
  /** The same with both ends asleep before each round, µs. */
  blockingColdRoundTrip: number;
  /** 64 bytes there and back, both ends busy-polling, µs. */
  pollingRoundTrip: number;
  /** One way, 64 KiB messages received into place, GB/s. */
  stream64KiB: number;
  /** One way, 1 MiB messages, GB/s. */
  stream1MiB: number;
}

const PROGRAM = `${ROOT}/target/release/weft-floor`;

/** The floor's server process. */
export class Floor implements AsyncDisposable {
  private constructor(
    readonly server: Deno.ChildProcess,
    readonly port: string,
    readonly congestions: readonly string[],
  ) {}

  /** Builds the program where it must, and starts its server. */
  static async start(): Promise<Floor> {
    const cargo = await findCargo();
    const { success } = await new Deno.Command(cargo.path, {
      args: ["build", "--release", "--locked", "-q", "-p", "weft-floor", "--target-dir", `${ROOT}/target`],
      cwd: ROOT,
      env: cargo.env,
      stdout: "inherit",
      stderr: "inherit",
    }).output();
    if (!success) throw new Error("the floor program could not be built");
    const server = new Deno.Command(PROGRAM, {
      args: ["serve", "--core", String(CORES.server)],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const available = (await Deno.readTextFile("/proc/sys/net/ipv4/tcp_available_congestion_control")).trim().split(
      " ",
    );
    return new Floor(
      server,
      await firstLine(server.stdout),
      available.filter((name) => ["cubic", "bbr"].includes(name)),
    );
  }

  /** Takes one round. Of streams the best congestion control counts. */
  async measure(): Promise<FloorFigures> {
    const stream = async (size: number, count: number) => {
      let best = 0;
      for (const congestion of this.congestions) {
        const { gigabytesPerSecond } = await this.#run("stream", size, count, ["--congestion", congestion]);
        best = Math.max(best, gigabytesPerSecond);
      }
      return best;
    };
    return {
      blockingRoundTrip: (await this.#run("block", 64, 10_000)).roundTripMicros,
      blockingColdRoundTrip: (await this.#run("block", 64, COLD_PINGS, ["--gap", String(COLD_GAP_MS)])).roundTripMicros,
      pollingRoundTrip: (await this.#run("poll", 64, 50_000)).roundTripMicros,
      stream64KiB: await stream(64 * 1024, 16 * 1024),
      stream1MiB: await stream(1024 * 1024, 2048),
    };
  }

  async #run(kind: string, size: number, count: number, options: string[] = []): Promise<Record<string, number>> {
    const [command, ...args] = pinned(
      "client",
      PROGRAM,
      "run",
      this.port,
      kind,
      String(size),
      String(count),
      ...options,
    );
    const { success, stdout } = await new Deno.Command(command, { args, stderr: "inherit" }).output();
    if (!success) throw new Error(`the floor program failed at ${kind} ${size}`);
    return JSON.parse(new TextDecoder().decode(stdout));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.kill("SIGKILL");
    await this.server.status;
  }
}
