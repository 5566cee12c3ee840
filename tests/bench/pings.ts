/**
 * Pings over a connection of the verbs, and questions in their place: what both ends of the benchmarks have in common.
 *
 * @module
 */
import type { MemoryRegion, ProtectionDomain, QueuePair } from "../../rdma/mod.ts";

/** Bytes of a ping. */
const PING_BYTES = 64;
/** Receives that each end keeps posted. */
const RECEIVES = 16;

/** A connection with receives posted, on which one ping at a time is under way. */
export class Pinger {
  readonly #region: MemoryRegion;
  #answered: ((slot: number) => void) | undefined;

  constructor(readonly queuePair: QueuePair, readonly pd: ProtectionDomain) {
    this.#region = pd.allocate((RECEIVES + 1) * PING_BYTES);
    for (let slot = 0; slot < RECEIVES; slot++) this.#receive(slot);
  }

  #receive(slot: number): void {
    const local = [{ region: this.#region, offset: slot * PING_BYTES, length: PING_BYTES }];
    this.queuePair.postRecv(local, ({ status }) => {
      if (status !== "success") return;
      this.#receive(slot);
      this.#answered?.(slot);
    });
  }

  /** Calls back when the echo is there. */
  ping(answered: (slot: number) => void, question = 0): void {
    this.#answered = answered;
    this.#region.bytes[RECEIVES * PING_BYTES] = question;
    this.queuePair.postSend({
      opcode: "send",
      local: [{ region: this.#region, offset: RECEIVES * PING_BYTES, length: PING_BYTES }],
    });
  }

  /** What the peer answers to a question, a number from 1. */
  async ask(question: number): Promise<DataView> {
    const slot = await new Promise<number>((resolve) => this.ping(resolve, question));
    return new DataView(this.#region.bytes.slice(slot * PING_BYTES, (slot + 1) * PING_BYTES).buffer);
  }

  /** Round trips one behind the other, µs; sorted. */
  pingInTurn(count: number): Promise<number[]> {
    const micros: number[] = [];
    return new Promise((resolve) => {
      let started = performance.now();
      const next = () => {
        const now = performance.now();
        micros.push((now - started) * 1000);
        if (micros.length === count) return resolve(micros.sort((a, b) => a - b));
        started = now;
        this.ping(next);
      };
      this.ping(next);
    });
  }
}

/** Sends every ping back from where it was received; in place of one that asks, what `answer` makes of its bytes. */
export function echo(
  queuePair: QueuePair,
  pd: ProtectionDomain,
  answer: (question: number, answer: DataView) => void,
): void {
  const region = pd.allocate(RECEIVES * PING_BYTES);
  const { bytes } = region;
  for (let slot = 0; slot < RECEIVES; slot++) {
    const offset = slot * PING_BYTES;
    const local = [{ region, offset, length: PING_BYTES }];
    const receive = () =>
      queuePair.postRecv(local, ({ status }) => {
        if (status !== "success") return;
        const question = bytes[offset];
        if (question !== 0) answer(question, new DataView(bytes.buffer, bytes.byteOffset + offset, PING_BYTES));
        queuePair.postSend({ opcode: "send", local }, (done) => {
          if (done.status === "success") receive();
        });
      });
    receive();
  }
}
