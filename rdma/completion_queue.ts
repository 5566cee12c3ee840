/**
 * Completion queues: completions of one or many queue pairs, to be polled.
 *
 * @module
 */
import type { WorkCompletion } from "./connection.ts";
import type { Device } from "./device.ts";
import { RdmaError } from "./errors.ts";
import type { QueuePair, WorkRequest } from "./queue_pair.ts";

/** Completions that a queue holds unless told otherwise. */
const DEPTH = 4096;

/** Choices for a completion queue. */
export interface CompletionQueueOptions {
  /** How many completions it holds; one more is an overflow, which `poll` throws. */
  depth?: number;
  /**
   * Receives of queue pairs that are made with this queue wake a sleeping JavaScript only where the peer asked for it by Solicited Event, or they fail (RFC 5040
   * §5.3). The others are there at the next wake-up, `poll`, or when many have come.
   */
  solicitedOnly?: boolean;
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
  readonly #device: Device;
  #entries: QueuedCompletion[] = [];
  #overflowed = false;
  #waiters: (() => void)[] = [];

  /** Use {@linkcode Device.createCompletionQueue}. */
  constructor(device: Device, { depth = DEPTH, solicitedOnly = false }: CompletionQueueOptions) {
    if (!Number.isSafeInteger(depth) || depth < 1) throw new RangeError("the depth must be a positive integer");
    this.#device = device;
    this.depth = depth;
    this.solicitedOnly = solicitedOnly;
  }

  /** Adds a completion. For queue pairs. */
  push(completion: QueuedCompletion): void {
    if (this.#entries.length < this.depth) this.#entries.push(completion);
    else if (!this.#overflowed) {
      this.#overflowed = true;
      this.#device.tell({ type: "completionQueueError", completionQueue: this });
    }
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /**
   * Makes progress and takes up to `max` completions, without waiting.
   *
   * @throws {RdmaError} `Exhausted` where completions were lost because the queue was full; the queue is of no use after that
   */
  poll(max = this.depth): QueuedCompletion[] {
    if (this.#entries.length === 0 && this.#device.open) this.#device.progress();
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

  /** Resolves when there is a completion to poll. Rejects with the signal's reason. */
  async wait(options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#entries.length > 0 || this.#overflowed) return;
    this.#device.kick();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = () => reject(signal!.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#waiters.push(resolve);
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }
}
