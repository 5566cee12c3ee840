/**
 * A long bulk item of results, pushed by RDMA Writes piece by piece while the handler makes the pieces behind.
 *
 * A piece holds memory and a share of the connection's budget from when the handler asks for it until its Writes are done. So a reply
 * may carry more than the server holds of it at once.
 *
 * @module
 */
import { lengthOf, type Push, pushesAt } from "../protocol/chunks.ts";
import type { BulkSink } from "../transport.ts";
import type { RdmaSegment } from "../wire/rpc_rdma.ts";
import { lost, type PieceOperations } from "./pieces.ts";
import type { LentMemory } from "./verbs.ts";

/** What a sink has its transport do. */
export interface SinkOperations extends PieceOperations {
  /** Lends memory of the pool. */
  take(lengthBytes: number): LentMemory;
  /** Writes from memory. `done` is called once, when nothing touches the memory any more. */
  push(memory: LentMemory, pushes: readonly Push[], done: () => void): void;
}

/** See {@linkcode BulkSink}. Its owner has it fail with the connection, and ends it with the call. */
export class PushSink implements BulkSink {
  readonly room: number;
  readonly #segments: readonly RdmaSegment[];
  readonly #pieceBytes: number;
  readonly #operations: SinkOperations;
  #sentBytes = 0;
  /** The handler's, which may be at work on it on another thread: nobody else gives it back. */
  #taken: LentMemory | undefined;
  #waiting: PromiseWithResolvers<Uint8Array> | undefined;
  #hasFailed = false;

  /** Fills a Write chunk in pieces of at most `pieceBytes`. */
  constructor(segments: readonly RdmaSegment[], pieceBytes: number, operations: SinkOperations) {
    this.room = lengthOf(segments);
    this.#segments = segments;
    this.#pieceBytes = pieceBytes;
    this.#operations = operations;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  take(lengthBytes: number): Uint8Array | Promise<Uint8Array> {
    if (this.#hasFailed) throw lost();
    if (this.#taken !== undefined || this.#waiting !== undefined) throw new TypeError("a piece has been taken");
    const length = Math.min(lengthBytes, this.#pieceBytes, this.room - this.#sentBytes);
    if (length <= 0) throw new RangeError("no room for a piece");
    const piece = Promise.withResolvers<Uint8Array>();
    this.#waiting = piece;
    this.#operations.reserve(length, () => this.#start(length, piece));
    return this.#here() ?? piece.promise;
  }

  put(lengthBytes: number): void {
    const memory = this.#taken;
    if (memory === undefined || lengthBytes > memory.bytes.byteLength) throw new TypeError("more than was taken");
    this.#taken = undefined;
    const pushes = pushesAt(this.#segments, this.#sentBytes, lengthBytes);
    this.#sentBytes += lengthBytes;
    this.#operations.push(memory, pushes, () => this.#giveBack(memory));
  }

  /** Nothing can be sent any more: who waits for memory, or asks for some, gets an error. */
  fail(): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#waiting?.reject(lost());
  }

  /** The handler is done. Gives back what was not put. */
  end(): void {
    this.fail();
    if (this.#taken !== undefined) this.#giveBack(this.#taken);
    this.#taken = undefined;
  }

  #here(): Uint8Array | undefined {
    return this.#taken?.bytes;
  }

  #start(length: number, piece: PromiseWithResolvers<Uint8Array>): void {
    this.#waiting = undefined;
    if (this.#hasFailed) return this.#operations.giveBack(length);
    try {
      this.#taken = this.#operations.take(length);
      piece.resolve(this.#taken.bytes);
    } catch (error) {
      this.#operations.giveBack(length);
      piece.reject(error);
    }
  }

  #giveBack(memory: LentMemory): void {
    const { byteLength } = memory.bytes;
    memory.release();
    this.#operations.giveBack(byteLength);
  }
}
