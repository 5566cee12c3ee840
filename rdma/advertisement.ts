/**
 * Advertisements: how one end tells the other where memory of its own is, that it may read or write (RFC 5040 §2, "Advertise").
 *
 * @module
 */
import type { RemoteMemory } from "./queue_pair.ts";

/** Bytes of an encoded advertisement. */
export const ADVERTISEMENT_BYTES = 16;

/** A buffer of the peer's, as it was advertised: all that an RDMA Read, an RDMA Write or an atomic operation has to know. */
export class RemoteBuffer implements RemoteMemory {
  /** Steering tag. */
  readonly stag: number;
  /** Tagged offset of the first byte. */
  readonly address: bigint;
  /** Length in bytes. */
  readonly byteLength: number;

  /** Use {@linkcode decodeAdvertisement} for what came from a peer. */
  constructor(fields: RemoteMemory & { byteLength: number }) {
    this.stag = fields.stag;
    this.address = fields.address;
    this.byteLength = fields.byteLength;
  }

  /**
   * The part that begins at `offset`.
   *
   * @param lengthBytes how much of it is to be used, for the check of bounds
   * @throws {RangeError} for a part that is not within the buffer, which the peer would answer by ending the connection
   */
  at(offset: number, lengthBytes = 0): RemoteMemory {
    if (!(Number.isInteger(offset) && offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.byteLength)) {
      throw new RangeError(
        `${lengthBytes} bytes from ${offset} are not within the peer's buffer of ${this.byteLength} bytes`,
      );
    }
    return { stag: this.stag, address: this.address + BigInt(offset) };
  }
}

/**
 * What a peer has to know of a region or window, as 16 bytes for private data or a Send: address, STag and length, big-endian, the form that librdmacm's rping
 * has. Whoever can connect and holds them can use the memory as its access flags allow, until it is deregistered or revoked.
 *
 * @throws {RangeError} for 4 GiB and more, which no message can carry: advertise windows on it instead
 */
export function encodeAdvertisement(memory: RemoteMemory & { byteLength: number }): Uint8Array<ArrayBuffer> {
  if (memory.byteLength > 0xffff_ffff) throw new RangeError("an advertised buffer has less than 4 GiB");
  const view = new DataView(new ArrayBuffer(ADVERTISEMENT_BYTES));
  view.setBigUint64(0, memory.address);
  view.setUint32(8, memory.stag);
  view.setUint32(12, memory.byteLength);
  return new Uint8Array(view.buffer);
}

/** Reads an advertisement at the beginning of `bytes`; `undefined` where they are too short to be one. */
export function decodeAdvertisement(bytes: Uint8Array): RemoteBuffer | undefined {
  if (bytes.byteLength < ADVERTISEMENT_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new RemoteBuffer({
    address: view.getBigUint64(0),
    stag: view.getUint32(8),
    byteLength: view.getUint32(12),
  });
}
