/**
 * Half a round trip of a small message, by Send and by RDMA Write.
 *
 * ```sh
 * deno run -A rdma/examples/ping_pong.ts --listen 127.0.0.1:7175
 * deno run -A rdma/examples/ping_pong.ts 127.0.0.1:7175 --size 64 --rounds 10000
 * ```
 *
 * By Send, each end answers a message in the callback of its receive. By Write there is no message: each end writes a number behind the payload into the other's
 * memory, and looks at its own until it changes; `device.progress()` is what lets the bytes in.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import {
  Access,
  ADVERTISEMENT_BYTES,
  decodeAdvertisement,
  Device,
  encodeAdvertisement,
  type MemoryRegion,
  type QueuePair,
  type RemoteMemory,
} from "../mod.ts";

/** Private data of either end: where its memory is, and how many rounds there are to be. */
const HELLO_BYTES = ADVERTISEMENT_BYTES + 4;
/** Behind the payload of a Write: its number. */
const NUMBER_BYTES = 4;
/** The largest payload. */
const PAYLOAD_BYTES_MAX = 1 << 20;
/** The greatest number of rounds that private data has room for. */
const ROUNDS_MAX = 2 ** 32 - 1;

/** What is to be measured. */
export interface PingPongOptions {
  hostname: string;
  port: number;
  /** Bytes of each message. */
  size: number;
  /** Round trips of each kind. */
  rounds: number;
}

/** Microseconds of half a round trip. */
export interface Latency {
  p50: number;
  p99: number;
}

/** One end: memory that holds what comes in front of what goes out. */
class End implements Disposable {
  /** Incoming payload, behind it the number of the last message. */
  readonly inbox: MemoryRegion;
  readonly outbox: MemoryRegion;
  readonly #arrived: DataView;
  readonly #leaving: DataView;

  constructor(device: Device, readonly size: number) {
    const pd = device.allocateProtectionDomain();
    this.inbox = pd.allocate(size + NUMBER_BYTES, Access.RemoteWrite);
    this.outbox = pd.allocate(size + NUMBER_BYTES);
    this.#arrived = new DataView(this.inbox.bytes.buffer);
    this.#leaving = new DataView(this.outbox.bytes.buffer);
  }

  get pd(): MemoryRegion["pd"] {
    return this.inbox.pd;
  }

  /** What the peer has to know. */
  hello(rounds: number): Uint8Array {
    const hello = new Uint8Array(HELLO_BYTES);
    hello.set(encodeAdvertisement(this.inbox));
    new DataView(hello.buffer).setUint32(ADVERTISEMENT_BYTES, rounds);
    return hello;
  }

  /** The number of the last message that was written here. */
  get arrived(): number {
    return this.#arrived.getUint32(this.size, true);
  }

  /** Puts a message into the peer's memory: one Write, whose last bytes are the number. */
  write(queuePair: QueuePair, remote: RemoteMemory, number: number): void {
    this.#leaving.setUint32(this.size, number, true);
    queuePair.postSend({ opcode: "write", local: [this.outbox.sge()], remote });
    queuePair.device.progress();
  }

  [Symbol.dispose](): void {
    this.pd[Symbol.dispose]();
  }
}

function readHello(bytes: Uint8Array): { remote: RemoteMemory; size: number; rounds: number } | undefined {
  const remote = decodeAdvertisement(bytes);
  if (remote === undefined || bytes.byteLength !== HELLO_BYTES || remote.byteLength < NUMBER_BYTES) return undefined;
  const rounds = new DataView(bytes.buffer, bytes.byteOffset).getUint32(ADVERTISEMENT_BYTES);
  return { remote, size: remote.byteLength - NUMBER_BYTES, rounds };
}

/** Looks until the message of this number has been written here, or the connection has ended. */
async function written(end: End, queuePair: QueuePair, number: number): Promise<void> {
  for (let looks = 0; end.arrived !== number; looks++) {
    if (queuePair.isClosed) throw new Error("the peer has gone");
    queuePair.device.progress();
    // now and then the event loop gets its turn
    if (looks % 1000 === 999) await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

/**
 * Measures with a server.
 *
 * @throws {RangeError} for a size or a number of rounds that there cannot be
 */
export async function pingPong(options: PingPongOptions): Promise<{ send: Latency; write: Latency }> {
  const { size, rounds } = options;
  if (!(Number.isInteger(size) && size >= 0 && size <= PAYLOAD_BYTES_MAX)) {
    throw new RangeError(`a message has at most ${PAYLOAD_BYTES_MAX} bytes`);
  }
  if (!(Number.isInteger(rounds) && rounds >= 1 && rounds <= ROUNDS_MAX)) {
    throw new RangeError(`there are 1 to ${ROUNDS_MAX} rounds`);
  }
  await using device = Device.open();
  using end = new End(device, size);
  await using queuePair = await device.connect({ ...options, pd: end.pd, privateData: end.hello(rounds) });
  const hello = readHello(queuePair.privateData);
  if (hello === undefined) throw new Error("the peer is no ping_pong");
  const { remote } = hello;

  const sends: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    const back = queuePair.recv([end.inbox.sge()]);
    queuePair.postSend({ opcode: "send", local: [end.outbox.sge()] });
    await back;
    sends.push(performance.now() - begun);
  }

  const writes: number[] = [];
  for (let number = 1; number <= rounds; number++) {
    const begun = performance.now();
    end.write(queuePair, remote, number);
    await written(end, queuePair, number);
    writes.push(performance.now() - begun);
  }
  return { send: summary(sends), write: summary(writes) };
}

function summary(roundTripsMs: number[]): Latency {
  const sorted = roundTripsMs.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] * 1000 / 2;
  return { p50: at(0.5), p99: at(0.99) };
}

/** Serves clients until the signal aborts. `onListening` gets the port, of use where `port` is 0. */
export async function pingPongServer(
  options: { hostname: string; port: number; signal: AbortSignal; onListening?: (port: number) => void },
): Promise<void> {
  await using device = Device.open();
  const listener = device.listen({
    hostname: options.hostname,
    port: options.port,
    onRequest: (request) => {
      const hello = readHello(request.privateData);
      if (hello === undefined || hello.size > PAYLOAD_BYTES_MAX) return request.reject();
      const { remote, size, rounds } = hello;
      const end = new End(device, size);
      const onReady = (queuePair: QueuePair) => {
        let left = rounds;
        const answer = (): void => {
          if (left-- === 0) {
            writeBack(end, queuePair, remote, rounds).catch(() => queuePair.abort());
            return;
          }
          queuePair.postRecv([end.inbox.sge()], ({ status }) => {
            if (status !== "success") return;
            const message = { opcode: "send", local: [end.outbox.sge()] } as const;
            // the next receive is there before the client can answer
            answer();
            queuePair.postSend(message);
          });
        };
        answer();
        void queuePair.closed.then(() => end[Symbol.dispose]());
      };
      void request.accept({ pd: end.pd, privateData: end.hello(rounds), onReady });
    },
  });
  options.onListening?.(listener.port);
  await new Promise((resolve) => options.signal.addEventListener("abort", resolve, { once: true }));
}

async function writeBack(end: End, queuePair: QueuePair, remote: RemoteMemory, rounds: number): Promise<void> {
  end.inbox.bytes.fill(0); // of the Sends; the first Write comes only when the last answer is there
  for (let number = 1; number <= rounds; number++) {
    await written(end, queuePair, number);
    end.write(queuePair, remote, number);
  }
}

function address(text: string): { hostname: string; port: number } {
  const [, hostname, port] = text.match(/^(.*):(\d+)$/) ?? [];
  if (port === undefined) throw new RangeError(`${text} is not ADDRESS:PORT`);
  return { hostname, port: Number(port) };
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: ["listen", "size", "rounds"] });
  try {
    if (args.listen !== undefined) {
      const stop = new AbortController();
      Deno.addSignalListener("SIGINT", () => stop.abort());
      const onListening = (port: number) => console.log(`listening on port ${port}`);
      await pingPongServer({ ...address(args.listen), signal: stop.signal, onListening });
      Deno.exit(0);
    }
    if (args._.length !== 1) throw new RangeError("name one server");
    const size = Number(args.size ?? 64);
    const { send, write } = await pingPong({
      ...address(String(args._[0])),
      size,
      rounds: Number(args.rounds ?? 10_000),
    });
    for (const [name, { p50, p99 }] of Object.entries({ send, write })) {
      console.log(
        `${name.padEnd(5)} ${size} bytes: half a round trip p50 ${p50.toFixed(1)} µs, p99 ${p99.toFixed(1)} µs`,
      );
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    console.error(error.message);
    console.error("usage: ping_pong.ts ADDRESS:PORT [--size BYTES] [--rounds N] | --listen ADDRESS:PORT");
    Deno.exit(2);
  }
}
