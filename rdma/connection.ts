/**
 * What queue pairs and streams have in common: posting work in batches, and getting its completions.
 *
 * @module
 */
import {
  ATOMIC_WORDS,
  CONNECTION_COUNTERS,
  EntryKind,
  FACTS_BYTES,
  SGE_WORDS,
  SGES_MAX,
  WORK_WORDS,
  WorkFlag,
  WorkOpcode,
} from "./_ffi/layout.ts";
import type { RingEntry } from "./pump.ts";
import type { Device } from "./device.ts";
import { check, codeOf, RdmaError, type RdmaErrorCode, reportLater, unpackTerminate } from "./errors.ts";
import type { QueuePair } from "./queue_pair.ts";
import type { SharedReceiveQueue } from "./shared_receive_queue.ts";
import { WORK_MAX, WorkQueue } from "./work_queue.ts";

/** Of work that nobody wants to hear of, every so many requests are signalled all the same, so that their places are free again. */
const SIGNAL_INTERVAL = 64;

/** How a work request can end. */
export type CompletionStatus = "success" | "flushed" | RdmaErrorCode;

/** The name of an engine status as completions have it. */
function completionStatus(status: number): CompletionStatus {
  return status === 0 ? "success" : status === STATUS_FLUSHED ? "flushed" : codeOf(status);
}

/** In the `detail` of a completion of the send queue: it is that of an atomic operation. */
const ATOMIC = 1;
const STATUS_CLOSED = -6;
const STATUS_FLUSHED = -7;

/** How a work request ended. */
export interface WorkCompletion {
  /** "success", "flushed" (the connection ended first), or the code of the error. */
  status: CompletionStatus;
  /** Bytes received, read, written or sent. */
  byteLength: number;
  /** The STag that the peer invalidated with its Send. */
  invalidatedStag?: number;
  /** What was there before an atomic operation. */
  original?: bigint;
  /** What the peer sent as Immediate Data, which took this receive. */
  immediate?: bigint;
}

/** Called once for a work request, when it is done. */
export type Completed = (completion: WorkCompletion) => void;

/** What a connection has done. Each number only grows. */
export type ConnectionCounters = Record<typeof CONNECTION_COUNTERS[number], number>;

/** What is known of an established connection. */
export interface ConnectionFacts {
  /** MPA revision; 0 of a plain TCP connection. */
  revision: number;
  /** Whether every FPDU carries a CRC. */
  crc: boolean;
  /** RDMA Reads of the peer's that are served at once (IRD). */
  inboundReadDepth: number;
  /** RDMA Reads of ours that are outstanding at once (ORD). */
  outboundReadDepth: number;
  /** Our address. */
  localAddress: string;
  /** Our port. */
  localPort: number;
  /** The peer's address. */
  remoteAddress: string;
  /** The peer's port. */
  remotePort: number;
  /** The peer's private data of the MPA start-up. */
  privateData: Uint8Array;
  /** The largest ULPDU that is sent, in bytes (RFC 5044 §4.5); 0 for a stream. */
  mulpdu: number;
  /** The name of TCP's congestion control. */
  congestion: string;
  /** Whether FPDUs that are sent have markers, which the peer asked for (RFC 5044 §4.3). */
  markersSent: boolean;
  /** Whether FPDUs that are received have markers, which this side asked for. */
  markersReceived: boolean;
}

/** Reads a connection's facts; `undefined` where there is no such connection any more. */
export function readFacts(device: Device, handle: number): ConnectionFacts | undefined {
  const bytes = new Uint8Array(FACTS_BYTES);
  if (device.native.weft_facts(handle, bytes) < 0) return undefined;
  const [revision, framing, ird, ord, localPort, remotePort, length, mulpdu] = new Uint32Array(bytes.buffer, 0, 8);
  const text = (at: number) => {
    const field = bytes.subarray(at, at + 64);
    const end = field.indexOf(0);
    return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  };
  return {
    revision,
    crc: (framing & 1) !== 0,
    markersSent: (framing & 2) !== 0,
    markersReceived: (framing & 4) !== 0,
    inboundReadDepth: ird,
    outboundReadDepth: ord,
    localAddress: text(32),
    localPort,
    remoteAddress: text(96),
    remotePort,
    privateData: bytes.slice(160, 160 + length),
    mulpdu,
    congestion: text(160 + 512),
  };
}

/** A value of 64 bits in an entry. */
function wide({ auxLow, auxHigh }: RingEntry): bigint {
  return BigInt(auxHigh) << 32n | BigInt(auxLow);
}

/**
 * Where a queue pair is in its life, by the names of the verbs:
 *
 * - "rtr", ready to receive: accepted, but the initiator's first message has not come (RFC 5044 §7.1.2). Receives may be posted and are filled; what is posted to
 *   the send queue waits.
 * - "rts", ready to send.
 * - "sqd", the send queue is being drained: after {@linkcode Connection.close}. What was posted is done, nothing can be posted any more.
 * - "err": it has failed, or was aborted. What was posted is flushed, nothing can be posted any more.
 * - "reset": it has ended in order. Nothing can be posted any more.
 */
export type QueuePairState = "rtr" | "rts" | "sqd" | "err" | "reset";

/** Base of {@linkcode QueuePair} and {@linkcode Stream}. */
export abstract class Connection implements AsyncDisposable {
  /** The device that it belongs to. */
  readonly device: Device;
  /** Resolves when it has ended and every completion was delivered: `undefined` for an orderly end, or where `abort` was called here, else why. Never rejects. */
  readonly closed: Promise<RdmaError | undefined>;
  /** Where its receives come from, unless they are posted to it. */
  readonly receives: SharedReceiveQueue | undefined;
  /** Its number in ring entries. */
  protected readonly tag: number;
  #handle: number;
  #resolveClosed: (error: RdmaError | undefined) => void;
  readonly #sends = new WorkQueue();
  readonly #receives = new WorkQueue();
  #words: Uint32Array<ArrayBuffer> = new Uint32Array(256);
  #used = 0;
  #ended = false;
  #closing = false;
  #aborted = false;
  #failed = false;
  /** Whether work that is posted leaves: the initiator's first FPDU has come, or we are the initiator. */
  #ready = false;
  #facts: ConnectionFacts | undefined;
  #counters: ConnectionCounters | undefined;

  /** For the device's use. */
  constructor(device: Device, tag: number, handle: number, receives?: SharedReceiveQueue) {
    this.device = device;
    this.tag = tag;
    this.#handle = handle;
    this.receives = receives;
    receives?.attach();
    const { promise, resolve } = Promise.withResolvers<RdmaError | undefined>();
    this.closed = promise;
    this.#resolveClosed = resolve;
  }

  /** The engine's handle. */
  get handle(): number {
    return this.#handle;
  }

  /** Facts of the established connection. */
  get facts(): ConnectionFacts {
    const facts = this.#facts ??= readFacts(this.device, this.#handle);
    if (facts === undefined) throw new RdmaError("Closed");
    return facts;
  }

  /** The peer's address. */
  get remoteAddress(): string {
    return this.facts.remoteAddress;
  }
  /** The peer's port. */
  get remotePort(): number {
    return this.facts.remotePort;
  }
  /** Our address. */
  get localAddress(): string {
    return this.facts.localAddress;
  }
  /** Our port. */
  get localPort(): number {
    return this.facts.localPort;
  }

  /** What it has done so far, or had done when it ended. */
  counters(): ConnectionCounters {
    if (this.#counters !== undefined) return { ...this.#counters };
    const values = new Float64Array(CONNECTION_COUNTERS.length);
    check(this.device.native.weft_connection_counters(this.#handle, values, values.length));
    return Object.fromEntries(CONNECTION_COUNTERS.map((name, i) => [name, values[i]])) as ConnectionCounters;
  }

  /** Where it is in its life, as {@linkcode QueuePairState} has it. */
  protected get phase(): QueuePairState {
    if (this.#aborted || this.#failed) return "err";
    if (this.#ended) return "reset";
    if (this.#closing) return "sqd";
    return this.#ready ? "rts" : "rtr";
  }

  /** Whether work can no longer be posted. */
  get isClosed(): boolean {
    return this.#ended || this.#closing;
  }

  /**
   * Begins a work request; `sge` follows `count` times, and nothing may throw in between: what was begun is in the queue. Work without the flag `Signalled` is
   * reported only when it fails or is flushed.
   */
  protected begin(
    opcode: number,
    flags: number,
    count: number,
    done: Completed | undefined,
    memory: unknown,
    stag = 0,
    address = 0n,
    invalidate = 0,
  ): void {
    if (this.isClosed) throw this.closedError();
    if (count > SGES_MAX) throw new RangeError(`at most ${SGES_MAX} elements`);
    // two divisions are cheaper than arithmetic of bigints
    const offset = Number(address);
    const isShort = offset >= 0 && offset <= Number.MAX_SAFE_INTEGER;
    const low = isShort ? offset >>> 0 : Number(address & 0xffff_ffffn);
    const high = isShort ? (offset / 2 ** 32) >>> 0 : Number(address >> 32n);
    const queue = opcode === WorkOpcode.Receive ? this.#receives : this.#sends;
    if (queue.length >= WORK_MAX) throw new RdmaError("Exhausted", { message: "too much work is outstanding" });
    const need = this.#used + WORK_WORDS + count * SGE_WORDS + ATOMIC_WORDS;
    if (need > this.#words.length) this.#grow(need);
    const slot = queue.push(done, memory);
    if (slot % SIGNAL_INTERVAL === 0) flags |= WorkFlag.Signalled;
    if (this.#used === 0) this.device.dirty(this);
    const words = this.#words;
    let at = this.#used;
    words[at++] = opcode | (flags << 8) | (count << 16);
    words[at++] = slot;
    words[at++] = stag;
    words[at++] = invalidate;
    words[at++] = low;
    words[at++] = high;
    this.#used = at;
  }

  /** Why nothing can be posted. */
  protected closedError(): RdmaError {
    return new RdmaError("Closed", { message: `the connection is closed, in the state "${this.phase}"` });
  }

  /** Appends bytes to the work request that was begun with as many elements, and the flag `Inline`. */
  protected payload(bytes: Uint8Array): void {
    new Uint8Array(this.#words.buffer).set(bytes, this.#used * Uint32Array.BYTES_PER_ELEMENT);
    this.#used += Math.ceil(bytes.byteLength / Uint32Array.BYTES_PER_ELEMENT);
  }

  /** Appends an element to the work request that was begun. */
  protected sge(stag: number, address: number, lengthBytes: number): void {
    const words = this.#words;
    let at = this.#used;
    words[at++] = stag;
    words[at++] = lengthBytes;
    words[at++] = address >>> 0;
    words[at++] = (address / 2 ** 32) >>> 0;
    this.#used = at;
  }

  /** Appends the operands of the atomic operation that was begun. */
  protected operands(values: readonly bigint[]): void {
    for (const value of values) {
      this.#words[this.#used++] = Number(value & 0xffff_ffffn);
      this.#words[this.#used++] = Number(value >> 32n & 0xffff_ffffn);
    }
  }

  #grow(need: number): void {
    const words = new Uint32Array(Math.max(need, this.#words.length * 2));
    words.set(this.#words.subarray(0, this.#used));
    this.#words = words;
  }

  /** Hands what was posted to the engine now, instead of at the end of the batch of completions or the turn. */
  flush(): void {
    const count = this.#used;
    if (count === 0) return;
    this.#used = 0;
    const status = this.#ended ? STATUS_CLOSED : this.device.native.weft_post(this.#handle, this.#words, count);
    // Where the connection has ended natively, the work waits for the entries of what was posted before it, and is flushed behind them.
    if (status === STATUS_CLOSED) return;
    if (status < 0) return this.#recall({ status: codeOf(status), byteLength: 0 });
    if (this.#sends.hand()) this.device.expectAnswer();
    this.#receives.hand();
  }

  /** Ends the work that the engine did not take, or all there is. */
  #recall(completion: WorkCompletion, andHanded = false): void {
    for (const done of [...this.#sends.recall(andHanded), ...this.#receives.recall(andHanded)]) {
      try {
        done({ ...completion });
      } catch (error) {
        reportLater(error); // as in a batch of the pump's: the others are to hear of theirs
      }
    }
  }

  /**
   * Handles a ring entry of this connection. For the device.
   *
   * @internal
   */
  handleEntry(entry: RingEntry): void {
    switch (entry.kind) {
      case EntryKind.Send:
      case EntryKind.Receive: {
        const isSend = entry.kind === EntryKind.Send;
        this.heard ||= !isSend;
        const done = isSend ? this.#sends.take(entry.slot) : this.#takeReceive(entry.slot);
        if (done === undefined) break;
        const completion: WorkCompletion = {
          status: completionStatus(entry.status),
          byteLength: entry.bytes,
          invalidatedStag: isSend || entry.detail === 0 ? undefined : entry.detail,
        };
        if (isSend && entry.detail === ATOMIC) completion.original = wide(entry);
        done(completion);
        break;
      }
      case EntryKind.Immediate:
        this.heard = true;
        this.#takeReceive(entry.slot)?.({ status: "success", byteLength: 0, immediate: wide(entry) });
        break;
      case EntryKind.Established:
        this.#ready = true;
        this.established?.(undefined);
        break;
      case EntryKind.Ready:
        this.#ready = true;
        this.onReadyToSend();
        break;
      case EntryKind.Closed:
        this.#handleClosed(entry);
        break;
    }
  }

  #takeReceive(slot: number): Completed | undefined {
    const { receives } = this;
    // only queue pairs have a shared queue
    return receives === undefined ? this.#receives.take(slot) : receives.take(slot, this as unknown as QueuePair);
  }

  /** The initiator's first message has come. */
  protected onReadyToSend(): void {}

  /** It has ended, everything is flushed, and `closed` is about to resolve; a connection that was never established has no such end. */
  protected onEnd(_error: RdmaError | undefined): void {}

  /** Whether the peer has sent anything that took a receive. */
  protected heard = false;

  /** Set while a connect waits for its outcome. */
  established: ((error: RdmaError | undefined) => void) | undefined;

  #handleClosed(entry: RingEntry): void {
    if (this.#ended) return;
    const code = codeOf(entry.status);
    let error: RdmaError | undefined;
    if (code !== "Ok" && !(code === "Aborted" && this.#closing)) {
      const privateData = code === "Rejected" ? readFacts(this.device, this.#handle)?.privateData : undefined;
      error = new RdmaError(code, { terminate: unpackTerminate(entry.detail), privateData });
    }
    this.#end(error ?? undefined, code);
  }

  #end(error: RdmaError | undefined, code: RdmaErrorCode): void {
    // The facts outlive the handle: a peer's address is asked for after its connection.
    this.#facts ??= readFacts(this.device, this.#handle);
    this.#counters = this.counters();
    this.#ended = true;
    this.#failed = error !== undefined;
    this.flush();
    // an engine that panicked may have flushed a part only
    this.#recall({ status: "flushed", byteLength: 0 }, code === "Panic");
    this.device.release(this.tag, this.#handle);
    this.receives?.detach();
    if (this.established === undefined) this.onEnd(error);
    this.established?.(error ?? new RdmaError(code === "Ok" ? "Closed" : code));
    this.#resolveClosed(error);
  }

  /**
   * Begins to receive, once `onReady` or else the code that waits for the connection had its chance to post receives. For the device.
   */
  start(onReady: boolean): void {
    if (onReady) this.flush();
    const start = () => {
      if (this.#ended) return;
      this.device.native.weft_start(this.#handle);
      // what had come already is in the ring now
      this.device.kick();
    };
    if (onReady) start();
    else setTimeout(start, 0);
  }

  /**
   * Does what is queued, then ends the connection. Resolves when it has ended and every completion was delivered. What the peer asks for once nothing
   * of our own is left is not answered. It waits while work of its own gets on: 10 seconds in which none is finished, and less than 64 KiB move, end it as `TimedOut`.
   */
  async close(): Promise<void> {
    if (!this.isClosed) {
      this.flush();
      this.#closing = true;
      this.device.native.weft_close(this.#handle);
      this.device.kick();
    }
    await this.closed;
  }

  /** Ends the connection at once, with a reset. Outstanding work completes as "Flushed". */
  abort(): void {
    if (this.#ended) return;
    this.flush();
    this.#closing = true;
    this.#aborted = true;
    this.device.native.weft_abort(this.#handle);
    this.device.kick();
  }

  /** The same as {@linkcode close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
