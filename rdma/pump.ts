/**
 * The pump between the engine's completion ring and JavaScript: it polls while there is work, and sleeps when there is none, at first in the core and later on
 * a pipe.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Socket } from "node:net";
import { RING_ENTRY_WORDS, RING_HEAD_WORD, RING_HEADER_WORDS } from "./_ffi/layout.ts";
import type { Native } from "./_ffi/library.ts";
import { check, reportLater } from "./errors.ts";

/** One entry of the ring, reused for every call. */
export interface RingEntry {
  tag: number;
  kind: number;
  status: number;
  /** The number of a work request, as a signed integer. */
  slot: number;
  bytes: number;
  detail: number;
  /** A handle. */
  aux: number;
  /** The same field as two words, for values of 64 bits. */
  auxLow: number;
  auxHigh: number;
}

/** How the pump trades latency for idle time. */
export interface PollingOptions {
  /** Native spinning within one poll, nanoseconds; at most a millisecond, for nothing else of this thread runs meanwhile. */
  spinNs?: number;
  /** How long to go on polling after the last completion before going to sleep, microseconds. 0: sleep at once. */
  hotUs?: number;
  /**
   * How long to sleep in the core for an answer, once for what was sent, after polling and before going to sleep in the event loop, microseconds.
   * Needs no processor time and wakes 10 µs a side sooner, but nothing else of this thread runs meanwhile; where answers take longer it is tried only
   * now and then. 0: not at all. The default is 100 where it does not poll (`hotUs` is 0) and this is the only device of its thread, else 0. But unless it is 0 or
   * there are other devices, the first 100 ms of waiting altogether are slept in the core by any device, 100 µs between two turns of the event loop.
   */
  waitUs?: number;
}

/** Spinning in one poll: shorter than a turn of the event loop costs other users of it. */
const SPIN_NS = 2_000;
/** Polling after the last completion: about the time that two wake-ups take. */
const HOT_US = 60;

/** Sleeping in the core for an answer: longer than one takes that comes at once, short beside a turn of a busy event loop. */
const WAIT_US = 100;

/**
 * How much waiting is slept in the core before there is a pipe, milliseconds altogether: to load what reads it takes 10 ms of processor time, which a program that
 * is done sooner is spared.
 */
const PIPELESS_MS = 100;

/** Of 2 to this power answers one is waited for, where none came at once. */
const FRUITLESS_MAX = 6;

/** The most that may be asked for as `spinNs`, */
const SPIN_NS_MAX = 1_000_000;
/** and as `waitUs`. */
const WAIT_US_MAX = 1_000_000;

/** The longest sleep that one call can be asked for, microseconds: more than an hour. */
const SLEEP_US_MAX = 0xffff_ffff;

/** Room for bytes that wake: one each time. */
const WAKE_BYTES = 64;

/** Devices of this thread: who sleeps for one of several keeps the others waiting. */
let pumps = 0;

/** Throws `RangeError` for what cannot be done. */
export function checkPolling({ spinNs = 0, hotUs = 0, waitUs = 0 }: PollingOptions): void {
  const isPossible = spinNs >= 0 && spinNs <= SPIN_NS_MAX && hotUs >= 0 && waitUs >= 0 && waitUs <= WAIT_US_MAX;
  if (!isPossible) {
    throw new RangeError(`polling: spinNs from 0 to ${SPIN_NS_MAX}, hotUs from 0, waitUs from 0 to ${WAIT_US_MAX}`);
  }
}

/** Polls the ring of one device and hands its entries on, many for one wake-up. */
export class Pump {
  readonly #native: Native;
  readonly #handle: number;
  readonly #words: Int32Array;
  readonly #mask: number;
  /** What the event loop sleeps on: the pipe, once it is open. */
  #socket: Socket | undefined;
  #opening = false;
  /** What is left of `PIPELESS_MS`. */
  #pipelessMs = PIPELESS_MS;
  readonly #handler: (entry: RingEntry) => void;
  readonly #batchEnd: () => void;
  readonly #entry: RingEntry = {
    tag: 0,
    kind: 0,
    status: 0,
    slot: 0,
    bytes: 0,
    detail: 0,
    aux: 0,
    auxLow: 0,
    auxHigh: 0,
  };
  readonly #spinNs: number;
  readonly #hotMs: number;
  /** `undefined`: as is usual. */
  readonly #waitUs: number | undefined;
  #scheduled = false;
  #closed = false;
  #hotUntil = 0;
  /** Since the last turn, by who may do so without looking at the clock. */
  #wasPolled = false;
  /** Something was sent since the last sleep in the core. */
  #expectsAnswer = false;
  /** Sleeps in the core in a row that brought nothing, */
  #fruitless = 0;
  /** and how many are passed by for that. */
  #passed = 0;
  #users = 0;
  #poll = () => this.#turn();

  /**
   * @param native the engine  @param options the device's handle and ring, and where entries go: `handler` for each,
   * `batchEnd` after the last of a batch
   */
  constructor(
    native: Native,
    options: {
      handle: number;
      ringAddress: number;
      ringBytes: number;
      polling?: PollingOptions;
      handler: (entry: RingEntry) => void;
      batchEnd: () => void;
    },
  ) {
    this.#native = native;
    this.#handle = options.handle;
    this.#handler = options.handler;
    this.#batchEnd = options.batchEnd;
    this.#spinNs = Math.ceil(options.polling?.spinNs ?? SPIN_NS);
    this.#hotMs = (options.polling?.hotUs ?? HOT_US) / 1000;
    const waitUs = options.polling?.waitUs;
    this.#waitUs = waitUs === undefined ? undefined : Math.ceil(waitUs);
    const pointer = Deno.UnsafePointer.create(BigInt(options.ringAddress))!;
    this.#words = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(pointer, options.ringBytes));
    this.#mask = (this.#words.length - RING_HEADER_WORDS) / RING_ENTRY_WORDS - 1;
    pumps++;
  }

  /** Has the pump poll soon, and for a while: work was posted. */
  kick(): void {
    if (this.#closed) return;
    this.#hotUntil = performance.now() + this.#hotMs;
    this.#schedule();
  }

  /** Has the pump sleep in the core for a while before it goes to sleep in the event loop: a peer may answer soon. */
  expectAnswer(): void {
    this.#expectsAnswer = true;
  }

  /** Counts something alive that the event loop is to wait for. Entries come as long as there is such. */
  ref(): void {
    if (this.#users++ > 0) return;
    if (this.#socket === undefined) this.#schedule();
    else this.#socket.ref();
  }

  /** Undoes one {@linkcode ref}. */
  unref(): void {
    if (--this.#users === 0) this.#socket?.unref();
  }

  /** Stops the pump. The ring must not be touched any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    pumps--;
    this.#socket?.destroy();
  }

  /** Takes every entry that is ready. Spins for at most `spinNs` nanoseconds until there is one, or payload has moved. Returns how many there were. */
  poll(spinNs: number): number {
    return this.#closed ? 0 : this.#take(this.#native.weft_progress(this.#handle, Math.ceil(spinNs)));
  }

  /** The same, asleep for at most `waitUs` microseconds until there is one. */
  wait(waitUs: number): number {
    const micros = Math.min(Math.ceil(waitUs), SLEEP_US_MAX);
    return this.#closed ? 0 : this.#take(this.#native.weft_wait(this.#handle, micros));
  }

  #take(ready: number): number {
    if (ready > 0) this.#dispatch(ready);
    // who polls is not told of what comes later, unless a turn arms the channel again
    this.#wasPolled = true;
    this.#schedule();
    return ready > 0 ? ready : 0;
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(this.#poll);
  }

  #turn(): void {
    this.#scheduled = false;
    if (this.#closed) return;
    if (this.#wasPolled) {
      this.#wasPolled = false;
      this.#hotUntil = performance.now() + this.#hotMs;
    }
    let ready = this.#native.weft_progress(this.#handle, this.#spinNs);
    if (ready <= 0 && performance.now() < this.#hotUntil) return this.#schedule();
    if (ready <= 0) ready = this.#socket === undefined ? this.#sleepWithoutPipe() : this.#awaitAnswer();
    if (ready <= 0) return this.#rest();
    this.#dispatch(ready);
    if (this.#closed) return;
    this.#hotUntil = performance.now() + this.#hotMs;
    this.#schedule();
  }

  /** Sleeps in the core; the more seldom, the longer answers have not come at once. Returns how many entries are ready. */
  #awaitAnswer(): number {
    if (!this.#expectsAnswer) return 0;
    this.#expectsAnswer = false;
    const waitUs = this.#waitUs ?? (this.#hotMs === 0 && pumps === 1 ? WAIT_US : 0);
    if (waitUs === 0 || this.#passed++ < (1 << this.#fruitless) - 1) return 0;
    this.#passed = 0;
    const ready = this.#native.weft_wait(this.#handle, waitUs);
    this.#fruitless = ready > 0 ? 0 : Math.min(this.#fruitless + 1, FRUITLESS_MAX);
    return ready;
  }

  /** Sleeps in the core where that may still be. Returns how many entries are ready. */
  #sleepWithoutPipe(): number {
    if (this.#users === 0 || this.#opening) return 0;
    if (this.#pipelessMs <= 0 || this.#waitUs === 0 || pumps > 1) {
      void this.#openPipe();
      return 0;
    }
    const began = performance.now();
    const ready = this.#native.weft_wait(this.#handle, WAIT_US);
    this.#pipelessMs -= performance.now() - began;
    return ready;
  }

  /** Nothing is ready: goes to sleep in the event loop, or takes another turn while there is no pipe to wake it. */
  #rest(): void {
    if (this.#socket !== undefined) return this.#arm();
    if (this.#users > 0) this.#schedule();
  }

  #arm(): void {
    if (this.#native.weft_arm(this.#handle) === 1) this.#schedule();
  }

  async #openPipe(): Promise<void> {
    this.#opening = true;
    const { Socket } = await import("node:net");
    if (this.#closed) return;
    const fd = check(this.#native.weft_channel(this.#handle));
    const wake = () => {
      if (!this.#scheduled) this.#turn();
      return true;
    };
    // `onread` passes the stream's buffers by: a wake-up costs 10 µs less
    this.#socket = new Socket({ fd, onread: { buffer: new Uint8Array(WAKE_BYTES), callback: wake } });
    if (this.#users === 0) this.#socket.unref();
    this.#socket.on("error", () => {});
    this.#socket.resume();
    this.#schedule(); // and arm
  }

  #dispatch(ready: number): void {
    const words = this.#words;
    const entry = this.#entry;
    let head = words[RING_HEAD_WORD];
    const end = (head + ready) | 0;
    try {
      while (head !== end) {
        const at = RING_HEADER_WORDS + (head & this.#mask) * RING_ENTRY_WORDS;
        entry.tag = words[at] >>> 0;
        entry.kind = words[at + 1];
        entry.status = words[at + 2];
        entry.slot = words[at + 3];
        entry.bytes = words[at + 4] >>> 0;
        entry.detail = words[at + 5] >>> 0;
        entry.auxLow = words[at + 6] >>> 0;
        entry.auxHigh = words[at + 7] >>> 0;
        entry.aux = entry.auxLow + entry.auxHigh * 2 ** 32;
        head = (head + 1) | 0;
        // given back before the handler runs: a handler that throws must not see the entry again
        Atomics.store(words, RING_HEAD_WORD, head);
        try {
          this.#handler(entry);
        } catch (error) {
          // a completion's consumer is to blame, not the queue; the rest of the batch goes on
          reportLater(error);
        }
        // where the handler polled, the rest of the batch has been handled
        if (this.#closed || words[RING_HEAD_WORD] !== head) return;
      }
    } finally {
      if (!this.#closed) this.#batchEnd();
    }
  }
}
