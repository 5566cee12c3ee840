/**
 * A link with a small MSS, between two network namespaces: what the verbs move over it, beside TCP on the same link.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";
import { CORES, deno, firstLine, pinned, runForJson } from "./processes.ts";
import { median, type Row } from "./report.ts";

const MTU = "1500";
const PORT = "18515";
const OPERATIONS = { write_bw: "RDMA Write", read_bw: "RDMA Read", send_bw: "Send" } as const;
const SIZES = { "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024 } as const;
/** How long each measurement takes. */
const SECONDS = "0.3";
/** What ends a server that nobody can end any more. */
const SERVER_LIMIT_S = "30";

/** One measurement of a round, by the name of its row. */
export interface LinkFigure {
  name: string;
  /** GB/s. */
  ours: number;
  /** TCP's, GB/s. */
  floor: number;
}

/** One end of the link: a network namespace, there for as long as a process that waits for the end of its input, and so ends with this one in any case. */
class End implements AsyncDisposable {
  readonly #holder: Deno.ChildProcess;

  constructor(readonly device: string, readonly address: string, readonly core: number) {
    this.#holder = new Deno.Command("unshare", { args: ["--net", "cat"], stdin: "piped", stdout: "null" }).spawn();
  }

  get pid(): string {
    return String(this.#holder.pid);
  }

  /** A command line that runs a program here. */
  within(...command: string[]): string[] {
    return ["nsenter", `--net=/proc/${this.pid}/ns/net`, ...command];
  }

  /** Resolves when the namespace is there. */
  async ready(): Promise<void> {
    const ours = await Deno.readLink("/proc/self/ns/net");
    for (let tries = 0; tries < 500; tries++) {
      if (await Deno.readLink(`/proc/${this.pid}/ns/net`).catch(() => ours) !== ours) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error("no network namespace can be made");
  }

  /** Brings the interface up. */
  async up(): Promise<void> {
    const { device } = this;
    await run(...this.within("ip", "address", "add", `${this.address}/24`, "dev", device));
    await run(...this.within("ip", "link", "set", "dev", device, "up"));
    // What comes in is handled on the core of this end, as that of a host of its own is. Else it is handled on the core that happens to send it, packets
    // of a connection overtake each other, and what is measured is how TCP recovers from that.
    const steering = `/sys/class/net/${device}/queues/rx-0/rps_cpus`;
    const script = `mount -t sysfs none /sys && echo ${(1 << this.core).toString(16)} > ${steering}`;
    await run(...this.within("unshare", "--mount", "sh", "-c", script));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holder.stdin.close().catch(() => {});
    await this.#holder.status;
  }
}

/** A kind of link: its name in the rows, and the commands that make one, and undo it, at each end. */
export interface Kind {
  name: string;
  make: (device: string) => string[];
  undo: (device: string) => string[];
}

function queueing(name: string, ...discipline: string[]): Kind {
  const words = (verb: string, device: string) => ["tc", "qdisc", verb, "dev", device, "root"];
  return { name, make: (device) => [...words("add", device), ...discipline], undo: (device) => words("del", device) };
}

function offloads(device: string, state: string): string[] {
  return ["ethtool", "-K", device, "tso", state, "gso", state];
}

const KINDS: readonly Kind[] = [
  { name: "offloads on", make: () => ["true"], undo: () => ["true"] },
  { name: "no offloads", make: (device) => offloads(device, "off"), undo: (device) => offloads(device, "on") },
  queueing("10 Gb/s, 2 ms of queue", "tbf", "rate", "10gbit", "burst", "256kb", "latency", "2ms"),
  queueing("2 ms of delay", "netem", "delay", "2ms", "limit", "100000"),
];

/** Two namespaces that a pair of interfaces joins. */
export class Link implements AsyncDisposable {
  readonly #client = new End("weft0", "10.77.0.1", CORES.client);
  readonly #server = new End("weft1", "10.77.0.2", CORES.server);
  /** The kinds of link that this system has. */
  readonly kinds: Kind[] = [];

  private constructor() {}

  /** Joins two namespaces, with these kinds of link where the system has them; `undefined` where that cannot be, and says why. */
  static async start(kinds: readonly Kind[] = KINDS): Promise<Link | undefined> {
    if (Deno.uid() !== 0) {
      console.error("THE LINK IS LEFT OUT: network namespaces are root's to make");
      return undefined;
    }
    const link = new Link();
    try {
      await link.#join(kinds);
      return link;
    } catch (error) {
      await link[Symbol.asyncDispose]();
      console.error(`THE LINK IS LEFT OUT: ${messageOf(error)}`);
      return undefined;
    }
  }

  get #ends(): readonly End[] {
    return [this.#client, this.#server];
  }

  async #join(kinds: readonly Kind[]): Promise<void> {
    const [client, server] = this.#ends;
    await Promise.all(this.#ends.map((end) => end.ready()));
    const peer = ["peer", "name", server.device, "mtu", MTU, "netns", server.pid];
    await run("ip", "link", "add", client.device, "mtu", MTU, "netns", client.pid, "type", "veth", ...peer);
    for (const end of this.#ends) await end.up();
    for (const kind of kinds) {
      try {
        await this.#apply(kind, "make");
        await this.#apply(kind, "undo");
        this.kinds.push(kind);
      } catch (error) {
        console.error(`A LINK WITH ${kind.name} IS LEFT OUT: ${messageOf(error)}`);
      }
    }
  }

  async #apply(kind: Kind, step: "make" | "undo"): Promise<void> {
    for (const end of this.#ends) await run(...end.within(...kind[step](end.device)));
  }

  /** The address of the server's end. */
  get serverAddress(): string {
    return this.#server.address;
  }

  /** A command line that runs a program at one end, on its core. */
  at(end: "client" | "server", ...command: string[]): string[] {
    return (end === "client" ? this.#client : this.#server).within(...pinned(end, ...command));
  }

  /** Measures something while the link is of some kind. */
  async over<T>(kind: Kind, measure: () => Promise<T>): Promise<T> {
    await this.#apply(kind, "make");
    const figures = await measure();
    await this.#apply(kind, "undo");
    return figures;
  }

  /** Takes one round over a link of some kind. */
  measure(kind: Kind): Promise<LinkFigure[]> {
    return this.over(kind, () => this.#verbs(kind));
  }

  async #verbs(kind: Kind): Promise<LinkFigure[]> {
    const figures: LinkFigure[] = [];
    for (const [operation, title] of Object.entries(OPERATIONS)) {
      for (const [size, bytes] of Object.entries(SIZES)) {
        const take = async (about: string, crc: string, congestion: string) => {
          const figure = await this.#perf(operation, `--size=${bytes}`, crc, congestion);
          figures.push({ name: `${title} ${size}${about}, ${kind.name}`, ...figure });
        };
        await take("", "off", "system");
        await take(" with CRC", "on", "system");
        // what the congestion control does shows in one operation
        if (operation === "write_bw") await take(" with cubic", "off", "cubic");
      }
    }
    return figures;
  }

  /**
   * A row of `weft perf`, with the floor of the same congestion control. Ends sleep as the floor's do: the packets of an interface are handled on its
   * end's core, and an end that polls takes that core from them.
   */
  async #perf(
    operation: string,
    size: string,
    crc: string,
    congestion: string,
  ): Promise<Omit<LinkFigure, "name">> {
    const common = deno("main.ts", "perf", operation, "--floor", `--crc=${crc}`, `--port=${PORT}`);
    const [command, ...args] = this.at("server", "timeout", SERVER_LIMIT_S, ...common);
    await using server = new Server(command, args);
    await server.ready();
    const options = ["--events", "--json", "--rounds=1", size, `--duration=${SECONDS}`, `--congestion=${congestion}`];
    const client = this.at("client", ...common, ...options, this.serverAddress);
    const row = await runForJson<{ bytesPerSecond: number; floor: number }>(client);
    return { ours: row.bytesPerSecond / 1e9, floor: row.floor / 1e9 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends) await end[Symbol.asyncDispose]();
  }
}

/** The server of `weft perf`. */
class Server implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;

  constructor(command: string, args: string[]) {
    this.#process = new Deno.Command(command, { args, cwd: ROOT, stdin: "null", stdout: "null", stderr: "piped" })
      .spawn();
  }

  /** Resolves when it waits for a client. What else it says is an error of its. */
  async ready(): Promise<void> {
    const said = await firstLine(this.#process.stderr);
    if (!said.includes("waiting for a client")) throw new Error(said);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGTERM");
    } catch {
      // it has ended, as it does behind its client
    }
    await this.#process.status;
  }
}

/** Runs a command; throws what it says where it fails. */
async function run(...words: string[]): Promise<void> {
  const [command, ...args] = words;
  const { success, stderr } = await new Deno.Command(command, { args, stdin: "null", stdout: "null" }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim() || `${command} failed`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The rows of the report: medians over the rounds. TCP has the same congestion control, the system's unless a row names another. */
export function linkRows(rounds: readonly (readonly LinkFigure[])[]): Row[] {
  const [first = []] = rounds;
  return first.map(({ name }, at) => ({
    name,
    unit: "GB/s",
    ours: median(rounds.map((round) => round[at].ours)),
    against: { name: "TCP", value: median(rounds.map((round) => round[at].floor)) },
    target: { atLeast: 0.9 },
  }));
}
