/**
 * What the ends of an RPC-over-RDMA connection tell each other as it is made: private data of the connection manager (RFC 8797).
 *
 * @module
 */

/** Bytes of the message. More may follow it, and is ignored. */
export const CM_PRIVATE_DATA_BYTES = 8;
/** The threshold where a peer said nothing (RFC 8166 §3.3.2). */
export const DEFAULT_INLINE_BYTES = 1024;
/** What this end offers. */
export const INLINE_BYTES = 4096;

const MAGIC = 0xf6ab0e18;
const VERSION = 1;
const REMOTE_INVALIDATION = 0x01;
const GRANULE_BYTES = 1024;
const INLINE_BYTES_MAX = 256 * GRANULE_BYTES;

/** What one end can do. */
export interface InlineSettings {
  /** True where it can take a Send with Invalidate. */
  remoteInvalidation: boolean;
  /** The largest Send that it makes: a multiple of 1024, up to 256 KiB. */
  sendBytes: number;
  /** The largest Send that it can receive. */
  receiveBytes: number;
}

/** What this end says of itself. */
export const OUR_SETTINGS: InlineSettings = Object.freeze({
  remoteInvalidation: true,
  sendBytes: INLINE_BYTES,
  receiveBytes: INLINE_BYTES,
});

/** What is to be assumed of an end that says nothing. */
export const DEFAULT_SETTINGS: InlineSettings = Object.freeze({
  remoteInvalidation: false,
  sendBytes: DEFAULT_INLINE_BYTES,
  receiveBytes: DEFAULT_INLINE_BYTES,
});

/** Writes the message. Throws `RangeError` for sizes that it cannot tell. */
export function encodeCmPrivateData(settings: InlineSettings): Uint8Array {
  const { remoteInvalidation, sendBytes, receiveBytes } = settings;
  const bytes = new Uint8Array(CM_PRIVATE_DATA_BYTES);
  new DataView(bytes.buffer).setUint32(0, MAGIC);
  bytes[4] = VERSION;
  bytes[5] = remoteInvalidation ? REMOTE_INVALIDATION : 0;
  bytes[6] = encodeSize(sendBytes);
  bytes[7] = encodeSize(receiveBytes);
  return bytes;
}

/** Reads the message; `undefined` where the private data is something else, or nothing. */
export function decodeCmPrivateData(privateData: Uint8Array): InlineSettings | undefined {
  if (privateData.byteLength < CM_PRIVATE_DATA_BYTES) return undefined;
  const view = new DataView(privateData.buffer, privateData.byteOffset);
  if (view.getUint32(0) !== MAGIC || privateData[4] !== VERSION) return undefined;
  return {
    remoteInvalidation: (privateData[5] & REMOTE_INVALIDATION) !== 0,
    sendBytes: (privateData[6] + 1) * GRANULE_BYTES,
    receiveBytes: (privateData[7] + 1) * GRANULE_BYTES,
  };
}

/** The largest Sends of a connection. */
export interface InlineThresholds {
  /** From this end to the peer, bytes. */
  send: number;
  /** From the peer to this end, bytes. */
  receive: number;
  /** True where the peer can take a Send with Invalidate. */
  mayInvalidate: boolean;
}

/** What two ends agree on: the smaller of each pair (RFC 8797 §4). */
export function negotiate(ours: InlineSettings, peers: InlineSettings | undefined): InlineThresholds {
  const { sendBytes, receiveBytes, remoteInvalidation } = peers ?? DEFAULT_SETTINGS;
  return {
    send: Math.min(ours.sendBytes, receiveBytes),
    receive: Math.min(ours.receiveBytes, sendBytes),
    mayInvalidate: remoteInvalidation,
  };
}

function encodeSize(bytes: number): number {
  const size = bytes / GRANULE_BYTES - 1;
  if (!Number.isInteger(size) || size < 0 || bytes > INLINE_BYTES_MAX) {
    throw new RangeError(`an inline size of ${bytes} bytes`);
  }
  return size;
}
