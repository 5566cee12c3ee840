/**
 * `weft ping`: round trips by RDMA Read, RDMA Write and Send, with another `weft ping` or librdmacm's `rping`.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { type CommandIo, parseInteger, parseSeconds, parseSize, parseSwitch, UsageError } from "../command_line.ts";
import { rpingClient, rpingServer, TEXT_BYTES, TEXT_BYTES_MAX, TEXT_BYTES_MIN } from "./rping.ts";

/** rping's port. */
const DEFAULT_PORT = 7174;
const COUNT_MAX = 1e9;
const INTERVAL_MAX_S = 86_400;

/** The help of `weft ping`. */
export const PING_HELP = `Usage: weft ping [OPTION]... HOST       make round trips with the server on HOST
   or: weft ping -s [OPTION]...         be the server
In each round the server fetches a text of the client's by RDMA Read and puts it back by RDMA Write; the client compares.
The other end may be librdmacm's rping.

  -s, --server             wait for a client
  -a, --address=ADDR       the server's own address: 0.0.0.0, every address of this host, by default. For a client: the same as HOST
  -p, --port=PORT          the server's port: ${DEFAULT_PORT}; for the server 0 is any free one
  -C, --count=N            end after N rounds; Ctrl-C ends it in any case
  -S, --size=BYTES         of the text: ${TEXT_BYTES} by default, from ${TEXT_BYTES_MIN} to ${TEXT_BYTES_MAX}
  -i, --interval=SECONDS   between two rounds: 1 by default; 0 is none, as in rping
  -P, --persistent         serve one client after the other, and several at once
  -v, --verbose            show the texts
      --crc=on|off         ask for CRC32C, or do without; with other hosts only by default
      --help               display this help and exit

Examples:
  weft ping -s & weft ping -C 3 127.0.0.1
  rping -c -a 192.0.2.1 -C 3 -v       with 'weft ping -s' on 192.0.2.1
`;

/** What `weft ping` was asked to do. */
export interface PingOptions {
  isServer: boolean;
  hostname: string;
  port: number;
  count?: number;
  sizeBytes: number;
  intervalMs: number;
  isPersistent: boolean;
  isVerbose: boolean;
  crc?: boolean;
}

/** Reads the arguments. `undefined`: the help is asked for. Throws {@linkcode UsageError}. */
export function parsePingArguments(args: readonly string[]): PingOptions | undefined {
  const parsed = parseArgs(args, {
    boolean: ["server", "client", "persistent", "verbose", "help"],
    string: ["_", "address", "port", "count", "size", "interval", "crc"],
    alias: {
      server: "s",
      client: "c", // rping's: said by the operand here
      address: "a",
      port: "p",
      count: "C",
      size: "S",
      interval: "i",
      persistent: "P",
      verbose: "v",
    },
    unknown: (argument, key) => {
      if (key === undefined) return true;
      throw new UsageError(`unrecognized option '${argument}'`);
    },
  });
  if (parsed.help) return undefined;
  const [host, ...more] = [...parsed._.map(String), ...(parsed.address === undefined ? [] : [parsed.address])];
  if (more.length > 0) throw new UsageError(`'${more[0]}' is a second address`);
  if (host === "") throw new UsageError("the host's name is empty");
  if (parsed.server && parsed.client) throw new UsageError("--server and --client exclude each other");
  if (!parsed.server && host === undefined) throw new UsageError("name the server's host, or be it with --server");
  const { port, count, size, interval, crc } = parsed;
  return {
    isServer: parsed.server,
    hostname: host ?? "0.0.0.0",
    port: port === undefined ? DEFAULT_PORT : parseInteger("port", port, { min: parsed.server ? 0 : 1, max: 65535 }),
    count: count === undefined ? undefined : parseInteger("number of rounds", count, { min: 1, max: COUNT_MAX }),
    sizeBytes: size === undefined ? TEXT_BYTES : parseSize("size", size, { min: TEXT_BYTES_MIN, max: TEXT_BYTES_MAX }),
    intervalMs: 1000 *
      (interval === undefined ? 1 : parseSeconds("interval", interval, { min: 0, max: INTERVAL_MAX_S })),
    isPersistent: parsed.persistent,
    isVerbose: parsed.verbose,
    crc: crc === undefined ? undefined : parseSwitch("value of --crc", crc),
  };
}

/** Runs either end, as the arguments say. */
export async function ping(args: readonly string[], io: CommandIo): Promise<void> {
  const options = parsePingArguments(args);
  if (options === undefined) return io.write(PING_HELP);
  await (options.isServer ? serve(options, io) : call(options, io));
}

async function serve(options: PingOptions, io: CommandIo): Promise<void> {
  const { hostname, isVerbose } = options;
  await rpingServer({
    ...options,
    signal: io.signal,
    onListening: (port) =>
      io.say(`waiting for ${options.isPersistent ? "clients" : "a client"} on ${hostname}:${port}`),
    onConnected: (peer) => io.say(`client ${peer.remoteAddress}:${peer.remotePort}`),
    // a peer's text goes to a terminal: no control characters
    onRound: (text) => isVerbose && io.write(`server ping data: ${text.replace(/\p{Cc}/gu, "?")}\n`),
    onGone: (peer, rounds, error) => {
      const how = error instanceof Error ? `: ${error.message}` : "";
      io.say(`client ${peer.remoteAddress}:${peer.remotePort} has gone after ${rounds} rounds${how}`);
    },
  });
}

async function call(options: PingOptions, io: CommandIo): Promise<void> {
  const { hostname, port, sizeBytes, isVerbose } = options;
  let sum = 0;
  let squares = 0;
  let [min, max, rounds] = [Infinity, 0, 0];
  try {
    await rpingClient({
      ...options,
      signal: io.signal,
      onConnected: ({ crc }) =>
        io.write(`PING ${hostname}:${port} by RDMA: ${sizeBytes} bytes, CRC ${crc ? "on" : "off"}\n`),
      onRound: (text, micros) => {
        io.write(`${sizeBytes} bytes from ${hostname}: round=${rounds} time=${micros.toFixed(1)} us\n`);
        if (isVerbose) io.write(`ping data: ${text}\n`);
        rounds++;
        sum += micros;
        squares += micros * micros;
        min = Math.min(min, micros);
        max = Math.max(max, micros);
      },
    });
  } finally {
    if (rounds > 0) {
      const mean = sum / rounds;
      const deviation = Math.sqrt(Math.max(0, squares / rounds - mean * mean));
      const figures = [min, mean, max, deviation].map((micros) => micros.toFixed(1)).join("/");
      io.write(`--- ${hostname} ping statistics ---\n${rounds} rounds, min/avg/max/mdev = ${figures} us\n`);
    }
  }
}
