/**
 * Record marking: RPC messages on a byte stream (RFC 5531 §11).
 *
 * @module
 */

/** Size of the word in front of each fragment. */
export const RECORD_MARK_BYTES = 4;
/** The longest fragment that the word can tell. */
export const FRAGMENT_BYTES_MAX = 0x7fffffff;
const LAST_FRAGMENT = 0x80000000;

/** One fragment of a record. */
export interface RecordMark {
  /** Bytes of the fragment behind its mark. */
  length: number;
  /** True for the last fragment of a record. */
  isLast: boolean;
}

/** The mark of a record in one fragment, as a word. Throws `RangeError` for a length that needs several. */
export function encodeRecordMark(length: number): number {
  if (length > FRAGMENT_BYTES_MAX) throw new RangeError(`${length} bytes do not fit one fragment`);
  return (LAST_FRAGMENT | length) >>> 0;
}

/** Reads the first four bytes. */
export function decodeRecordMark(bytes: Uint8Array): RecordMark {
  const word = new DataView(bytes.buffer, bytes.byteOffset, RECORD_MARK_BYTES).getUint32(0);
  return { length: word & FRAGMENT_BYTES_MAX, isLast: word >= LAST_FRAGMENT };
}
