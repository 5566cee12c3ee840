/**
 * A long bulk item of a call, pulled by RDMA Reads piece by piece while the handler works on the pieces before.
 *
 * A piece holds memory and a share of the connection's budget from its first Read until the handler asks for the next piece. So a
 * call may carry more than the server holds of it at once, and what is written to a file was received a moment ago.
 *
 * @module
 */
import { cut, type PullChunk } from "../protocol/chunks.ts";
import type { BulkStream } from "../transport.ts";
import { lost, type PieceOperations } from "./pieces.ts";
import type { LentMemory } from "./verbs.ts";

/** What a stream has its transport do. */
export interface StreamOperations extends PieceOperations {
  /** Reads a chunk into memory of the pool. `done` is called once, with whether it is there, when nothing will touch the memory any more. */
  pull(chunk: PullChunk, done: (isThere: boolean) => void): LentMemory;
}

/** A piece from its reservation until it is given back. */
interface Piece {
  readonly chunk: PullChunk;
  memory?: LentMemory;
  /** The memory holds what was asked for. */
  isThere: boolean;
}

/** See {@linkcode BulkStream}. Its owner starts it, has it fail with the connection, and ends it with the call. */
export class PullStream implements BulkStream {
  readonly position: number;
  readonly length: number;
  readonly #operations: StreamOperations;
  /** Those that were not taken, in their order. */
  readonly #pieces: Piece[];
  /** The handler's, which may be at work on it on another thread: nobody else gives it back. */
  #taken: Piece | undefined;
  #waiting: PromiseWithResolvers<Uint8Array> | undefined;
  #hasFailed = false;
  /** Pieces whose Reads are not done, */
  #underWay = 0;
  /** and who waits for that. */
  #whenIdle: (() => void) | undefined;

  /** Pulls a chunk in pieces of at most `pieceBytes`. */
  constructor(chunk: PullChunk & { position: number }, pieceBytes: number, operations: StreamOperations) {
    this.position = chunk.position;
    this.length = chunk.length;
    this.#operations = operations;
    this.#pieces = cut(chunk, pieceBytes).map((part) => ({ chunk: part, isThere: false }));
  }

  /** Asks for room for each piece. */
  start(): void {
    for (const piece of [...this.#pieces]) this.#operations.reserve(piece.chunk.length, () => this.#pull(piece));
  }

  next(): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    this.#giveTakenBack();
    if (this.#hasFailed) throw lost();
    const first = this.#pieces[0];
    if (first === undefined) return undefined;
    if (first.isThere) return this.#take();
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }

  /** The rest will not come: who waits for a piece, or asks for one, gets an error. What is under way is given back as soon as it has come. */
  fail(): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#waiting?.reject(lost());
    for (const piece of this.#pieces) if (piece.isThere) this.#giveBack(piece);
  }

  /**
   * The handler is done. Calls `whenIdle` once no Read is outstanding: a reply before that would take the memory away from under them.
   */
  end(whenIdle?: () => void): void {
    this.fail();
    this.#giveTakenBack();
    this.#whenIdle = whenIdle;
    this.#beIdle();
  }

  #pull(piece: Piece): void {
    if (this.#hasFailed) return this.#operations.giveBack(piece.chunk.length);
    this.#underWay++;
    try {
      piece.memory = this.#operations.pull(piece.chunk, (isThere) => this.#finish(piece, isThere));
    } catch (error) {
      this.#underWay--;
      throw error;
    }
  }

  #finish(piece: Piece, isThere: boolean): void {
    this.#underWay--;
    if (!isThere) this.fail();
    if (this.#hasFailed) {
      this.#giveBack(piece);
      return this.#beIdle();
    }
    piece.isThere = true;
    if (this.#waiting !== undefined && piece === this.#pieces[0]) this.#waiting.resolve(this.#take());
  }

  #beIdle(): void {
    if (this.#underWay > 0) return;
    this.#whenIdle?.();
    this.#whenIdle = undefined;
  }

  #take(): Uint8Array {
    this.#waiting = undefined;
    this.#taken = this.#pieces.shift()!;
    return this.#taken.memory!.bytes;
  }

  #giveTakenBack(): void {
    if (this.#taken !== undefined) this.#giveBack(this.#taken);
    this.#taken = undefined;
  }

  #giveBack({ chunk, memory }: Piece): void {
    memory!.release();
    this.#operations.giveBack(chunk.length);
  }
}
