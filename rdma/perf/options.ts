/**
 * The command line of `weft perf`: perftest's options, where there is something for them to mean.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { CONGESTIONS } from "../_ffi/layout.ts";
import { parseInteger, parseSeconds, parseSize, parseSwitch, UsageError } from "../command_line.ts";
import type { Congestion } from "../listener.ts";
import { ATOMIC_BYTES, ATOMICS, type Operation, OPERATIONS } from "./operation.ts";

/** perftest's port. */
export const DEFAULT_PORT = 18515;
/** The largest message: what MPA, DDP and this machine can do is more, what a peer may make us allocate is not. */
export const SIZE_MAX = 2 ** 30;
/** The most requests, or receives, outstanding on a connection. */
export const DEPTH_MAX = 8192;
/** The most connections of a run. */
export const CONNECTIONS_MAX = 1024;
/** Memory that a run may take at either end, bytes. */
const MEMORY_MAX = 4 * SIZE_MAX;
/** The largest size of `--all`. */
const ALL_SIZE_MAX = 8 * 2 ** 20;
/** Bytes that the default number of iterations may move. */
const DEFAULT_BYTES_MAX = 4 * 2 ** 30;
/** The bounds of an ULPDU (RFC 5044 §4.5). */
export const MULPDU = { min: 128, max: 65535 };
const ITERATIONS_MAX = 1e12;
/** A round trip is measured from one posting to the next, as in perftest: one by itself has no figure. */
const LATENCY_ITERATIONS_MIN = 2;
/** perftest itself makes no fewer. */
const PERFTEST_ITERATIONS_MIN = 5;
const DURATION_MAX_S = 86_400;

/** What `weft perf` was asked to do. */
export interface PerfOptions {
  operation: Operation;
  /** The server; absent where this end is to be it. */
  hostname?: string;
  /** The server's own address. */
  listen: string;
  port: number;
  /** Bytes of a message, one row each. */
  sizes: readonly number[];
  /** Messages of a row. */
  iterations?: number;
  /** Time of a row, in place of iterations. */
  durationMs?: number;
  /** Requests outstanding on each connection. */
  sendDepth: number;
  /** Receives posted on each connection. */
  receiveDepth: number;
  /** Requests that are handed over together; absent: as many as there is room for. */
  list?: number;
  /** Of so many requests, one is signalled. */
  moderation: number;
  /** RDMA Reads outstanding on each connection; absent: what is agreed on. */
  readDepth?: number;
  /** Which one `atomic_lat` measures. */
  atomic: typeof ATOMICS[keyof typeof ATOMICS];
  /** The largest ULPDU to send; 0: as suits the connection. */
  mulpdu: number | "mss";
  /** TCP's congestion control. */
  congestion: Congestion;
  bidirectional: boolean;
  connections: number;
  /** Absent: with other hosts only. */
  crc?: boolean;
  /** Sleep in place of polling. */
  events: boolean;
  json: boolean;
  gbits: boolean;
  /** Processor time in the table, also without the floor. */
  cpuUtil: boolean;
  floor: boolean;
  /** How often a row is measured; its median counts. */
  rounds: number;
  /** The other end is perftest's. */
  perftest: boolean;
}

/** The help of `weft perf`. */
export const PERF_HELP = `Usage: weft perf OPERATION [OPTION]...            wait for a client, and be its server
   or: weft perf OPERATION [OPTION]... HOST       measure, with the server on HOST
Measure RDMA between two processes, from the verbs in TypeScript, as perftest's ib_* programs do.

OPERATION is write_bw, read_bw or send_bw for bandwidth; write_lat, read_lat, send_lat or atomic_lat for latency.
What the client is told goes for both ends; the server needs to know the operation and where to listen.

  -p, --port=PORT          the server's port, ${DEFAULT_PORT} by default; for the server 0 is any free one
      --listen=ADDR        the server's address; 0.0.0.0, every address of this host, by default
  -s, --size=BYTES         of a message: 65536 for bandwidth, 2 for latency by default; 4K, 8M are understood
  -a, --all                every power of two from 2 bytes to 8 MiB
  -n, --iters=N            messages of a row: 5000 for bandwidth (fewer where that were more than 4 GiB), 1000 for latency
                           (2 at least: a round trip is measured from one posting to the next)
  -D, --duration=SECONDS   measure for so long instead
  -t, --tx-depth=N         requests outstanding on a connection: 128 for bandwidth
  -r, --rx-depth=N         receives posted on a connection, for Sends: 512
  -l, --post_list=N        hand over N requests at once; as many as there is room for by default
  -Q, --cq-mod=N           have one completion for N requests: a quarter of the depth by default, 100 at most
  -o, --outs=N             RDMA Reads outstanding on a connection; what both ends agree on by default
  -A, --atomic_type=TYPE   FETCH_AND_ADD, CMP_AND_SWAP or SWAP, of 8 bytes: FETCH_AND_ADD
  -b, --bidirectional      both ends send at once; the figures are those of both together
  -q, --qp=N               connections, for bandwidth: 1
      --crc=on|off         ask for CRC32C, or do without; with other hosts only by default
      --mulpdu=BYTES|mss   put at most so much into an FPDU, or as much as fills a segment of TCP's; the most there is within
                           this host by default, elsewhere as many whole segments as 16 KiB have room for
      --congestion=NAME    TCP's congestion control: suitable (cubic within this host, the system's choice elsewhere), system,
                           ${CONGESTIONS.slice(2).join(", ")}
  -e, --events             sleep until there is something to do, in place of polling
      --floor              on both ends: take the same measurement of a plain TCP socket in turns, and give the ratio
      --rounds=N           measure every row N times and give the median: 1, or 5 with --floor
      --cpu_util           show processor time, too: seconds for a GB (10^9 bytes) of payload, both ends; --floor shows it anyway
      --report_gbits       Gb/s in place of MB/s (which are of 2^20 bytes, as perftest has them)
      --perftest           the other end is perftest's own: ib_write_bw -R …; see below
      --json               print one JSON object a row
      --help               display this help and exit

Latency is half of the round trip for Writes and Sends, the whole of it for Reads and atomics.
Bandwidth counts until the other end has everything, not until the last request is complete here. Its peak is that of the best
stretch of as many requests as are outstanding, and 1 ms at least; a row without such a stretch has its average there.
Processor time is that of both processes, client and server, with all their threads, while bandwidth is measured. Ends that
poll take their cores whole, however little there is to do; the floor's ends sleep in send and recv. So what compares with
the floor's is ours with --events, whose ends sleep in the core; without it the ratio says what polling costs.

With --perftest either end may be an ib_{write,read,send}_{bw,lat} of perftest 4.5 (its protocol 6.06) over rdma_cm, -R; -F is
of use where the processor's clock changes. perftest's ends do not tell each other what they measure: sizes (-s, -a),
iterations (-n; 5000 for write_bw, else 1000; 5 at least) and the depth of receives (-r) are to be the same at both. There is
one connection in one direction, polled, and bandwidth counts until the last request is complete here, as perftest has it.
Nor do they tell each other's processor time, so there is none.
--duration is for what leaves the server idle: write_bw, read_bw, read_lat, atomic_lat. In write_lat perftest's server
writes first, which iWARP allows after the client's first message alone: with this end as the server, the client's device
has to ask for peer-to-peer mode, and Linux's siw does not; with this end as the client all is well.

Examples:
  weft perf write_bw & weft perf write_bw -a 127.0.0.1
  weft perf send_lat --floor & weft perf send_lat --floor -s 64 -D 2 127.0.0.1
  weft perf read_bw -a --perftest                  and on the other host: ib_read_bw -R -F -a HOST
`;

/** Reads the arguments; the last of several equal options counts. `undefined`: the help is asked for. Throws {@linkcode UsageError}. */
export function parsePerfArguments(args: readonly string[]): PerfOptions | undefined {
  const parsed = parseArgs(args, {
    boolean: ["all", "bidirectional", "events", "floor", "perftest", "report_gbits", "cpu_util", "json", "help"],
    string: [
      "_",
      ...["port", "listen", "size", "iters", "duration", "tx-depth", "rx-depth", "post_list", "cq-mod", "outs", "qp"],
      ...["crc", "rounds", "atomic_type", "mulpdu", "congestion"],
    ],
    alias: {
      port: "p",
      size: "s",
      all: "a",
      iters: "n",
      duration: "D",
      "tx-depth": "t",
      "rx-depth": "r",
      post_list: "l",
      "cq-mod": "Q",
      outs: "o",
      atomic_type: "A",
      bidirectional: "b",
      qp: "q",
      events: "e",
    },
    unknown: (argument, key) => {
      if (key === undefined) return true;
      throw new UsageError(`unrecognized option '${argument}'`);
    },
  });
  if (parsed.help) return undefined;
  const [name, hostname, ...more] = parsed._.map(String);
  const operation = findOperation(name);
  if (more.length > 0) throw new UsageError(`'${more[0]}' is one operand too many`);
  if (hostname === "") throw new UsageError("the host's name is empty");

  const isLatency = operation.measure === "latency";
  const given = (option: keyof typeof parsed): string | undefined => {
    const text = parsed[option];
    if (text === "") throw new UsageError(`option '--${option}' needs a value`);
    return text as string | undefined;
  };
  const integer = (option: keyof typeof parsed, what: string, min: number, max: number): number | undefined => {
    const text = given(option);
    return text === undefined ? undefined : parseInteger(what, text, { min, max });
  };
  const forBandwidth = (option: keyof typeof parsed) => {
    if (isLatency && parsed[option]) {
      throw new UsageError(`--${option} is for bandwidth`);
    }
  };
  for (const option of ["tx-depth", "post_list", "cq-mod", "qp", "bidirectional", "cpu_util"] as const) {
    forBandwidth(option);
  }

  const size = given("size");
  const duration = given("duration");
  const crc = given("crc");
  if (parsed.all && size !== undefined) throw new UsageError("--all and --size exclude each other");
  if (duration !== undefined && parsed.iters !== undefined) {
    throw new UsageError("--duration and --iters exclude each other");
  }
  if (parsed.perftest) checkPerftest(operation, parsed);
  if (operation.name === "write_lat" && parsed.events) {
    throw new UsageError("a Write wakes nobody, so write_lat polls: --events is not for it");
  }
  const isAtomic = operation.verb === "atomic";
  if (isAtomic && (parsed.all || size !== undefined)) throw new UsageError("an atomic operation is of 8 bytes");
  const atomic = given("atomic_type") ?? "FETCH_AND_ADD";
  if (!isAtomic && parsed.atomic_type !== undefined) throw new UsageError("--atomic_type is for atomic_lat");
  if (!Object.hasOwn(ATOMICS, atomic)) {
    throw new UsageError(`'${atomic}' is no atomic operation: ${Object.keys(ATOMICS).join(", ")}`);
  }
  const sizes = parsed.all
    ? Array.from({ length: Math.log2(ALL_SIZE_MAX) }, (_, i) => 2 ** (i + 1))
    : [size === undefined ? defaultSize(operation) : parseSize("size", size, { min: 1, max: SIZE_MAX })];
  const connections = integer("qp", "number of connections", 1, CONNECTIONS_MAX) ?? 1;
  const objection = memoryObjection({ sizeBytes: Math.max(...sizes), connections });
  if (objection !== undefined) throw new UsageError(objection);
  const iterationsMin = parsed.perftest ? PERFTEST_ITERATIONS_MIN : isLatency ? LATENCY_ITERATIONS_MIN : 1;
  const sendDepth = integer("tx-depth", "depth", 1, DEPTH_MAX) ?? (isLatency ? 1 : 128);
  const list = integer("post_list", "number of requests", 1, DEPTH_MAX);
  if (list !== undefined && list > sendDepth) throw new UsageError("--post_list cannot be more than --tx-depth");
  const moderation = integer("cq-mod", "number of requests", 1, DEPTH_MAX);
  if (moderation !== undefined && moderation > sendDepth) {
    throw new UsageError("--cq-mod cannot be more than --tx-depth");
  }
  const congestion = given("congestion") ?? "suitable";
  if (!isCongestion(congestion)) {
    throw new UsageError(`'${congestion}' is no congestion control: ${CONGESTIONS.join(", ")}`);
  }
  return {
    operation,
    hostname,
    listen: given("listen") ?? "0.0.0.0",
    port: integer("port", "port", hostname === undefined ? 0 : 1, 65535) ?? DEFAULT_PORT,
    sizes,
    iterations: integer("iters", "number of iterations", iterationsMin, ITERATIONS_MAX) ??
      (parsed.perftest ? perftestIterations(operation) : undefined),
    durationMs: duration === undefined
      ? undefined
      : 1000 * parseSeconds("duration", duration, { min: 0.01, max: DURATION_MAX_S }),
    sendDepth,
    receiveDepth: integer("rx-depth", "depth", 1, DEPTH_MAX) ?? (isLatency ? 16 : 512),
    list,
    moderation: moderation ?? Math.min(100, Math.ceil(sendDepth / 4)),
    readDepth: integer("outs", "number of Reads", 1, 128),
    mulpdu: parsed.mulpdu === "mss" ? "mss" : integer("mulpdu", "length of an ULPDU", MULPDU.min, MULPDU.max) ?? 0,
    congestion,
    atomic: ATOMICS[atomic as keyof typeof ATOMICS],
    bidirectional: parsed.bidirectional,
    connections,
    crc: crc === undefined ? undefined : parseSwitch("crc", crc),
    events: parsed.events,
    json: parsed.json,
    gbits: parsed.report_gbits,
    cpuUtil: parsed.cpu_util,
    floor: parsed.floor,
    rounds: integer("rounds", "number of rounds", 1, 1000) ?? (parsed.floor ? 5 : 1),
    perftest: parsed.perftest,
  };
}

/** Why so many connections cannot have messages of this size; `undefined` where they can. Each has a buffer to send from, and one to receive in. */
export function memoryObjection(
  { sizeBytes, connections }: { sizeBytes: number; connections: number },
): string | undefined {
  if (2 * sizeBytes * connections <= MEMORY_MAX) return undefined;
  return `${connections} buffers of ${sizeBytes} bytes are too much`;
}

/** What perftest's exchange leaves no room for, or has no words for. */
function checkPerftest(operation: Operation, given: Readonly<Record<string, unknown>>): void {
  for (const option of ["bidirectional", "events", "floor", "rounds", "qp", "cpu_util"]) {
    if (given[option]) throw new UsageError(`--${option} does not go with --perftest`);
  }
  const { verb, name } = operation;
  if (given.duration !== undefined && (verb === "send" || name === "write_lat")) {
    throw new UsageError(
      `--duration does not go with --perftest in ${name}, whose ends each stop by a clock of their own`,
    );
  }
}

/** perftest's own default. */
function perftestIterations({ name }: Operation): number {
  return name === "write_bw" ? 5000 : 1000;
}

function findOperation(name: string | undefined): Operation {
  if (name === undefined) throw new UsageError("an operation is missing");
  const operation = OPERATIONS.get(name);
  if (operation !== undefined) return operation;
  throw new UsageError(`'${name}' is no operation: ${[...OPERATIONS.keys()].join(", ")}`);
}

function isCongestion(name: string): name is Congestion {
  return (CONGESTIONS as readonly string[]).includes(name);
}

function defaultSize({ verb, measure }: Operation): number {
  return verb === "atomic" ? ATOMIC_BYTES : measure === "latency" ? 2 : 65536;
}

/** Messages of a row of this size that is not limited by time. */
export function iterationsFor({ operation, iterations }: PerfOptions, sizeBytes: number): number {
  if (iterations !== undefined) return iterations;
  if (operation.measure === "latency") return 1000;
  return Math.max(16, Math.min(5000, Math.floor(DEFAULT_BYTES_MAX / sizeBytes)));
}
