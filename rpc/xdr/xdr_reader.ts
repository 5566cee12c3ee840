/**
 * XDR decoding (RFC 4506) from one contiguous message, or from one whose bulk item lies elsewhere.
 *
 * Padding bytes are skipped without a look at their value: RFC 4506 §3 has the sender write zeros, but nothing depends on
 * them, widespread peers send others, and an item that travels as an RDMA chunk has none at all.
 *
 * @module
 */
import { WireError } from "../errors.ts";

/** How to read a message whose bulk item is not in the stream. */
export interface XdrReaderOptions {
  /**
   * The stream continues in `data` at byte `position` (a multiple of 4) and afterwards behind `position` again. `data` is a
   * Read chunk, whose padding may be missing, or the tail of a long record.
   */
  inserted?: { position: number; data: Uint8Array };
  /** The first bulk item belongs at byte `position` and is not here: `length` bytes, perhaps with padding, that somebody else takes. */
  elsewhere?: { position: number; length: number };
  /**
   * Where the first bulk item's contents are to be found: `length` bytes, perhaps with padding, were already placed into `into` and are missing
   * from the stream; or, with `length` undefined, they are in the stream and are copied to `into`.
   */
  placed?: { into: Uint8Array; length?: number };
}

const NO_OPTIONS: XdrReaderOptions = {};

/** A cursor over XDR bytes. Every method throws `WireError` (layer "xdr") where the bytes end too soon or are out of range. */
export class XdrReader {
  #bytes!: Uint8Array;
  #view!: DataView;
  #offset = 0;
  /** Bytes of the stream in front of the current stretch. */
  #base = 0;
  /** Stretches behind the current one. */
  #pending: Uint8Array[] | undefined;
  /** True where the current stretch may end without its padding. */
  #elastic = false;
  #placed: XdrReaderOptions["placed"];
  #elsewhere: XdrReaderOptions["elsewhere"];

  /** Reads `bytes`; values decoded from it are views into it. */
  constructor(bytes: Uint8Array, options: XdrReaderOptions = NO_OPTIONS) {
    this.#placed = options.placed;
    this.#elsewhere = options.elsewhere;
    const inserted = options.inserted;
    if (inserted === undefined) {
      this.#open(bytes);
      return;
    }
    if (inserted.position > bytes.byteLength || (inserted.position & 3) !== 0) {
      throw new WireError("bulk item outside the message", { layer: "xdr", offset: inserted.position });
    }
    this.#open(bytes.subarray(0, inserted.position));
    this.#pending = [inserted.data, bytes.subarray(inserted.position)];
  }

  /** Position in the stream, in bytes. */
  get offset(): number {
    return this.#base + this.#offset;
  }

  /** Bytes of the stream left. */
  get remaining(): number {
    let bytes = this.#bytes.byteLength - this.#offset;
    if (this.#pending !== undefined) { for (const stretch of this.#pending) bytes += stretch.byteLength; }
    return bytes;
  }

  /** Signed 32-bit integer (RFC 4506 §4.1). */
  int32(): number {
    const at = this.#take4();
    return this.#view.getInt32(at);
  }

  /** Unsigned 32-bit integer (RFC 4506 §4.2). */
  uint32(): number {
    const at = this.#take4();
    return this.#view.getUint32(at);
  }

  /** Signed 64-bit integer (RFC 4506 §4.5). */
  int64(): bigint {
    return BigInt.asIntN(64, this.uint64());
  }

  /** Unsigned 64-bit integer (RFC 4506 §4.5). */
  uint64(): bigint {
    const at = this.#offset;
    if (this.#bytes.byteLength - at >= 8) {
      this.#offset = at + 8;
      return this.#view.getBigUint64(at);
    }
    const high = this.uint32();
    return (BigInt(high) << 32n) | BigInt(this.uint32());
  }

  /** Boolean: 0 or 1 and nothing else (RFC 4506 §4.4). */
  bool(): boolean {
    const value = this.uint32();
    if (value > 1) throw this.fault(`${value} is not a boolean`, 4);
    return value === 1;
  }

  /** Fixed-length opaque data of `length` bytes and its padding (RFC 4506 §4.9). A view, unless it lies across a cut. */
  opaqueFixed(length: number): Uint8Array {
    const at = this.#offset;
    if (this.#bytes.byteLength - at >= length) {
      this.#offset = at + length;
      if ((length & 3) !== 0) this.#skipPadding(length);
      return this.#bytes.subarray(at, at + length);
    }
    const pieces = this.#takePieces(length);
    return pieces.length === 1 ? pieces[0] : concatenate(pieces, length);
  }

  /** Variable-length opaque data of at most `max` bytes (RFC 4506 §4.10). A view, unless it lies across a cut. */
  opaque(max: number): Uint8Array {
    return this.opaqueFixed(this.length(max));
  }

  /** A length or count word of at most `max`. */
  length(max: number): number {
    const length = this.uint32();
    if (length > max) throw this.fault(`length ${length} is above the limit of ${max}`, 4);
    return length;
  }

  /** A bulk item of at most `max` bytes, as the pieces that it lies in: none where it is elsewhere. Never copied, except as `placed` says. */
  bulk(max: number): Uint8Array[] {
    const length = this.length(max);
    const elsewhere = this.#elsewhere;
    if (elsewhere !== undefined) {
      this.#elsewhere = undefined;
      if (elsewhere.position !== this.offset) throw this.fault(`a bulk item for position ${elsewhere.position}`, 0);
      if (!isLengthOf(elsewhere.length, length)) {
        throw this.fault(`a bulk item of ${elsewhere.length} bytes where the arguments speak of ${length}`, 4);
      }
      return [];
    }
    const placed = this.#placed;
    if (placed === undefined) return this.#takePieces(length);
    this.#placed = undefined;
    if (length > placed.into.byteLength) {
      throw this.fault(`${length} bytes do not fit the ${placed.into.byteLength} given for them`, 4);
    }
    if (placed.length === undefined) {
      let at = 0;
      for (const piece of this.#takePieces(length)) {
        placed.into.set(piece, at);
        at += piece.byteLength;
      }
    } else if (!isLengthOf(placed.length, length)) {
      throw this.fault(`${placed.length} bytes were placed where the results speak of ${length}`, 4);
    }
    return length === 0 ? [] : [placed.into.subarray(0, length)];
  }

  /** Throws unless everything was read. */
  expectEnd(): void {
    const remaining = this.remaining;
    if (remaining !== 0) throw this.fault(`${remaining} bytes too many`, 0);
    if (this.#elsewhere !== undefined) throw this.fault("a bulk item that nothing refers to", 0);
    if (this.#placed?.length !== undefined && this.#placed.length > 0) {
      throw this.fault(`${this.#placed.length} bytes were placed for results without a bulk item`, 0);
    }
  }

  /** An error about what was read `back` bytes ago, for the caller to throw. */
  fault(message: string, back: number): WireError {
    return new WireError(message, { layer: "xdr", offset: this.offset - back });
  }

  #open(stretch: Uint8Array): void {
    this.#bytes = stretch;
    this.#view = new DataView(stretch.buffer, stretch.byteOffset, stretch.byteLength);
    this.#offset = 0;
  }

  /** Goes on to the next stretch; false where there is none. */
  #advance(): boolean {
    const next = this.#pending?.shift();
    if (next === undefined) return false;
    this.#base += this.#bytes.byteLength;
    this.#elastic = this.#pending!.length === 1;
    this.#open(next);
    return true;
  }

  /** Takes a word and says where it is; called before `#view` is used, which it may replace. */
  #take4(): number {
    const at = this.#offset;
    if (this.#bytes.byteLength - at >= 4) {
      this.#offset = at + 4;
      return at;
    }
    while (this.#offset === this.#bytes.byteLength && this.#advance()) {
      if (this.#bytes.byteLength >= 4) {
        this.#offset = 4;
        return 0;
      }
    }
    throw this.#cut();
  }

  #takePieces(length: number): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    if (length === 0) return pieces;
    if (length > this.remaining) throw this.#cut();
    for (let left = length; left > 0;) {
      const at = this.#offset;
      const here = Math.min(left, this.#bytes.byteLength - at);
      if (here > 0) {
        pieces.push(this.#bytes.subarray(at, at + here));
        this.#offset = at + here;
        left -= here;
      } else if (!this.#advance()) {
        throw this.#cut();
      }
    }
    this.#skipPadding(length);
    return pieces;
  }

  #skipPadding(length: number): void {
    const end = this.#offset + (-length & 3);
    if (end <= this.#bytes.byteLength) this.#offset = end;
    else if (this.#elastic) this.#offset = this.#bytes.byteLength;
    else throw this.#cut();
  }

  #cut(): WireError {
    return this.fault("cut short", 0);
  }
}

/** Whether contents that are not in the stream are as long as their length word says, perhaps with padding. */
function isLengthOf(thereBytes: number, length: number): boolean {
  return thereBytes === length || thereBytes === length + (-length & 3);
}

function concatenate(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
