/**
 * What perftest measures: one connection, its memory, and the credits of its Sends.
 *
 * @module
 */
import { CommandError } from "../../command_line.ts";
import type { WorkCompletion } from "../../connection.ts";
import type { Device } from "../../device.ts";
import { Access, type MemoryRegion } from "../../memory_region.ts";
import type { ProtectionDomain } from "../../protection_domain.ts";
import type { QueuePair, RemoteMemory, WorkRequest } from "../../queue_pair.ts";
import { Driver, type Measurable, type MeasurableLane } from "../driver.ts";
import { Marks } from "../marks.ts";
import type { PerfOptions } from "../options.ts";
import { INTO_ACCESS, OUT_ACCESS, wordsOf } from "../run.ts";
import type { Destination } from "./messages.ts";

/** Marks of Writes are the low bits of their number, from 1. */
const MARK_MASK = 0xff;
/** What perftest's server of Writes and Reads says that it serves. */
const READ_DEPTH = 16;
/** Counts of received Sends that are on their way at once. */
const CREDITS = 16;
const CREDIT_BYTES = 4;
/** How long a peer may take to end the connection that it has to end. */
const PARTING_MS = 2000;
/** Of so many Sends that there is room for, a quarter is told at a time. */
const CREDITS_PER_WINDOW = 4;

/** One end of perftest's measurements, of every size in turn. */
export class PerftestRun extends Driver implements Measurable, MeasurableLane, AsyncDisposable {
  readonly spec: PerfOptions & { list: number };
  /** Messages of a row; 0: as many as there is time for. */
  readonly iterations: number;
  readonly pd: ProtectionDomain;
  readonly run: this = this;
  readonly lanes: readonly this[] = [this];
  work: WorkRequest = { opcode: "send", local: [] };
  queuePair: QueuePair | undefined;
  sent = 0;
  /** Measured Sends of this row that have come. */
  received = 0;
  onMessage: (() => void) | undefined;
  /** Only the last words are missing, behind which either end may close its connections. */
  isEnding = false;
  #sizeBytes = 0;
  #out: MemoryRegion | undefined;
  #into: MemoryRegion | undefined;
  /** The peer's count of what it has received, and our own ones for it: words in the machine's order, which is how perftest counts. */
  readonly #taken: MemoryRegion;
  readonly #takenWord: Int32Array;
  readonly #counts: MemoryRegion;
  readonly #countWords: Int32Array;
  #credit = 0;
  #told = 0;
  #remote: RemoteMemory = { stag: 0, address: 0n };
  readonly #isServer: boolean;
  readonly #connections: QueuePair[] = [];

  /** `signal` ends the run. */
  constructor(device: Device, options: PerfOptions, signal: AbortSignal) {
    super(device, { sleeps: false, signal });
    this.spec = { ...options, list: options.list ?? 0 };
    this.iterations = options.durationMs === undefined ? options.iterations! : 0;
    this.#isServer = options.hostname === undefined;
    this.pd = device.allocateProtectionDomain();
    this.#taken = this.pd.allocate(CREDIT_BYTES, Access.RemoteWrite);
    this.#takenWord = wordsOf(this.#taken.sge());
    this.#counts = this.pd.allocate(CREDITS * CREDIT_BYTES);
    this.#countWords = wordsOf(this.#counts.sge());
  }

  /** Allocates what messages are sent from and arrive in. Writes and Reads of perftest's go round within a buffer of `bufferBytes` at least. */
  allocate(bufferBytes: number): void {
    const bytes = Math.max(bufferBytes, ...this.spec.sizes);
    const { verb } = this.spec.operation;
    this.#out = this.pd.allocate(bytes, OUT_ACCESS[verb]);
    this.#into = this.pd.allocate(bytes, INTO_ACCESS[verb]);
    this.#out.bytes.fill(0x5a);
    this.#into.bytes.fill(0);
  }

  /** What the peer is to know. */
  get destination(): Destination {
    const { verb, measure } = this.spec.operation;
    const region = verb === "read"
      ? this.#out
      : verb !== "send"
      ? this.#into
      : measure === "bandwidth"
      ? this.#taken
      : undefined;
    const memory = region === undefined ? { stag: 0, address: 0n } : { stag: region.stag, address: region.address };
    return { memory, readDepth: this.spec.readDepth ?? READ_DEPTH };
  }

  /** Takes what the peer told. */
  aim({ memory }: Destination): void {
    this.#remote = memory;
  }

  /** Takes a connection to be ended with the run. An end of its own that comes too early is the run's. */
  watch(queuePair: QueuePair, onEnd?: (error: unknown) => void): void {
    this.#connections.push(queuePair);
    queuePair.closed.then((error) => {
      const reason = error ?? new CommandError("the other end has gone in the middle of a run");
      onEnd?.(reason);
      if (this.isEnding) this.changed();
      else this.fail(reason);
    });
  }

  /** Takes the measured connection, before anything can arrive on it. */
  attach(queuePair: QueuePair): void {
    this.queuePair = queuePair;
    this.watch(queuePair);
    if (this.spec.operation.verb !== "send") return;
    for (let i = 0; i < this.spec.receiveDepth; i++) this.#postReceive();
  }

  /** Prepares for messages of a size. */
  begin(sizeBytes: number): void {
    const { operation: { verb }, atomic } = this.spec;
    const remote = this.#remote;
    this.#sizeBytes = sizeBytes;
    const from = { region: this.#out!, offset: 0, length: sizeBytes };
    const into = { region: this.#into!, offset: 0, length: sizeBytes };
    this.work = verb === "send"
      ? { opcode: verb, local: [from] }
      : verb === "write"
      ? { opcode: verb, local: [from], remote }
      : verb === "read"
      ? { opcode: verb, local: [into], remote }
      : { opcode: atomic, remote, add: 1n, swap: 1n, compare: 1n };
    this.sent = this.received = this.#told = 0;
    this.onMessage = undefined;
    this.#takenWord[0] = 0;
  }

  /** Sends that may be outstanding: perftest posts no more receives than there are messages. */
  get #window(): number {
    return Math.min(this.spec.receiveDepth, this.iterations);
  }

  get roomAtPeer(): number {
    const outstanding = (this.sent - Atomics.load(this.#takenWord, 0)) | 0;
    // a count that is beyond what has been sent is of the size before
    return this.#window - 1 - (outstanding < 0 ? this.sent : outstanding);
  }

  marks(): Marks {
    const end = (region: MemoryRegion) => region.bytes.subarray(0, this.#sizeBytes);
    return new Marks(end(this.#out!), end(this.#into!), { next: (mark) => (mark + 1) & MARK_MASK, last: 0 });
  }

  #postReceive(): void {
    const region = this.#into!;
    this.queuePair!.postRecv([{ region, offset: 0, length: region.bytes.byteLength }], this.#received);
  }

  #received = ({ status, byteLength }: WorkCompletion): void => {
    if (status !== "success") return; // the connection has ended, and tells why itself
    this.received++;
    if (byteLength !== this.#sizeBytes || (this.iterations > 0 && this.received > this.iterations)) {
      return this.fail(
        new CommandError(
          `the other end measures something else: message ${this.received} is of ${byteLength} bytes; ` +
            "sizes and iterations must be the same at both ends",
        ),
      );
    }
    this.onMessage?.();
    if (!this.queuePair!.isClosed) this.#postReceive();
    if (this.#isServer && this.spec.operation.measure === "bandwidth") this.#tell();
    this.changed();
  };

  /** Writes to the peer how many Sends have come, unless there is room for all that is left. */
  #tell(): void {
    const untold = this.received - this.#told;
    if (untold < Math.ceil(this.#window / CREDITS_PER_WINDOW)) return;
    if (this.iterations - this.#told < this.#window) return;
    this.#told = this.received;
    const at = this.#credit++ % CREDITS;
    this.#countWords[at] = this.received;
    const local = [{ region: this.#counts, offset: CREDIT_BYTES * at, length: CREDIT_BYTES }];
    this.queuePair!.postSend({ opcode: "write", local, remote: this.#remote });
    this.queuePair!.flush();
  }

  /** Ends its connections and gives its memory back. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { isOver } = this;
    this.finish();
    if (isOver) await this.#part();
    await Promise.all(this.#connections.map(async (queuePair) => {
      queuePair.abort();
      await queuePair.closed;
    }));
    this.pd[Symbol.dispose]();
  }

  /**
   * Ends in perftest's order: the server ends the measured connection, and the client the other one, on which perftest's own client is at work for a moment after the
   * last word.
   */
  async #part(): Promise<void> {
    const [control, measured] = this.#connections;
    if (this.#isServer) await measured.close();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, PARTING_MS);
    await Promise.race([(this.#isServer ? control : measured).closed, promise]);
    clearTimeout(timer);
    await Promise.all([control.close(), measured.close()]);
  }
}
