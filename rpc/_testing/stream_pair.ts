/**
 * Two byte streams joined in memory, for tests: what one sends the other receives, some bytes a turn. Memory is read and
 * written as late as may be, so that a buffer that is used too early or changed too late shows.
 *
 * @module
 */
import type { ByteStream, Completion } from "../transports/byte_stream.ts";

interface SendWork {
  pieces: Uint8Array[];
  sent: number;
  done?: (completion: Completion) => void;
}

interface ReceiveWork {
  pieces: Uint8Array[];
  filled: number;
  done: (completion: Completion) => void;
}

/** Choices for a pair. */
export interface StreamPairOptions {
  /** Bytes that move at once. */
  chunkBytes?: number;
}

/** One end of a pair. */
export class FakeStream implements ByteStream {
  readonly remoteAddress = "192.0.2.1";
  readonly remotePort = 999;
  readonly closed: Promise<Error | undefined>;
  /** Lengths of what was received in one piece each, to see what went straight into place. */
  readonly receivedPieces: number[] = [];
  peer!: FakeStream;
  /** While true nothing leaves. */
  isStalled = false;
  readonly #chunkBytes: number;
  readonly #sends: SendWork[] = [];
  readonly #receives: ReceiveWork[] = [];
  #isClosing = false;
  #isEnded = false;
  #resolveClosed!: (error: Error | undefined) => void;

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  send(pieces: Uint8Array[], done?: (completion: Completion) => void): void {
    if (this.#isEnded || this.#isClosing) throw new TypeError("closed");
    this.#sends.push({ pieces: pieces.filter((piece) => piece.byteLength > 0), sent: 0, done });
    queueMicrotask(() => this.#pump());
  }

  receive(pieces: Uint8Array[], done: (completion: Completion) => void): void {
    if (this.#isEnded || this.#isClosing) throw new TypeError("closed");
    if (pieces.some((piece) => piece.byteLength === 0)) throw new RangeError("an empty piece");
    for (const piece of pieces) this.receivedPieces.push(piece.byteLength);
    this.#receives.push({ pieces: [...pieces], filled: 0, done });
    queueMicrotask(() => this.peer.#pump());
  }

  async close(): Promise<void> {
    if (this.#isEnded || this.#isClosing) throw new TypeError("closed");
    this.#isClosing = true;
    this.#pump();
    await this.closed;
  }

  abort(): void {
    this.end(undefined);
  }

  /** Ends both sides, as the loss of the connection does. */
  end(error: Error | undefined): void {
    this.#end(error);
    this.peer.#end(error);
  }

  /** Lets a stalled end go on. */
  resume(): void {
    this.isStalled = false;
    this.#pump();
  }

  #pump(): void {
    if (this.#isEnded || this.isStalled) return;
    const work = this.#sends[0];
    const sink = this.peer.#receives[0];
    if (work === undefined) {
      if (this.#isClosing) this.end(undefined);
      return;
    }
    if (work.pieces.length === 0) {
      this.#sends.shift();
      work.done?.({ status: "success", byteLength: work.sent });
      return this.#pump();
    }
    if (sink === undefined) {
      if (this.#isClosing) this.end(undefined);
      return;
    }
    const from = work.pieces[0];
    const into = sink.pieces[0];
    const count = Math.min(from.byteLength, into.byteLength, this.#chunkBytes);
    into.set(from.subarray(0, count));
    work.sent += count;
    sink.filled += count;
    work.pieces[0] = from.subarray(count);
    sink.pieces[0] = into.subarray(count);
    if (work.pieces[0].byteLength === 0) work.pieces.shift();
    if (sink.pieces[0].byteLength === 0) sink.pieces.shift();
    if (sink.pieces.length === 0) {
      this.peer.#receives.shift();
      sink.done({ status: "success", byteLength: sink.filled });
    }
    queueMicrotask(() => this.#pump());
  }

  #end(error: Error | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    queueMicrotask(() => {
      for (const work of this.#receives.splice(0)) work.done({ status: "flushed", byteLength: work.filled });
      for (const work of this.#sends.splice(0)) work.done?.({ status: "flushed", byteLength: work.sent });
      this.#resolveClosed(error);
    });
  }
}

/** Joins two ends. */
export function streamPair(options: StreamPairOptions = {}): [FakeStream, FakeStream] {
  const chunkBytes = options.chunkBytes ?? 1448;
  const ends: [FakeStream, FakeStream] = [new FakeStream(chunkBytes), new FakeStream(chunkBytes)];
  ends[0].peer = ends[1];
  ends[1].peer = ends[0];
  return ends;
}
