/**
 * Streams of bytes from many senders into one pool of buffers: a shared receive queue.
 *
 * ```sh
 * deno run -A rdma/examples/streaming.ts collect 7182                           # prints what came from whom
 * deno run -A rdma/examples/streaming.ts send 127.0.0.1 7182 <somefile          # several at once
 * ```
 *
 * A Send needs a receive that the other end has posted; one that finds none ends its connection. A receiver that served every sender from a queue of its own would
 * have to keep buffers for each. With a shared queue there is one pool: whoever sends takes the next buffer, and when it has been consumed it goes back.
 *
 * That there are always enough is up to the program. Here every sender has *credit* for so many messages. What it has sent it may send again only when the collector
 * says that as much has been consumed, which also slows a sender down to the pace of the consumer. Credit comes back as Immediate Data: 8 bytes, no buffer.
 *
 * @module
 */
import {
  Device,
  type Listener,
  type MemoryRegion,
  type QueuePair,
  type RdmaError,
  type SharedReceiveQueue,
} from "../mod.ts";

/** The longest message. */
const MESSAGE_BYTES = 16 * 1024;
/** Messages that a sender may have on the way. */
const CREDIT = 8;
/** Credit is given back in portions, for fewer messages. */
const PORTION = CREDIT / 2;
/** Portions that may be on the way back: the sender has receives for so many. */
const PORTIONS_MAX = CREDIT / PORTION;

/** What becomes of what is received. */
export interface Consumer {
  /** Takes a piece of a sender's stream. Its memory is used again when the promise resolves, or the function returns. Throwing ends the connection. */
  onData(bytes: Uint8Array, sender: QueuePair): void | Promise<void>;
  /** A sender's stream has ended, with the error where it did not end well. */
  onEnd(error: unknown, sender: QueuePair): void;
}

interface SenderState {
  /** Ends when all that has come from it so far is consumed. */
  work: Promise<void>;
  /** Messages that were consumed. */
  consumed: number;
  /** Whether the consumer has thrown, and what. */
  isRefused: boolean;
  refusal: unknown;
}

/** The receiving end. */
export class Collector implements AsyncDisposable {
  readonly listener: Listener;
  readonly #memory: MemoryRegion;
  readonly #receives: SharedReceiveQueue;
  readonly #senders = new Map<QueuePair, SenderState>();

  constructor(readonly device: Device, readonly consumer: Consumer, options: { port: number; sendersMax?: number }) {
    const { port, sendersMax = 8 } = options;
    const pd = device.allocateProtectionDomain();
    const buffers = sendersMax * CREDIT;
    this.#memory = pd.allocate(buffers * MESSAGE_BYTES);
    this.#receives = device.createSharedReceiveQueue({ pd, depth: buffers });
    for (let buffer = 0; buffer < buffers; buffer++) this.#post(buffer);
    this.listener = device.listen({
      port,
      onRequest: (request) => {
        // what is taken on must not exceed the buffers
        if (this.#senders.size === sendersMax) return request.reject();
        void request.accept({ pd, receives: this.#receives, onReady: (sender) => this.#begin(sender) });
      },
    });
  }

  /** Puts a buffer into the queue; it comes back with a message of some sender's in it. */
  #post(buffer: number): void {
    const place = this.#memory.sge(buffer * MESSAGE_BYTES, MESSAGE_BYTES);
    this.#receives.postRecv([place], ({ status, byteLength }, sender) => {
      if (sender === undefined) return; // the queue was closed, and nobody had taken it
      const state = this.#senders.get(sender)!;
      const bytes = this.#memory.bytes.subarray(place.offset, place.offset + byteLength);
      // Messages of one sender are consumed one after the other, those of several as they come.
      state.work = state.work.then(async () => {
        try {
          if (status === "success" && !state.isRefused) await this.consumer.onData(bytes, sender);
        } catch (error) {
          [state.isRefused, state.refusal] = [true, error];
          sender.abort();
        }
        if (!this.#receives.live) return;
        this.#post(buffer);
        // Behind the buffer, for it is what the credit promises.
        if (++state.consumed % PORTION === 0 && !sender.isClosed) {
          sender.postSend({ opcode: "immediate", data: BigInt(PORTION) });
        }
      });
    });
  }

  #begin(sender: QueuePair): void {
    const state: SenderState = { work: Promise.resolve(), consumed: 0, isRefused: false, refusal: undefined };
    this.#senders.set(sender, state);
    sender.closed.then(async (error) => {
      await state.work; // all that came has been handed over by now, but may not have been consumed
      this.#senders.delete(sender);
      this.consumer.onEnd(state.isRefused ? state.refusal : error, sender);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
  }
}

/**
 * Sends a stream, and resolves when all of it has left.
 *
 * @throws {RdmaError} where the collector has no room for another sender (`Rejected`), or goes
 */
export async function sendStream(
  source: ReadableStream<Uint8Array>,
  collector: { hostname: string; port: number },
): Promise<void> {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const memory = pd.allocate(CREDIT * MESSAGE_BYTES);
  let credit = CREDIT;
  let wake = () => {};
  const receiveCredit = (queuePair: QueuePair): void => {
    queuePair.postRecv([], ({ immediate }) => { // nothing is received but the number
      credit += Number(immediate ?? 0n);
      wake(); // also where the connection has ended, and the receive with it
      if (!queuePair.isClosed) receiveCredit(queuePair);
    });
  };
  const onReady = (queuePair: QueuePair) => {
    for (let i = 0; i < PORTIONS_MAX; i++) receiveCredit(queuePair);
  };
  await using queuePair = await device.connect({ ...collector, pd, onReady });
  let messages = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.byteLength; at += MESSAGE_BYTES) {
      while (credit === 0 && !queuePair.isClosed) await new Promise<void>((resolve) => wake = resolve);
      if (queuePair.isClosed) throw await queuePair.closed ?? new Error("the collector has ended the connection");
      credit--;
      // With credit for a message, the one that was in this place so many messages ago has been consumed: its memory is free.
      const piece = chunk.subarray(at, at + MESSAGE_BYTES);
      const place = memory.sge(messages++ % CREDIT * MESSAGE_BYTES, piece.byteLength);
      memory.bytes.set(piece, place.offset);
      queuePair.postSend({ opcode: "send", local: [place] });
    }
  }
  // An orderly end, behind all that was sent.
  await queuePair.close();
  const error: RdmaError | undefined = await queuePair.closed;
  if (error !== undefined) throw error;
}

if (import.meta.main) {
  const [command, ...args] = Deno.args;
  if (command === "collect" && args.length === 1) {
    const received = new Map<QueuePair, number>();
    const collector = new Collector(Device.open(), {
      onData: ({ byteLength }, sender) => void received.set(sender, (received.get(sender) ?? 0) + byteLength),
      onEnd: (error, sender) => {
        const { remoteAddress, remotePort } = sender;
        console.log(
          `${remoteAddress}:${remotePort}: ${received.get(sender) ?? 0} bytes${error ? `, then ${error}` : ""}`,
        );
        received.delete(sender);
      },
    }, { port: Number(args[0]) });
    console.log(`listening on port ${collector.listener.port}`);
  } else if (command === "send" && args.length === 2) {
    await sendStream(Deno.stdin.readable, { hostname: args[0], port: Number(args[1]) });
  } else {
    console.error("usage: streaming.ts collect PORT | send ADDRESS PORT <FILE");
    Deno.exit(2);
  }
}
