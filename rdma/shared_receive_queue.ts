/**
 * Shared receive queues: receives that whichever of several queue pairs takes that gets a Send.
 *
 * @module
 */
import { EntryKind, SGES_MAX, WorkFlag, WorkOpcode } from "./_ffi/layout.ts";
import type { CompletionQueue } from "./completion_queue.ts";
import type { Completed, WorkCompletion } from "./connection.ts";
import type { Device } from "./device.ts";
import { check, codeOf, RdmaError, reportLater } from "./errors.ts";
import type { RingEntry } from "./pump.ts";
import type { ProtectionDomain } from "./protection_domain.ts";
import { checkElements, failure, type QueuePair, type Sge } from "./queue_pair.ts";
import { WORK_MAX } from "./work_queue.ts";

/** Receives that a queue holds unless told otherwise. */
const DEPTH = 1024;
const STATUS_CLOSED = -6;

/** Choices for a shared receive queue. */
export interface SharedReceiveQueueOptions {
  /** The domain of its memory, and of the queue pairs that use it. */
  pd: ProtectionDomain;
  /** How many receives may be outstanding; at most 16,384. */
  depth?: number;
  /** With fewer receives left than this, at the end of the turn that made the queue or later, `onLimit` is called, once; 0: never. */
  limit?: number;
  /** Few receives are left (`remaining`). It is called once; {@linkcode SharedReceiveQueue.arm} asks for another time. */
  onLimit?: (remaining: number) => void;
  /** Where completions go of receives that were posted with an `id` instead of a callback. */
  receiveQueue?: CompletionQueue;
}

/** Called once for a receive, with the queue pair that it was used by; `undefined` where no queue pair ever took it. */
export type Received = (completion: WorkCompletion, queuePair: QueuePair | undefined) => void;

interface Posted {
  done: Received;
  /** Its place in the order of posting, which is the one of taking. */
  number: number;
  /** Keeps memory alive until the work is done. */
  local: readonly Sge[];
}

/**
 * Receives for many queue pairs: each incoming Send takes the one that was posted first, when its first byte arrives. A Send that finds none ends its connection.
 *
 * Queue pairs are made with it by the option `receives` of {@linkcode Device.connect} and {@linkcode ConnectionRequest.accept}.
 */
export class SharedReceiveQueue implements Disposable {
  /** The domain of its memory. */
  readonly pd: ProtectionDomain;
  /** How many receives may be outstanding. */
  readonly depth: number;
  readonly #device: Device;
  readonly #tag: number;
  readonly #handle: number;
  /** Where completions go of receives that were posted with an `id`. */
  readonly receiveQueue: CompletionQueue | undefined;
  readonly #posted: (Posted | undefined)[] = [];
  readonly #free: number[] = [];
  /** Slots of what is not handed to the engine yet. */
  #waiting: number[] = [];
  #words: number[] = [];
  #users = 0;
  #count = 0;
  #live = true;
  #onLimit: ((remaining: number) => void) | undefined;
  /** The limit to arm behind the first receives: at once, the empty queue would use up the one call. */
  #limitAtFirst = 0;

  /** Use {@linkcode Device.createSharedReceiveQueue}. */
  constructor(device: Device, options: SharedReceiveQueueOptions) {
    const { pd, depth = DEPTH, limit = 0, onLimit, receiveQueue } = options;
    if (!Number.isInteger(depth) || depth < 1 || depth > WORK_MAX) {
      throw new RangeError(`the depth is a number from 1 to ${WORK_MAX}`);
    }
    if (pd.device !== device) throw new TypeError("the protection domain belongs to another device");
    this.#device = device;
    this.pd = pd;
    this.depth = depth;
    this.#checkLimit(limit); // before there is anything to be given back
    this.#onLimit = onLimit;
    this.receiveQueue = receiveQueue;
    this.#tag = device.reserve();
    const status = device.native.weft_shared_create(device.handle, depth, this.#tag, device.out);
    if (status < 0) device.unreserve(this.#tag);
    this.#handle = device.out[0];
    check(status);
    device.attachShared(this.#tag, this);
    if (limit === 0) return;
    this.#limitAtFirst = limit;
    device.dirty(this);
  }

  /** The engine's handle. */
  get handle(): number {
    return this.#handle;
  }

  /** Whether it can be used. */
  get live(): boolean {
    return this.#live;
  }

  /** How many receives are outstanding, those included that a Send is coming into. */
  get length(): number {
    return this.#posted.length - this.#free.length;
  }

  /**
   * Queues memory for one incoming Send, on whichever queue pair. It is handed to the engine at the end of the batch of completions, or the turn. Give a callback,
   * or an `id` that the completion in the queue's `receiveQueue` will carry.
   *
   * @throws {RdmaError} `Exhausted` where `depth` receives are outstanding
   */
  postRecv(local: readonly Sge[], done: Received | { id: unknown }): void {
    this.#usable();
    checkElements(local, this.pd);
    if (local.length > SGES_MAX) throw new RangeError(`at most ${SGES_MAX} elements`);
    if (this.length >= this.depth) throw new RdmaError("Exhausted", { message: "too many receives are outstanding" });
    const received = typeof done === "function" ? done : this.#toQueue(done.id);
    const slot = this.#free.pop() ?? this.#posted.length;
    this.#posted[slot] = { done: received, local, number: this.#count++ };
    if (this.#words.length === 0) this.#device.dirty(this);
    this.#waiting.push(slot);
    this.#words.push(WorkOpcode.Receive | WorkFlag.Signalled << 8 | local.length << 16, slot, 0, 0, 0, 0);
    for (const { region, offset, length } of local) {
      const address = region.addressNumber + offset;
      this.#words.push(region.stag, length, address >>> 0, (address / 2 ** 32) >>> 0);
    }
  }

  #toQueue(id: unknown): Received {
    const queue = this.receiveQueue;
    if (queue === undefined) throw new TypeError("the shared receive queue has no completion queue");
    return (completion, queuePair) => {
      if (queuePair !== undefined) queue.push({ ...completion, id, opcode: "receive", queuePair });
    };
  }

  /** Receives one Send. Rejects with `RdmaError` where the connection that took it ends first. */
  recv(local: readonly Sge[]): Promise<{ completion: WorkCompletion; queuePair: QueuePair }> {
    return new Promise((resolve, reject) => {
      this.postRecv(local, (completion, queuePair) => {
        if (completion.status === "success" && queuePair) resolve({ completion, queuePair });
        else reject(failure(completion.status));
      });
    });
  }

  /**
   * Asks for one call of `onLimit` as soon as fewer than `limit` receives are left, which may be so already; 0 for none. Another function may be given.
   */
  arm(limit: number, onLimit: ((remaining: number) => void) | undefined = this.#onLimit): void {
    this.#usable();
    this.#checkLimit(limit);
    this.#onLimit = onLimit;
    this.#limitAtFirst = 0;
    this.flush();
    check(this.#device.native.weft_shared_limit(this.#handle, limit));
    this.#device.kick();
  }

  /** Hands what was posted to the engine now. */
  flush(): void {
    if (this.#words.length > 0) this.#hand();
    if (this.#limitAtFirst > 0 && this.#live) this.arm(this.#limitAtFirst);
  }

  #hand(): void {
    const words = new Uint32Array(this.#words);
    const waiting = this.#waiting;
    this.#words = [];
    this.#waiting = [];
    const status = this.#live ? this.#device.native.weft_shared_post(this.#handle, words, words.length) : STATUS_CLOSED;
    if (status >= 0) return;
    const code = codeOf(status);
    for (const slot of waiting) this.#end(slot, { status: code === "Closed" ? "flushed" : code, byteLength: 0 });
  }

  #end(slot: number, completion: WorkCompletion): void {
    try {
      this.#take(slot)?.done(completion, undefined);
    } catch (error) {
      reportLater(error); // the others are to hear of theirs
    }
  }

  #take(slot: number): Posted | undefined {
    const posted = this.#posted[slot];
    if (posted === undefined) return undefined;
    this.#posted[slot] = undefined;
    this.#free.push(slot);
    return posted;
  }

  /** What is to be called for the receive of this number, which `queuePair` took. For the queue pair. */
  take(slot: number, queuePair: QueuePair): Completed | undefined {
    const posted = this.#take(slot);
    return posted && ((completion) => posted.done(completion, queuePair));
  }

  /** A queue pair begins to use it. For the queue pair. */
  attach(): void {
    this.#users++;
  }

  /** A queue pair has ended. For the queue pair. */
  detach(): void {
    if (--this.#users === 0 && !this.#live) this.#flushLast(this.length);
  }

  /**
   * Handles a ring entry of this queue. For the device.
   *
   * @internal
   */
  handleEntry(entry: RingEntry): void {
    if (entry.kind !== EntryKind.Limit) return;
    this.#device.tell({ type: "sharedReceiveQueueLimit", sharedReceiveQueue: this });
    this.#onLimit?.(entry.bytes);
  }

  /**
   * Ends it; what is posted completes as "flushed".
   *
   * @throws {TypeError} while a queue pair uses it
   */
  close(): void {
    if (this.#live && this.#users > 0) throw new TypeError(`${this.#users} queue pairs still use the shared queue`);
    this.#finish();
  }

  #finish(): void {
    if (!this.#live) return;
    this.flush();
    this.#live = false;
    const left = this.#device.open ? check(this.#device.native.weft_shared_close(this.#handle)) : 0;
    this.#device.releaseShared(this.#tag, this);
    // memory that a Send is coming into is not its owner's before the queue pair has done with it
    this.#flushLast(this.#users > 0 ? left : this.length);
  }

  /** Ends the receives that were posted last, in the order of posting. */
  #flushLast(count: number): void {
    const slots = [...this.#posted.keys()].filter((slot) => this.#posted[slot] !== undefined);
    slots.sort((a, b) => this.#posted[a]!.number - this.#posted[b]!.number);
    for (const slot of slots.slice(slots.length - count)) this.#end(slot, { status: "flushed", byteLength: 0 });
  }

  #checkLimit(limit: number): void {
    if (!Number.isInteger(limit) || limit < 0 || limit > this.depth) {
      throw new RangeError("the limit is a number from 0 to the depth");
    }
  }

  #usable(): void {
    if (!this.#live) throw new RdmaError("Closed", { message: "the shared receive queue is closed" });
  }

  /**
   * The same as {@linkcode close}, but for queue pairs that still use it: their next Send finds no receive. A receive that a Send is coming into completes with that
   * Send, or its connection.
   */
  [Symbol.dispose](): void {
    this.#finish();
  }
}
