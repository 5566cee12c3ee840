/**
 * Asynchronous events: what happens to queue pairs, shared receive queues, completion queues and listeners beside the completions of work.
 *
 * @module
 */
import type { CompletionQueue } from "./completion_queue.ts";
import type { RdmaError } from "./errors.ts";
import type { Listener } from "./listener.ts";
import type { QueuePair } from "./queue_pair.ts";
import type { SharedReceiveQueue } from "./shared_receive_queue.ts";

/** Events that a stream holds for who does not take them. */
const BACKLOG_MAX = 4096;

/**
 * What has happened, by the names of the verbs where they have one:
 *
 * - "communicationEstablished": the initiator's first message has come to an accepted queue pair, which is ready to send now.
 * - "sendQueueDrained": a queue pair has ended in order, and what was posted to its send queue is done.
 * - "queuePairFatal": it has ended otherwise; `error` tells why, unless this side aborted it.
 * - "accessError": it was ended because the peer named memory that it may not use.
 * - "requestError": it was ended because the peer broke the protocol.
 * - "localCatastrophic": it was ended by an internal error of the core.
 * - "lastWorkRequestReached": a queue pair with a shared receive queue has ended and takes no receive from that any more. It comes behind the event of the end.
 * - "sharedReceiveQueueLimit": fewer receives are left than the limit that was armed.
 * - "completionQueueError": a completion queue has overflowed.
 * - "portActive", "portError": a listener takes connections, or cannot for want of descriptors or room.
 * - "eventsLost": nobody took the events; `lost` of them are not there.
 */
export type AsyncEventType =
  | "communicationEstablished"
  | "sendQueueDrained"
  | "queuePairFatal"
  | "accessError"
  | "requestError"
  | "localCatastrophic"
  | "lastWorkRequestReached"
  | "sharedReceiveQueueLimit"
  | "completionQueueError"
  | "portActive"
  | "portError"
  | "eventsLost";

/** Something that happened, and to what. */
export interface AsyncEvent {
  /** What happened. */
  type: AsyncEventType;
  /** To which queue pair. */
  queuePair?: QueuePair;
  /** To which shared receive queue. */
  sharedReceiveQueue?: SharedReceiveQueue;
  /** To which completion queue. */
  completionQueue?: CompletionQueue;
  /** To which listener. */
  listener?: Listener;
  /** Why. */
  error?: RdmaError;
  /** How many events are missing here. */
  lost?: number;
}

/** The events of a device from the time on that the stream was made, in their order. It ends with the device, or by {@linkcode return}. */
export class AsyncEvents implements AsyncIterableIterator<AsyncEvent> {
  readonly #backlog: AsyncEvent[] = [];
  readonly #waiters: ((result: IteratorResult<AsyncEvent, undefined>) => void)[] = [];
  readonly #onEnd: () => void;
  #ended = false;

  /** Use {@linkcode Device.events}. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** Adds an event. For the device. */
  push(event: AsyncEvent): void {
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) return waiter({ done: false, value: event });
    const last = this.#backlog.at(-1);
    if (last?.type === "eventsLost") last.lost!++;
    else if (this.#backlog.length < BACKLOG_MAX) this.#backlog.push(event);
    else this.#backlog.push({ type: "eventsLost", lost: 1 });
  }

  /** The next event, which may be waited for. */
  next(): Promise<IteratorResult<AsyncEvent, undefined>> {
    const event = this.#backlog.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Takes no more events; those that have come may still be taken. */
  return(): Promise<IteratorResult<AsyncEvent, undefined>> {
    if (!this.#ended) {
      this.#ended = true;
      for (const waiter of this.#waiters.splice(0)) waiter({ done: true, value: undefined });
      this.#onEnd();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }
}
