/**
 * Completion queues: completions of one or many queue pairs, to be polled.
 *
 * @module
 */
import type { WorkCompletion } from "./connection.ts";
import type { Device } from "./device.ts";
import { check, RdmaError } from "./errors.ts";
import type { QueuePair, WorkRequest } from "./queue_pair.ts";

/** Completions that a queue holds unless told otherwise. */
const DEPTH = 4096;

/** Completions that moderation may have wait: as many as wake in any case. */
const MODERATION_COUNT_MAX = 2048;
/** The longest that it may have them wait, milliseconds. */
const MODERATION_PERIOD_MAX_MS = 60_000;

/** When a sleeping JavaScript is woken for completions of a queue. */
export interface Moderation {
  /** For so many, up to 2048; 0 or 1: for each. */
  count: number;
  /** Or when the first of fewer has waited for so long, milliseconds up to 60,000. */
  periodMs: number;
}

/** Choices for a completion queue. */
export interface CompletionQueueOptions {
  /** How many completions it holds; one more is an overflow, which `poll` throws. */
  depth?: number;
  /**
   * Receives of queue pairs that are made with this queue wake a sleeping JavaScript only where the peer asked for it by Solicited Event, or they fail (RFC 5040
   * §5.3). The others are there at the next wake-up, `poll`, or when many have come.
   */
  solicitedOnly?: boolean;
  /** As {@linkcode CompletionQueue.moderate} takes it. */
  moderation?: Moderation;
}

/** A completion, and whose it is. */
export interface QueuedCompletion extends WorkCompletion {
  /** What the work request was given as its `id`. */
  id: unknown;
  /** What was done. */
  opcode: WorkRequest["opcode"] | "receive";
  /** By which queue pair. */
  queuePair: QueuePair;
}

/** Collects completions of the queue pairs that were made with it, in the order in which they happened. */
export class CompletionQueue {
  /** How many completions it holds. */
  readonly depth: number;
  /** Whether only solicited receives wake JavaScript. */
  readonly solicitedOnly: boolean;
  /** The device that it belongs to. */
  readonly device: Device;
  readonly #number: number;
  #moderation: Moderation = { count: 0, periodMs: 0 };
  #entries: QueuedCompletion[] = [];
  #overflowed = false;
  readonly #waiters = new Set<PromiseWithResolvers<void>>();

  /** Use {@linkcode Device.createCompletionQueue}. */
  constructor(device: Device, number: number, options: CompletionQueueOptions) {
    const { depth = DEPTH, solicitedOnly = false, moderation } = options;
    if (!Number.isSafeInteger(depth) || depth < 1) throw new RangeError("the depth must be a positive integer");
    this.device = device;
    this.#number = number;
    this.depth = depth;
    this.solicitedOnly = solicitedOnly;
    if (moderation !== undefined) this.moderate(moderation);
  }

  /**
   * Has a sleeping JavaScript woken for several completions of this queue at once, or for fewer after a time; `undefined`: for each, as at first. It is for completions of
   * queue pairs that were made with this queue, with a callback, too. What fails or ends wakes at once, as completions of other queues and events do, and whatever
   * wakes brings all that there are. What is awake sees them at once.
   */
  moderate(moderation: Moderation | undefined): void {
    const { count, periodMs } = moderation ?? { count: 0, periodMs: 0 };
    const isPossible = Number.isInteger(count) && count >= 0 && count <= MODERATION_COUNT_MAX &&
      periodMs >= 0 && periodMs <= MODERATION_PERIOD_MAX_MS;
    if (!isPossible) throw new RangeError("moderation: a count up to 2048, and a period up to 60,000 ms");
    const { native, handle } = this.device.usable();
    this.#moderation = { count, periodMs };
    check(native.weft_moderate(handle, ...this.terms));
    this.device.kick(); // what has been waiting by other terms waits no longer
  }

  /** Its number and moderation, as the engine takes them. For the device. */
  get terms(): [number: number, count: number, periodUs: number] {
    const { count, periodMs } = this.#moderation;
    return [this.#number, count, Math.ceil(periodMs * 1000)];
  }

  /** Adds a completion. For queue pairs. */
  push(completion: QueuedCompletion): void {
    if (this.#entries.length < this.depth) this.#entries.push(completion);
    else if (!this.#overflowed) {
      this.#overflowed = true;
      this.device.tell({ type: "completionQueueError", completionQueue: this });
    }
    for (const { resolve } of this.#waiters) resolve();
  }

  /** Nothing will come any more. For the device. */
  deviceClosed(): void {
    for (const { reject } of this.#waiters) reject(closedError());
  }

  /**
   * Makes progress and takes up to `max` completions, without waiting.
   *
   * @throws {RdmaError} `Exhausted` where completions were lost because the queue was full; the queue is of no use after that
   */
  poll(max = this.depth): QueuedCompletion[] {
    if (this.#entries.length === 0 && this.device.open) this.device.progress();
    if (this.#overflowed) {
      throw new RdmaError("Exhausted", { message: `the completion queue of ${this.depth} overflowed` });
    }
    if (this.#entries.length <= max) {
      const all = this.#entries;
      this.#entries = [];
      return all;
    }
    return this.#entries.splice(0, max);
  }

  /** Resolves when there is a completion to poll. Rejects with the signal's reason, or an `RdmaError` `Closed` where the device is closed. */
  async wait(options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#entries.length > 0 || this.#overflowed) return;
    if (!this.device.open) throw closedError();
    this.device.kick();
    const waiter = Promise.withResolvers<void>();
    const abort = () => waiter.reject(signal!.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#waiters.add(waiter);
    this.device.trackAwaited(this, true);
    try {
      await waiter.promise;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#waiters.delete(waiter);
      this.device.trackAwaited(this, this.#waiters.size > 0);
    }
  }
}

function closedError(): RdmaError {
  return new RdmaError("Closed", { message: "the device is closed" });
}
