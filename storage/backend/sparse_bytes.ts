/**
 * Storage, backends: the contents of a file in memory. Only blocks that were written take memory; the rest are holes that read as zeros.
 *
 * @module
 */

/** Bytes of one block, and the granularity of `usedBytes`. */
export const BLOCK_BYTES = 4096;

/** Growable contents with holes. Offsets are numbers: a file here ends below 2^53. */
export class SparseBytes {
  readonly #blocks = new Map<number, Uint8Array<ArrayBuffer>>();
  #length = 0;

  /** Bytes up to the end of the file. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of memory behind the contents. */
  get usedBytes(): number {
    return this.#blocks.size * BLOCK_BYTES;
  }

  /** Copies up to `into.byteLength` bytes at `offset` and returns how many there were before the end. */
  read(offset: number, into: Uint8Array): number {
    const count = Math.max(0, Math.min(into.byteLength, this.#length - offset));
    for (let done = 0; done < count;) {
      const within = (offset + done) % BLOCK_BYTES;
      const part = Math.min(count - done, BLOCK_BYTES - within);
      const block = this.#blocks.get(Math.floor((offset + done) / BLOCK_BYTES));
      if (block === undefined) into.fill(0, done, done + part);
      else into.set(block.subarray(within, within + part), done);
      done += part;
    }
    return count;
  }

  /**
   * Copies `bytes` to `offset`, making the file longer where they end behind it.
   *
   * @param blocksMax How many new blocks may be taken; what would need more is left out.
   * @returns Bytes written, fewer than given only where blocks ran out.
   */
  write(offset: number, bytes: Uint8Array, blocksMax: number): number {
    let done = 0;
    for (let fresh = 0; done < bytes.byteLength;) {
      const index = Math.floor((offset + done) / BLOCK_BYTES);
      const within = (offset + done) % BLOCK_BYTES;
      const part = Math.min(bytes.byteLength - done, BLOCK_BYTES - within);
      let block = this.#blocks.get(index);
      if (block === undefined) {
        if (fresh++ === blocksMax) break;
        this.#blocks.set(index, block = new Uint8Array(BLOCK_BYTES));
      }
      block.set(bytes.subarray(done, done + part), within);
      done += part;
    }
    if (done > 0) this.#length = Math.max(this.#length, offset + done);
    return done;
  }

  /** Cuts the file, or makes it longer by a hole. */
  truncate(length: number): void {
    if (length < this.#length) {
      const last = Math.floor(length / BLOCK_BYTES);
      for (const index of this.#blocks.keys()) {
        if (index > last || (index === last && length % BLOCK_BYTES === 0)) this.#blocks.delete(index);
      }
      this.#blocks.get(last)?.fill(0, length % BLOCK_BYTES);
    }
    this.#length = length;
  }
}
