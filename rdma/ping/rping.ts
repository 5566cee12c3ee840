/**
 * librdmacm's `rping`, both ends: the client has a text that the server fetches by RDMA Read and puts back by RDMA Write.
 *
 * One round, as in rping.c: the client advertises its text (Send), the server reads it and says so (RDMA Read, Send), the client advertises
 * where it wants it (Send), the server writes it there and says so (RDMA Write, Send). Every Send is an advertisement.
 *
 * @module
 */
import { ADVERTISEMENT_BYTES, decodeAdvertisement, encodeAdvertisement, RemoteBuffer } from "../advertisement.ts";
import { CommandError } from "../command_line.ts";
import { Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import { Access, type MemoryRegion } from "../memory_region.ts";
import type { ProtectionDomain } from "../protection_domain.ts";
import type { QueuePair } from "../queue_pair.ts";

/** A message that is just a go-ahead. */
const GO_AHEAD = new RemoteBuffer({ stag: 0, address: 0n, byteLength: 0 });
/** Bytes of a text, its NUL included: rping's default, and its bounds. */
export const TEXT_BYTES = 64;
/** The shortest text. */
export const TEXT_BYTES_MIN = 32;
/** The longest text. */
export const TEXT_BYTES_MAX = 65536;
/** How long the client's round that is under way when the signal comes may take to its end, ms. */
const GRACE_MS = 500;

/** What both ends may be told. */
export interface RpingOptions {
  hostname: string;
  port: number;
  /** Rounds; without it as many as there are until the client or the signal ends it. */
  count?: number;
  /** Called with the text of each round, and what the round took, µs. */
  onRound?: (text: string, micros: number) => void;
  /** Ends it: orderly, between two rounds, unless the other end does not answer. */
  signal?: AbortSignal;
}

/** What a client may be told. */
export interface RpingClientOptions extends RpingOptions {
  /** Bytes of the text. */
  sizeBytes?: number;
  /** Pause between rounds, ms. */
  intervalMs?: number;
  /** Whether to ask for CRCs. */
  crc?: boolean;
  /** Called when it is connected. */
  onConnected?: (queuePair: QueuePair) => void;
}

/** Makes rounds with a server. Throws when a text comes back changed, or the server goes. */
export async function rpingClient(options: RpingClientOptions): Promise<void> {
  const { hostname, port, crc, signal, count = Infinity, sizeBytes = TEXT_BYTES } = options;
  await using device = Device.open();
  using pd = device.allocateProtectionDomain();
  using text = pd.allocate(sizeBytes, Access.RemoteRead);
  using back = pd.allocate(sizeBytes, Access.RemoteWrite);
  await using queuePair = await device.connect({ hostname, port, pd, crc, signal });
  using messages = new Messages(queuePair, pd);
  options.onConnected?.(queuePair);

  let timer: ReturnType<typeof setTimeout> | undefined;
  let isGivenUp = false;
  const giveUp = () => {
    isGivenUp = true;
    queuePair.abort();
  };
  const limitRound = () => timer = setTimeout(giveUp, GRACE_MS);
  signal?.addEventListener("abort", limitRound, { once: true });
  try {
    for (let round = 0; round < count && !signal?.aborted; round++) {
      if (round > 0) await pause(options.intervalMs ?? 0, signal);
      if (signal?.aborted) break;
      fillText(text.bytes, round);
      back.bytes.fill(0);
      const started = performance.now();
      await messages.ask(text); // until it is read
      await messages.ask(back); // until it is written
      const micros = (performance.now() - started) * 1000;
      if (text.bytes.some((byte, at) => byte !== back.bytes[at])) {
        throw new CommandError(`round ${round}: the text came back changed`);
      }
      options.onRound?.(textOf(back.bytes), micros);
    }
  } catch (error) {
    if (!isGivenUp) throw error; // else the signal has ended it
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", limitRound);
  }
}

/** What a server may be told. */
export interface RpingServerOptions extends RpingOptions {
  /** Go on with other clients, also several at once, until the signal. Default: serve one and return. */
  isPersistent?: boolean;
  /** Called with the port, of use where `port` is 0. */
  onListening?: (port: number) => void;
  /** Called when a client has come. */
  onConnected?: (queuePair: QueuePair) => void;
  /** Called when a client has gone, with the rounds that it made, and the error that ended it. */
  onGone?: (queuePair: QueuePair, rounds: number, error: unknown) => void;
}

/** Serves a client for `count` rounds, or until it ends; or many. Throws what the one client was ended by, or `onRound` has thrown. */
export async function rpingServer(options: RpingServerOptions): Promise<void> {
  const { hostname, port, signal } = options;
  await using device = Device.open();
  const finished = Promise.withResolvers<void>();
  const abort = () => finished.resolve();
  signal?.addEventListener("abort", abort, { once: true });
  const onRound = (text: string, micros: number) => {
    try {
      options.onRound?.(text, micros);
    } catch (error) {
      finished.reject(error); // no client's doing: it ends the server
    }
  };
  let isTaken = false;
  await using listener = device.listen({
    hostname,
    port,
    onRequest: (request) => {
      if (isTaken && !options.isPersistent) return request.reject();
      isTaken = true;
      const pd = device.allocateProtectionDomain();
      const onReady = (queuePair: QueuePair) => {
        const messages = new Messages(queuePair, pd);
        const served = serveRounds({ ...options, onRound }, messages).finally(() => pd[Symbol.dispose]());
        if (!options.isPersistent) served.then(finished.resolve, finished.reject);
        else served.catch(() => {}); // told by onGone
      };
      request.accept({ pd, onReady }).catch((error) => options.isPersistent || finished.reject(error));
    },
  });
  options.onListening?.(listener.port);
  if (signal?.aborted) return;
  await finished.promise;
  signal?.removeEventListener("abort", abort);
}

/** Answers a client's rounds. Called before anything can arrive: the first message may come right behind the connection. */
async function serveRounds(
  { count = Infinity, onRound, onConnected, onGone }: RpingServerOptions,
  messages: Messages,
): Promise<void> {
  const { queuePair, pd } = messages;
  const text = pd.allocate(TEXT_BYTES_MAX);
  let rounds = 0;
  let next = messages.receive();
  onConnected?.(queuePair);
  try {
    while (rounds < count) {
      const source = await next;
      const started = performance.now();
      const length = Math.min(source.byteLength, TEXT_BYTES_MAX);
      await queuePair.read([text.sge(0, length)], source);
      const sink = await messages.ask();
      await queuePair.write([text.sge(0, Math.min(sink.byteLength, length))], sink);
      if (++rounds < count) next = messages.receive();
      await messages.advertise();
      onRound?.(textOf(text.bytes.subarray(0, length)), (performance.now() - started) * 1000);
    }
    await queuePair.closed; // the client ends the connection
    onGone?.(queuePair, rounds, undefined);
  } catch (caught) {
    const isEnded = caught instanceof RdmaError && (caught.code === "Flushed" || caught.code === "Closed");
    queuePair.abort();
    const error = isEnded ? await queuePair.closed : caught;
    onGone?.(queuePair, rounds, error);
    if (error !== undefined) throw error;
    if (count !== Infinity) throw new RdmaError("Closed", { message: `the client has gone after ${rounds} rounds` });
  }
}

/** The advertisements that one connection exchanges: a receive and a send buffer. */
class Messages implements Disposable {
  readonly #region: MemoryRegion;

  constructor(readonly queuePair: QueuePair, readonly pd: ProtectionDomain) {
    this.#region = pd.allocate(2 * ADVERTISEMENT_BYTES);
  }

  /** Resolves with the next message. Called before the peer can send it. */
  receive(): Promise<RemoteBuffer> {
    const message = this.#receive();
    message.catch(() => {}); // where a Send in between tells that the connection has ended, nobody waits for this any more
    return message;
  }

  async #receive(): Promise<RemoteBuffer> {
    const { byteLength } = await this.queuePair.recv([this.#region.sge(0, ADVERTISEMENT_BYTES)]);
    const message = decodeAdvertisement(this.#region.bytes.subarray(0, byteLength));
    if (message !== undefined) return message;
    throw new CommandError(
      `the other end is no rping: it sent a message of ${byteLength} bytes, not of ${ADVERTISEMENT_BYTES}`,
    );
  }

  /** Sends where a region is, or a go-ahead, and resolves with the answer. */
  async ask(memory?: MemoryRegion): Promise<RemoteBuffer> {
    const answer = this.receive();
    await this.advertise(memory);
    return await answer;
  }

  /** Sends where a region is; without one, just a go-ahead. */
  advertise(memory: MemoryRegion | RemoteBuffer = GO_AHEAD): Promise<void> {
    this.#region.bytes.set(encodeAdvertisement(memory), ADVERTISEMENT_BYTES);
    return this.queuePair.send([this.#region.sge(ADVERTISEMENT_BYTES)]);
  }

  [Symbol.dispose](): void {
    this.#region[Symbol.dispose]();
  }
}

/** `rdma-ping-0: ABCDEFG…`, NUL-terminated, starting one letter later each round. */
function fillText(bytes: Uint8Array, round: number): void {
  const head = new TextEncoder().encode(`rdma-ping-${round}: `);
  bytes.set(head.subarray(0, bytes.length));
  for (let at = head.length; at < bytes.length; at++) bytes[at] = 65 + (round + at - head.length) % 58;
  bytes[bytes.length - 1] = 0;
}

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.slice(0, end < 0 ? undefined : end));
}

/** Waits; shorter where the signal is aborted meanwhile. */
async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (ms === 0) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const abort = () => resolve();
  signal?.addEventListener("abort", abort, { once: true });
  await promise;
  clearTimeout(timer);
  signal?.removeEventListener("abort", abort);
}
