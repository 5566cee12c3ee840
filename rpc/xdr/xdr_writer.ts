/**
 * XDR encoding (RFC 4506). Messages are cut from a slab that is shared by many, so a small message costs no allocation of
 * its own; a slab is collected when the last message in it is gone.
 *
 * @module
 */
import type { XdrMessage } from "../transport.ts";

/** Size of a slab, bytes. A longer message gets a slab of its own. */
export const SLAB_BYTES = 64 * 1024;

/** The contents of a bulk item that have gone to their place already: a message has their length alone. */
export class SentPieces extends Array<Uint8Array> {
  /** `byteLength`: how many bytes they are. */
  constructor(readonly byteLength: number) {
    super();
  }
}

/** Encodes one message after another. Values out of range are misuse: `RangeError`. */
export class XdrWriter {
  #slab: Uint8Array<ArrayBuffer>;
  #view: DataView;
  /** Where the current message begins in the slab. */
  #start = 0;
  #offset = 0;
  #bulk: XdrMessage["bulk"];
  readonly #slabBytes: number;

  /** `slabBytes`: memory allocated at once; a single short message wants a small one. */
  constructor(slabBytes = SLAB_BYTES) {
    this.#slabBytes = slabBytes;
    this.#slab = new Uint8Array(slabBytes);
    this.#view = new DataView(this.#slab.buffer);
  }

  /** Bytes of the current message so far, without bulk contents. */
  get position(): number {
    return this.#offset - this.#start;
  }

  /** Starts a message, dropping what an earlier failed one left. */
  begin(): void {
    this.#offset = this.#start;
    this.#bulk = undefined;
  }

  /** Ends the message. It is the caller's; the writer never touches its bytes again. */
  finish(): XdrMessage {
    const bytes = this.#slab.subarray(this.#start, this.#offset);
    const bulk = this.#bulk;
    this.#start = this.#offset;
    this.#bulk = undefined;
    return bulk === undefined ? { bytes } : { bytes, bulk };
  }

  /** Signed 32-bit integer. */
  int32(value: number): void {
    if ((value | 0) !== value) throw new RangeError(`${value} is not a 32-bit integer`);
    const at = this.#claim(4);
    this.#view.setInt32(at, value);
  }

  /** Unsigned 32-bit integer. */
  uint32(value: number): void {
    if ((value >>> 0) !== value) throw new RangeError(`${value} is not an unsigned 32-bit integer`);
    const at = this.#claim(4);
    this.#view.setUint32(at, value);
  }

  /** Signed 64-bit integer. */
  int64(value: bigint): void {
    if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} is not a 64-bit integer`);
    const at = this.#claim(8);
    this.#view.setBigInt64(at, value);
  }

  /** Unsigned 64-bit integer. */
  uint64(value: bigint): void {
    if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} is not an unsigned 64-bit integer`);
    const at = this.#claim(8);
    this.#view.setBigUint64(at, value);
  }

  /** Boolean. */
  bool(value: boolean): void {
    this.uint32(value ? 1 : 0);
  }

  /** Opaque data and its padding, without a length word. Copied. */
  opaqueFixed(value: Uint8Array): void {
    const length = value.byteLength;
    const padded = (length + 3) & ~3;
    const at = this.#claim(padded);
    this.#slab.set(value, at);
    for (let i = at + length; i < at + padded; i++) this.#slab[i] = 0;
  }

  /** Opaque data of at most `max` bytes behind its length word. Copied. */
  opaque(value: Uint8Array, max: number): void {
    checkLength(value.byteLength, max);
    this.uint32(value.byteLength);
    this.opaqueFixed(value);
  }

  /**
   * A bulk item: its length word goes into the message, its contents stay where they are and must not change until the
   * message has been sent. At most one a message. A single piece is referenced, several are joined by copying, and of those that were sent
   * only the length is told.
   */
  bulk(pieces: readonly Uint8Array[], max: number): void {
    const isSent = pieces instanceof SentPieces;
    let length = isSent ? pieces.byteLength : 0;
    for (const piece of pieces) length += piece.byteLength;
    checkLength(length, max);
    this.uint32(length);
    if (length === 0 || isSent) return;
    if (this.#bulk !== undefined) throw new TypeError("a message carries at most one bulk item");
    const data = pieces.length === 1 ? pieces[0] : new Uint8Array(length);
    if (pieces.length > 1) {
      let at = 0;
      for (const piece of pieces) {
        data.set(piece, at);
        at += piece.byteLength;
      }
    }
    this.#bulk = { position: this.position, data };
  }

  /** Claims room, which may move the message to another slab: called before `#slab` and `#view` are used. */
  #claim(length: number): number {
    const at = this.#offset;
    if (at + length > this.#slab.byteLength) return this.#grow(length);
    this.#offset = at + length;
    return at;
  }

  #grow(length: number): number {
    const begun = this.#slab.subarray(this.#start, this.#offset);
    const needed = begun.byteLength + length;
    this.#slab = new Uint8Array(needed > this.#slabBytes ? needed * 2 : this.#slabBytes);
    this.#view = new DataView(this.#slab.buffer);
    this.#slab.set(begun);
    this.#start = 0;
    this.#offset = needed;
    return begun.byteLength;
  }
}

function checkLength(length: number, max: number): void {
  if (length > max) throw new RangeError(`${length} bytes are above the limit of ${max}`);
}

/** The whole message in one stretch, as it is on the wire of a stream transport. Copies. */
export function flatten(message: XdrMessage): Uint8Array {
  const { bytes, bulk } = message;
  if (bulk === undefined) return bytes.slice();
  const contents = (bulk.data.byteLength + 3) & ~3;
  const whole = new Uint8Array(bytes.byteLength + contents);
  whole.set(bytes.subarray(0, bulk.position));
  whole.set(bulk.data, bulk.position);
  whole.set(bytes.subarray(bulk.position), bulk.position + contents);
  return whole;
}
