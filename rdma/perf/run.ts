/**
 * One run of a measurement, at either end: its memory, its connections, and how it is driven.
 *
 * @module
 */
import { CommandError } from "../command_line.ts";
import type { WorkCompletion } from "../connection.ts";
import type { Device } from "../device.ts";
import type { Congestion } from "../listener.ts";
import { Access, type MemoryRegion } from "../memory_region.ts";
import type { ProtectionDomain } from "../protection_domain.ts";
import type { AtomicWork, QueuePair, RemoteMemory, Sge, WorkRequest } from "../queue_pair.ts";
import { Driver, type Measurable, type MeasurableLane } from "./driver.ts";
import { Marks } from "./marks.ts";
import { type Control, controlBytes, decodeControl, encodeControl } from "./messages.ts";
import type { Operation } from "./operation.ts";

/** What is measured, and how; the same at both ends. */
export interface RunSpec {
  operation: Operation;
  sizeBytes: number;
  connections: number;
  sendDepth: number;
  receiveDepth: number;
  /** 0: as many as there is room for. */
  list: number;
  moderation: number;
  mulpdu: number | "mss";
  congestion: Congestion;
  bidirectional: boolean;
  events: boolean;
  /** The atomic operation that is measured; the client's to know. */
  atomic?: AtomicWork["opcode"];
}

/** What a peer may do with what is sent, and with where things arrive. */
export const OUT_ACCESS = {
  write: Access.LocalOnly,
  read: Access.RemoteRead,
  send: Access.LocalOnly,
  atomic: Access.LocalOnly,
};
export const INTO_ACCESS = {
  write: Access.RemoteWrite,
  read: Access.LocalOnly,
  send: Access.LocalOnly,
  atomic: Access.RemoteAtomic,
};
/** The least that the system finds at once. */
const PAGE_BYTES = 4096;
/** Marks of Writes go from 1 to 255 and begin again. */
const MARKS = 255;
/** Memory of a connection's control messages: one to send, one received, and counts of received Sends on their way. */
const CONTROL_STRIDE = 256;
const CONTROL_OUT = 0;
const CONTROL_IN = 64;
const CREDIT_SOURCES = 128;
const CREDIT_SOURCE_COUNT = 16;
const CREDIT_STRIDE = 64;
/** Receives beyond those of measured Sends. */
const CONTROL_RECEIVES = 16;
/** Receives are posted again so many at a time: one for each message would be in the way of its answer. */
const RECEIVES_OWED = 8;

/** One end of a run. */
export class Run extends Driver implements Measurable, AsyncDisposable {
  readonly spec: RunSpec;
  readonly pd: ProtectionDomain;
  readonly lanes: readonly Lane[];
  readonly #out: MemoryRegion;
  readonly #into: MemoryRegion;
  readonly #control: MemoryRegion;
  readonly #credit: MemoryRegion;

  /** Allocates what the run needs, which costs next to nothing before {@linkcode fill}. `signal` ends it. */
  constructor(device: Device, spec: RunSpec, signal: AbortSignal) {
    super(device, { sleeps: spec.events, signal });
    this.spec = spec;
    this.pd = device.allocateProtectionDomain();
    const { verb } = spec.operation;
    const { connections } = spec;
    // A region of each length, so that what may arrive is no larger than what does: it decides how the engine receives.
    this.#out = this.pd.allocate(connections * spec.sizeBytes, OUT_ACCESS[verb]);
    this.#into = this.pd.allocate(connections * this.intoStride, INTO_ACCESS[verb]);
    this.#control = this.pd.allocate(connections * CONTROL_STRIDE);
    this.#credit = this.pd.allocate(connections * CREDIT_STRIDE, Access.RemoteWrite);
    this.lanes = Array.from({ length: connections }, (_, index) => new Lane(this, index));
  }

  /**
   * Has the system find its memory now, which is not what is measured. It may be gigabytes, so this is done when both ends are agreed on the run, and nobody
   * waits for an answer to a connection meanwhile.
   */
  fill(): void {
    this.#out.bytes.fill(0x5a);
    // an operation that changes nothing: the peer's first control message may be there, and not yet read
    const { bytes } = this.#into;
    for (let at = 0; at < bytes.byteLength; at += PAGE_BYTES) Atomics.or(bytes, at, 0);
  }

  /** From one connection's memory for what arrives to the next one's; a control message fits. */
  get intoStride(): number {
    return Math.max(this.spec.sizeBytes, CONTROL_IN);
  }

  /** What a connection sends, writes, or has read by the peer. */
  out(index: number): Sge {
    return { region: this.#out, offset: index * this.spec.sizeBytes, length: this.spec.sizeBytes };
  }
  /** Where a connection receives, reads to, or has written by the peer. */
  into(index: number, lengthBytes: number = this.spec.sizeBytes): Sge {
    return { region: this.#into, offset: index * this.intoStride, length: lengthBytes };
  }
  /** Memory for control messages. */
  control(index: number, offset: number, length: number): Sge {
    return { region: this.#control, offset: index * CONTROL_STRIDE + offset, length };
  }
  /** Where the peer counts what it has received. */
  credit(index: number): Sge {
    return { region: this.#credit, offset: index * CREDIT_STRIDE, length: 4 };
  }

  /** The marks of a ping-pong of Writes on the first connection; they go on where the last ones ended. */
  marks(): Marks {
    const [from, into] = [bytesOf(this.out(0)), bytesOf(this.into(0))];
    return new Marks(from, into, { next: (mark) => mark % MARKS + 1 });
  }

  /** Waits, asleep, until a connection has got a control message of this kind. Throws where it gets another one. */
  async hear<Kind extends Control["kind"]>(lane: Lane, ...kinds: Kind[]): Promise<Control & { kind: Kind }> {
    while (lane.heard === undefined) await this.change();
    const { heard } = lane;
    lane.heard = undefined;
    if (!(kinds as string[]).includes(heard.kind)) throw outOfStep();
    return heard as Control & { kind: Kind };
  }

  /** Ends its connections and gives its memory back. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { isOver } = this;
    this.finish();
    const ends = this.lanes.map(async ({ queuePair }) => {
      if (queuePair === undefined) return;
      if (isOver) return await queuePair.close();
      queuePair.abort();
      await queuePair.closed;
    });
    await Promise.all(ends);
    this.pd[Symbol.dispose]();
  }
}

/** One connection of a run. */
export class Lane implements MeasurableLane {
  readonly run: Run;
  readonly index: number;
  /** What it measures with. */
  readonly work: WorkRequest;
  /** The connection, once there is one. */
  queuePair: QueuePair | undefined;
  /** The control message that came last, until somebody takes it. */
  heard: Control | undefined;
  /** Measured Sends that have been posted. */
  sent = 0;
  /** Measured Sends that have come. */
  received = 0;
  /** Receives that have been filled and not been posted again. */
  #owed = 0;
  /** Called for each of them, before its receive is posted again. */
  onMessage: (() => void) | undefined;
  #toData: RemoteMemory = { stag: 0, address: 0n };
  #toCredit: RemoteMemory = { stag: 0, address: 0n };
  #told = 0;
  readonly #creditWord: Int32Array;
  readonly #receives: Sge[];
  readonly #controlBytes: number;
  readonly #creditSources: Int32Array;
  readonly #credits: Sge[][];
  #credit = 0;

  /** For the run. */
  constructor(run: Run, index: number) {
    this.run = run;
    this.index = index;
    const { operation: { verb }, sizeBytes, atomic = "fetchAdd" } = run.spec;
    this.#controlBytes = controlBytes(sizeBytes);
    const remote = this.#toData;
    this.work = verb === "send"
      ? { opcode: verb, local: [run.out(index)] }
      : verb === "write"
      ? { opcode: verb, local: [run.out(index)], remote }
      : verb === "read"
      ? { opcode: verb, local: [run.into(index)], remote }
      : { opcode: atomic, remote, add: 1n, swap: 1n, compare: 1n };
    this.#receives = [verb === "send" ? run.into(index, run.intoStride) : run.control(index, CONTROL_IN, CONTROL_IN)];
    this.#creditWord = wordsOf(run.credit(index));
    this.#creditSources = wordsOf(run.control(index, CREDIT_SOURCES, 4 * CREDIT_SOURCE_COUNT));
    this.#credits = Array.from(
      { length: CREDIT_SOURCE_COUNT },
      (_, i) => [run.control(index, CREDIT_SOURCES + 4 * i, 4)],
    );
  }

  /** What the peer is to know of this connection's memory. */
  get advertised(): { data: RemoteMemory; credit: RemoteMemory } {
    const { run, index } = this;
    return {
      data: place(run.spec.operation.verb === "read" ? run.out(index) : run.into(index)),
      credit: place(run.credit(index)),
    };
  }

  /** The connection is about to be there: posts its receives. */
  attach(queuePair: QueuePair): void {
    this.queuePair = queuePair;
    const { operation: { verb }, receiveDepth } = this.run.spec;
    const count = CONTROL_RECEIVES + (verb === "send" ? receiveDepth : 0);
    for (let i = 0; i < count; i++) queuePair.postRecv(this.#receives, this.#received);
    this.run.changed();
    queuePair.closed.then((error) => {
      this.run.fail(error ?? new CommandError("the other end has gone in the middle of a run"));
    });
  }

  /** What the peer told of its memory. */
  aim(remote: { data: RemoteMemory; credit: RemoteMemory }): void {
    Object.assign(this.#toData, remote.data);
    Object.assign(this.#toCredit, remote.credit);
  }

  /** How many Sends the peer has room for. */
  get roomAtPeer(): number {
    const taken = Atomics.load(this.#creditWord, 0);
    return this.run.spec.receiveDepth - ((this.sent - taken) | 0);
  }

  /** Sends a control message at once. There is one under way at a time: each is an answer to the peer's, or waits for one. */
  tell(control: Control): void {
    const { run, index } = this;
    const message = run.control(index, CONTROL_OUT, this.#controlBytes);
    encodeControl(control, bytesOf(message));
    this.queuePair!.postSend({ opcode: "send", local: [message] });
    this.queuePair!.flush();
  }

  #received = ({ status, byteLength }: WorkCompletion): void => {
    if (status !== "success") return; // the connection has ended, and tells why itself
    const { run } = this;
    if (byteLength === this.#controlBytes) {
      const [message] = this.#receives;
      const control = decodeControl(bytesOf({ ...message, length: byteLength }));
      if (control === undefined || this.heard !== undefined) return run.fail(outOfStep());
      this.heard = control;
    } else if (run.spec.operation.verb === "send" && byteLength === run.spec.sizeBytes) {
      this.received++;
      this.onMessage?.();
    } else if (byteLength > 0) { // else it wakes an end that sleeps
      return run.fail(outOfStep());
    }
    if (this.queuePair!.isClosed) return;
    // of a message back and forth, the answer tells as much
    const isToTell = run.spec.operation.measure === "bandwidth" &&
      this.received - this.#told >= run.spec.receiveDepth / 4;
    if (++this.#owed >= RECEIVES_OWED || isToTell) this.#postReceives();
    if (isToTell) this.#tellReceived();
    run.changed();
  };

  #postReceives(): void {
    for (; this.#owed > 0; this.#owed--) this.queuePair!.postRecv(this.#receives, this.#received);
  }

  /** Writes to the peer how many Sends have come and can be followed by others. */
  #tellReceived(): void {
    this.#told = this.received;
    const at = this.#credit++ % CREDIT_SOURCE_COUNT;
    this.#creditSources[at] = this.received;
    this.queuePair!.postSend({ opcode: "write", local: this.#credits[at], remote: this.#toCredit });
    if (this.run.spec.events) this.queuePair!.postSend({ opcode: "send", local: [] });
  }
}

/** The bytes of an element. */
export function bytesOf({ region, offset, length }: Sge): Uint8Array {
  return region.bytes.subarray(offset, offset + length);
}

/** An element as numbers of 32 bits in the machine's order. */
export function wordsOf({ region: { bytes }, offset, length }: Sge): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset + offset, length / 4);
}

function place({ region, offset }: Sge): RemoteMemory {
  return { stag: region.stag, address: region.address + BigInt(offset) };
}

function outOfStep(): CommandError {
  return new CommandError("the other end is out of step: is it of the same release?");
}
