/**
 * Buffers cut from registered memory of the engine's, lent and taken back.
 *
 * @module
 */
import { RdmaError } from "./errors.ts";
import type { MemoryRegion } from "./memory_region.ts";
import type { ProtectionDomain } from "./protection_domain.ts";
import type { Sge } from "./queue_pair.ts";

/** The smallest buffer. */
const BUFFER_BYTES_MIN = 4096;
/** Small buffers are cut from slabs of this size. */
const SLAB_BYTES = 1 << 20;
/** What a pool takes at most, unless told otherwise. */
const POOL_BYTES_MAX = 1 << 30;

/** A lent buffer. Its memory is registered for local use; {@linkcode MemoryRegion.bind} opens it to a peer. */
export interface PooledBuffer extends Disposable {
  /** The memory, as long as was asked for. Not to be used after `release`. */
  readonly bytes: Uint8Array;
  /** The region that it is cut from. */
  readonly region: MemoryRegion;
  /** Where in the region it begins. */
  readonly offset: number;
  /** An element of a scatter/gather list: all of `bytes`. */
  sge(): Sge;
  /** Gives it back, as disposing does; a second call does nothing. */
  release(): void;
}

interface Place {
  region: MemoryRegion;
  offset: number;
}

/** Lends buffers whose sizes are powers of two from 4 KiB up. Memory is kept for reuse until the pool is disposed of. */
export class BufferPool implements Disposable {
  readonly #pd: ProtectionDomain;
  readonly #bytesMax: number;
  readonly #free = new Map<number, Place[]>();
  readonly #slabs: MemoryRegion[] = [];
  #bytes = 0;
  #lent = 0;

  /** A pool of memory registered in `pd`, of `bytesMax` bytes at the most. */
  constructor(pd: ProtectionDomain, options: { bytesMax?: number } = {}) {
    this.#pd = pd;
    this.#bytesMax = options.bytesMax ?? POOL_BYTES_MAX;
  }

  /** Buffers that are lent now. */
  get lent(): number {
    return this.#lent;
  }

  /**
   * Lends a buffer of at least `lengthBytes`; `bytes` is exactly that long. Its contents are whatever was there before.
   *
   * @throws {RdmaError} `Exhausted` where the pool has reached its limit  @throws {TypeError} where the device is closed
   */
  take(lengthBytes: number): PooledBuffer {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes < 0) throw new RangeError("not a length");
    this.#pd.device.usable(); // with the device its memory has gone
    if (this.#slabs[0]?.live === false) this[Symbol.dispose](); // and with its domain's regions, of which there may be others
    const size = Math.max(BUFFER_BYTES_MIN, 2 ** Math.ceil(Math.log2(Math.max(lengthBytes, 1))));
    const free = this.#free.get(size) ?? this.#addClass(size);
    const place = free.pop() ?? this.#grow(size, free);
    this.#lent++;
    let lent = true;
    const release = () => {
      if (!lent) return;
      lent = false;
      this.#lent--;
      if (place.region.live) free.push(place);
    };
    return {
      bytes: place.region.bytes.subarray(place.offset, place.offset + lengthBytes),
      region: place.region,
      offset: place.offset,
      sge: () => place.region.sge(place.offset, lengthBytes),
      release,
      [Symbol.dispose]: release,
    };
  }

  #addClass(size: number): Place[] {
    const free: Place[] = [];
    this.#free.set(size, free);
    return free;
  }

  #grow(size: number, free: Place[]): Place {
    const left = this.#bytesMax - this.#bytes;
    // whole buffers, as many as a slab has and the limit allows
    const slabBytes = Math.max(1, Math.floor(Math.min(SLAB_BYTES, left) / size)) * size;
    if (slabBytes > left) {
      throw new RdmaError("Exhausted", { message: `the buffer pool has reached its limit of ${this.#bytesMax} bytes` });
    }
    const region = this.#pd.allocate(slabBytes);
    this.#bytes += slabBytes;
    this.#slabs.push(region);
    for (let offset = slabBytes - size; offset > 0; offset -= size) free.push({ region, offset });
    return { region, offset: 0 };
  }

  /** Deregisters all of the pool's memory, lent buffers included. */
  [Symbol.dispose](): void {
    for (const region of this.#slabs) region.deregister();
    this.#slabs.length = 0;
    this.#free.clear();
    this.#bytes = 0;
  }
}
