/**
 * librdmacm's `rping`, both ends: the client sends a text that the server fetches by RDMA Read and puts back by RDMA Write.
 *
 * ```sh
 * deno run -A rdma/examples/rping.ts -s -a 127.0.0.1 -p 7174 -C 3
 * deno run -A rdma/examples/rping.ts -c -a 127.0.0.1 -p 7174 -C 3
 * ```
 *
 * One round, as in rping.c: the client advertises its text (Send), the server reads it and says so (RDMA Read, Send), the client advertises
 * where it wants it (Send), the server writes it there and says so (RDMA Write, Send). Every Send is an advertisement of 16 bytes:
 * address, key and length, big-endian.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { Access, Device, type MemoryRegion, type QueuePair } from "../mod.ts";

/** Bytes of an advertisement. */
const INFO_BYTES = 16;
/** Bytes of a text, its NUL included: rping's default. */
const TEXT_BYTES = 64;

/** What an advertisement says. */
interface Advertisement {
  stag: number;
  address: bigint;
  length: number;
}

/** Where an end runs, and for how long. */
export interface RpingOptions {
  hostname: string;
  port: number;
  /** Rounds. */
  count: number;
  /** Called with the text of each round. */
  onRound?: (text: string) => void;
}

/** Makes `count` rounds with a server. Throws when a text comes back changed. */
export async function rpingClient(options: RpingOptions): Promise<void> {
  await using device = Device.open();
  using pd = device.allocateProtectionDomain();
  using text = pd.allocate(TEXT_BYTES, Access.RemoteRead);
  using back = pd.allocate(TEXT_BYTES, Access.RemoteWrite);
  await using queuePair = await device.connect({ hostname: options.hostname, port: options.port, pd });
  using messages = new Messages(queuePair, pd.allocate(2 * INFO_BYTES));

  for (let round = 0; round < options.count; round++) {
    fillText(text.bytes, round);
    back.bytes.fill(0);
    const hasRead = messages.receive();
    await messages.advertise(text);
    await hasRead;
    const hasWritten = messages.receive();
    await messages.advertise(back);
    await hasWritten;
    if (text.bytes.some((byte, at) => byte !== back.bytes[at])) {
      throw new Error(`round ${round}: the text came back changed`);
    }
    options.onRound?.(textOf(back.bytes));
  }
}

/** Serves one client for `count` rounds. `onListening` gets the port, of use where `port` is 0. */
export async function rpingServer(options: RpingOptions & { onListening?: (port: number) => void }): Promise<void> {
  await using device = Device.open();
  using pd = device.allocateProtectionDomain();
  const { promise, resolve, reject } = Promise.withResolvers<QueuePair>();
  using buffer = pd.allocate(2 * INFO_BYTES);
  let messages: Messages | undefined;
  let first: Promise<Advertisement> | undefined;
  await using listener = device.listen({
    hostname: options.hostname,
    port: options.port,
    onRequest: (request) => {
      // the first message may come right behind the connection, so its receive is posted before
      const onReady = (queuePair: QueuePair) => {
        messages = new Messages(queuePair, buffer);
        first = messages.receive();
      };
      request.accept({ pd, onReady }).then(resolve, reject);
    },
  });
  options.onListening?.(listener.port);
  await using queuePair = await promise;
  using text = pd.allocate(TEXT_BYTES);

  let next = first!;
  for (let round = 0; round < options.count; round++) {
    const source = await next;
    const length = Math.min(source.length, TEXT_BYTES);
    await queuePair.read([{ region: text, offset: 0, length }], source);
    next = messages!.receive();
    await messages!.advertise();
    const sink = await next;
    await queuePair.write([{ region: text, offset: 0, length: Math.min(sink.length, length) }], sink);
    if (round < options.count - 1) next = messages!.receive();
    await messages!.advertise();
    options.onRound?.(textOf(text.bytes));
  }
  await queuePair.closed; // the client ends the connection
}

/** The 16-byte Sends of one connection: a receive and a send buffer. */
class Messages implements Disposable {
  readonly #view: DataView<ArrayBufferLike>;

  constructor(readonly queuePair: QueuePair, readonly region: MemoryRegion) {
    this.#view = new DataView(region.bytes.buffer, region.bytes.byteOffset, region.byteLength);
  }

  /** Resolves with the next message. Called before the peer can send it. */
  async receive(): Promise<Advertisement> {
    const { byteLength } = await this.queuePair.recv([{ region: this.region, offset: 0, length: INFO_BYTES }]);
    if (byteLength !== INFO_BYTES) throw new Error(`a message of ${byteLength} bytes instead of ${INFO_BYTES}`);
    return { address: this.#view.getBigUint64(0), stag: this.#view.getUint32(8), length: this.#view.getUint32(12) };
  }

  /** Sends where a region is; without one, just a go-ahead. */
  advertise(region?: MemoryRegion): Promise<void> {
    this.#view.setBigUint64(INFO_BYTES, region?.address ?? 0n);
    this.#view.setUint32(INFO_BYTES + 8, region?.stag ?? 0);
    this.#view.setUint32(INFO_BYTES + 12, region?.byteLength ?? 0);
    return this.queuePair.send([{ region: this.region, offset: INFO_BYTES, length: INFO_BYTES }]);
  }

  [Symbol.dispose](): void {
    this.region[Symbol.dispose]();
  }
}

/** `rdma-ping-0: ABCDEFG…`, NUL-terminated, starting one letter later each round. */
function fillText(bytes: Uint8Array, round: number): void {
  const head = new TextEncoder().encode(`rdma-ping-${round}: `);
  bytes.set(head);
  for (let at = head.length; at < bytes.length; at++) bytes[at] = 65 + (round + at - head.length) % 58;
  bytes[bytes.length - 1] = 0;
}

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.slice(0, end < 0 ? undefined : end));
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { boolean: ["s", "c", "v"], string: ["a", "p", "C"] });
  const options = {
    hostname: args.a ?? (args.s ? "0.0.0.0" : "127.0.0.1"),
    port: Number(args.p ?? 7174),
    count: Number(args.C ?? 1),
    onRound: (text: string) => args.v && console.log(`ping data: ${text}`),
  };
  if (args.s === args.c) {
    console.error("usage: rping.ts -s|-c [-a ADDRESS] [-p PORT] [-C COUNT] [-v]");
    Deno.exit(2);
  }
  if (args.s) await rpingServer({ ...options, onListening: (port) => console.log(`listening on port ${port}`) });
  else await rpingClient(options);
}
