/**
 * What the TCP transport needs of a connection: `Stream` of rdma/ has this shape, and so have the fakes of the tests. Also what its
 * two ends do alike.
 *
 * @module
 */
import { ProtocolError, WireError } from "../errors.ts";
import type { Bulk, XdrMessage } from "../transport.ts";
import { decodeRecordMark, encodeRecordMark, RECORD_MARK_BYTES } from "../wire/record_mark.ts";
import type { XdrWriter } from "../xdr/xdr_writer.ts";

/** How a piece of work ended. */
export interface Completion {
  /** "success", or why not ("flushed": the connection ended first). */
  readonly status: string;
  /** Bytes moved. */
  readonly byteLength: number;
}

/** A connected byte stream. Memory that it is given is referenced, never copied, until the work is done. */
export interface ByteStream {
  /** The peer's IP address. */
  readonly remoteAddress: string;
  /** The peer's port. */
  readonly remotePort: number;
  /** Sends the pieces in order behind what is queued. */
  send(pieces: Uint8Array[], done?: (completion: Completion) => void): void;
  /** Fills the pieces exactly, in order. */
  receive(pieces: Uint8Array[], done: (completion: Completion) => void): void;
  /** Finishes queued sends, then ends the connection. */
  close(): Promise<void>;
  /** Ends the connection at once. */
  abort(): void;
  /** Resolves when the connection has ended and every `done` was called: `undefined` for an orderly end. */
  readonly closed: Promise<Error | undefined>;
}

/** Where payload memory comes from: `BufferPool` of rdma/ has this shape. */
export interface BulkPool {
  /** Lends at least `lengthBytes`. */
  take(lengthBytes: number): Bulk;
}

/** Messages up to this size are received and sent by way of a buffer of ours; longer ones never are. */
export const SMALL_BYTES = 8 * 1024;
/** The longest record that is taken from a peer, by default. */
export const RECORD_BYTES_MAX = 4 * 1024 * 1024;
/** The most fragments that a record may come in. */
export const FRAGMENTS_MAX = 1024;
/**
 * How long an aborted call may hold its caller up, because the caller's memory is being sent from or received into. Then the connection is given
 * up rather than the caller kept waiting.
 */
export const ABORT_GRACE_MS = 1000;
/** Small buffers that are kept for reuse. */
const SPARES_MAX = 64;

/** Receive buffers of `SMALL_BYTES`, used again and again. */
export class SmallBuffers {
  readonly #spares: Uint8Array[] = [];

  /** Lends a buffer; its contents are whatever they were. */
  take(): Uint8Array {
    return this.#spares.pop() ?? new Uint8Array(SMALL_BYTES);
  }

  /** Takes a buffer back. */
  put(buffer: Uint8Array): void {
    if (this.#spares.length < SPARES_MAX) this.#spares.push(buffer);
  }
}

/** Lends exactly `lengthBytes` of a pool. */
export function takeExactly(pool: BulkPool, lengthBytes: number): Bulk {
  const taken = pool.take(lengthBytes);
  if (taken.bytes.byteLength === lengthBytes) return taken;
  return { bytes: taken.bytes.subarray(0, lengthBytes), release: () => taken.release() };
}

/** A pool that is none: memory for the garbage collector. */
export const plainMemory: BulkPool = {
  take: (lengthBytes) => ({ bytes: new Uint8Array(lengthBytes), release: () => {} }),
};

/** Zeros behind a bulk item. Never written to. */
const PADDING = new Uint8Array(new ArrayBuffer(4));

/** A message as a record in one fragment. What is small is copied together; a bulk item, or a long message, stays where it is. */
export function recordPieces(writer: XdrWriter, { bytes, bulk }: XdrMessage): Uint8Array[] {
  const position = bulk?.position ?? bytes.byteLength;
  const contentsBytes = bulk?.data.byteLength ?? 0;
  const padBytes = -contentsBytes & 3;
  const mark = encodeRecordMark(bytes.byteLength + contentsBytes + padBytes);
  const pieces: Uint8Array[] = [];
  writer.begin();
  writer.uint32(mark);
  pushPiece(pieces, writer, bytes.subarray(0, position));
  if (bulk === undefined) return pieces;
  if (contentsBytes > 0) pieces.push(bulk.data);
  if (padBytes > 0) pieces.push(PADDING.subarray(0, padBytes));
  writer.begin();
  pushPiece(pieces, writer, bytes.subarray(position));
  return pieces;
}

/** Adds bytes behind what the writer holds: with it, or as they lie where they are long. */
function pushPiece(pieces: Uint8Array[], writer: XdrWriter, bytes: Uint8Array): void {
  const isSmall = bytes.byteLength <= SMALL_BYTES;
  if (isSmall) writer.opaqueFixed(bytes);
  if (writer.position > 0) pieces.push(writer.finish().bytes);
  if (!isSmall) pieces.push(bytes);
}

/** Where records go. */
export interface RecordSink {
  /** A record that comes in one fragment begins; must lead to a call of `RecordReceiver.next` once it has been received. */
  handleRecord(lengthBytes: number): void;
  /** A record that came in several fragments, put together. Likewise. */
  handleFragmented(record: Uint8Array): void;
  /** The peer broke the rules; nothing more is received. */
  handleFault(error: Error): void;
}

/** Receives record marks, and whole records where they come in fragments. */
export class RecordReceiver {
  readonly #stream: ByteStream;
  readonly #sink: RecordSink;
  readonly #bytesMax: number;
  readonly #mark = new Uint8Array(RECORD_MARK_BYTES);
  #fragments: Uint8Array[] = [];
  #fragmentsBytes = 0;
  #isStopped = false;

  constructor(stream: ByteStream, options: { sink: RecordSink; bytesMax?: number }) {
    this.#stream = stream;
    this.#sink = options.sink;
    this.#bytesMax = options.bytesMax ?? RECORD_BYTES_MAX;
  }

  /** Receives nothing more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Waits for the next record. */
  next(): void {
    this.receive([this.#mark], (isWhole) => {
      if (isWhole) this.#handleMark();
    });
  }

  /** Receives the next bytes of a record. Where the connection has ended, or does meanwhile, they are not there as a whole. */
  receive(pieces: Uint8Array[], done: (isWhole: boolean) => void): void {
    if (this.#isStopped) return done(false);
    try {
      this.#stream.receive(pieces, ({ status }) => done(status === "success" && !this.#isStopped));
    } catch {
      // Closed; `closed` of the stream is about to tell why.
      done(false);
    }
  }

  #handleMark(): void {
    const { length, isLast } = decodeRecordMark(this.#mark);
    const recordBytes = this.#fragmentsBytes + length;
    if (recordBytes > this.#bytesMax) {
      return this.#sink.handleFault(
        new ProtocolError("TooLarge", `a record of ${recordBytes} bytes is above the limit of ${this.#bytesMax}`),
      );
    }
    if (isLast && this.#fragments.length === 0) {
      if (length > 0) return this.#sink.handleRecord(length);
      return this.#sink.handleFault(new WireError("an empty record", { layer: "record", offset: 0 }));
    }
    if (this.#fragments.length === FRAGMENTS_MAX) {
      return this.#sink.handleFault(new ProtocolError("TooLarge", `a record of more than ${FRAGMENTS_MAX} fragments`));
    }
    const fragment = new Uint8Array(length);
    this.#fragments.push(fragment);
    this.#fragmentsBytes = recordBytes;
    if (length === 0) return this.#handleFragment(isLast);
    this.receive([fragment], (isWhole) => {
      if (isWhole) this.#handleFragment(isLast);
    });
  }

  #handleFragment(isLast: boolean): void {
    if (!isLast) return this.next();
    const record = new Uint8Array(this.#fragmentsBytes);
    let at = 0;
    for (const fragment of this.#fragments) {
      record.set(fragment, at);
      at += fragment.byteLength;
    }
    this.#fragments = [];
    this.#fragmentsBytes = 0;
    this.#sink.handleFragmented(record);
  }
}
