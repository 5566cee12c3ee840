/**
 * The floor: the same measurement taken of a plain TCP socket, by the program in `rdma/native/floor`.
 *
 * @module
 */
import { cargoBuild, ROOT } from "../_ffi/build.ts";
import { findCargo } from "../_ffi/toolchain.ts";
import { CommandError } from "../command_line.ts";
import type { Congestion } from "../listener.ts";

const PROGRAM = `${ROOT}/target/release/weft-floor`;

/** Builds the program where it must; returns its path. Throws `ToolchainError` where there is nothing to build it with. */
export async function buildFloor(): Promise<string> {
  const cargo = await findCargo();
  try {
    await cargoBuild(cargo, "--release", "--locked", "-q", "-p", "weft-floor", "--target-dir", `${ROOT}/target`);
  } catch (cause) {
    throw new CommandError("the floor program could not be built; cargo's own messages are above", { cause });
  }
  return PROGRAM;
}

/** Congestion controls to try: the one that is asked for, or else the system's own, and cubic, which is the better one on loopback. */
export async function congestionControls(asked: Congestion = "suitable"): Promise<string[]> {
  const read = async (name: string) => (await Deno.readTextFile(`/proc/sys/net/ipv4/${name}`)).trim().split(/\s+/);
  const [[current], available] = await Promise.all([
    read("tcp_congestion_control"),
    read("tcp_available_congestion_control"),
  ]);
  if (asked === "suitable") return [...new Set([current, ...available.filter((name) => name === "cubic")])];
  return [asked === "system" ? current : asked];
}

/** Measures a stream with each of these congestion controls, and takes the figures of the fastest. */
export async function withBestCongestion<Figures extends { gigabytesPerSecond: number }>(
  congestions: readonly string[],
  measure: (congestion: string) => Promise<Figures>,
): Promise<Figures> {
  const [first, ...others] = congestions;
  let best = await measure(first);
  for (const congestion of others) {
    const figures = await measure(congestion);
    if (figures.gigabytesPerSecond > best.gigabytesPerSecond) best = figures;
  }
  return best;
}

/** Nanoseconds that a cache line takes from one core to another. It changes where a host moves the cores of a virtual machine about. */
export async function coreDistance(cores: readonly [number, number]): Promise<number> {
  const { success, stdout } = await new Deno.Command(await buildFloor(), {
    args: ["distance", ...cores.map(String)],
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new CommandError(`the floor program failed at the distance of cores ${cores.join(" and ")}`);
  return Number(new TextDecoder().decode(stdout));
}

/** The floor's server, a process of its own. */
export class FloorServer implements AsyncDisposable {
  private constructor(readonly process: Deno.ChildProcess, readonly port: number) {}

  /**
   * Starts it on an address of this host, on any free port; on one core where one is given. `to`: a file that streams are written to. `prefix`: a
   * command that runs the program, as taskset.
   */
  static async start(
    options: { hostname?: string; core?: number; to?: string; prefix?: readonly string[] } = {},
  ): Promise<FloorServer> {
    const { hostname, core, to, prefix = [] } = options;
    const [command, ...args] = [...prefix, await buildFloor()];
    const process = new Deno.Command(command, {
      args: [
        ...args,
        "serve",
        ...(hostname === undefined ? [] : ["--host", hostname]),
        ...(core === undefined ? [] : ["--core", String(core)]),
        ...(to === undefined ? [] : ["--to", to]),
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const { value } = await process.stdout.pipeThrough(new TextDecoderStream()).getReader().read();
    const port = Number(value);
    if (!(port > 0)) {
      await process.status;
      throw new CommandError("the floor's server did not start");
    }
    return new FloorServer(process, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch {
      // it has ended by itself
    }
    await this.process.status;
    await this.process.stdout.cancel().catch(() => {});
  }
}

/** A measurement that the floor's program can make. */
export interface FloorOrder {
  kind: "block" | "poll" | "stream" | "duplex";
  sizeBytes: number;
  count: number;
  /** Bytes of a client's message in a ping-pong, where it has others than its answer. */
  requestBytes?: number;
  congestion?: string;
  gapMs?: number;
  /** How both ends move their messages, in place of `send` and `recv`: `rdma/native/floor/src/main.rs` explains them. */
  by?: "epoll" | "zero-copy" | "ring" | "ring-zero-copy";
  /** The file that a stream's messages are read from. */
  from?: string;
}

/** What it prints: round trips for `block` and `poll`, GB/s and the processor time of both ends for the others. */
export interface FloorFigures {
  /** Why there are no figures: what an order asks for by `by` cannot be used here. */
  failure?: string;
  roundTripMicros: number;
  p99Micros: number;
  gigabytesPerSecond: number;
  cpuSeconds: number;
  /** What the sender has of it. */
  senderCpuSeconds: number;
  /** Sends without a copy that the kernel has answered, and how many of these it copied after all. */
  completions: number;
  copied: number;
}

/** Makes one measurement with a server of the floor's. `prefix`: a command that runs the program, as taskset. */
export async function measureFloor(
  server: { hostname?: string; port: number },
  order: FloorOrder,
  options: { prefix?: readonly string[]; signal?: AbortSignal } = {},
): Promise<FloorFigures> {
  const option = (name: string, value: string | number | undefined) => value === undefined ? [] : [name, String(value)];
  const [command, ...args] = [
    ...(options.prefix ?? []),
    PROGRAM,
    "run",
    String(server.port),
    order.kind,
    String(order.sizeBytes),
    String(order.count),
    ...option("--host", server.hostname),
    ...option("--request", order.requestBytes),
    ...option("--congestion", order.congestion),
    ...option("--gap", order.gapMs),
    ...option("--by", order.by),
    ...option("--from", order.from),
  ];
  const { success, stdout } = await new Deno.Command(command, {
    args,
    stdin: "null",
    stderr: "inherit",
    signal: options.signal,
  }).output();
  if (!success) throw new CommandError(`the floor program failed at ${order.kind} of ${order.sizeBytes} bytes`);
  return JSON.parse(new TextDecoder().decode(stdout));
}
