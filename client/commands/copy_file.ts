/**
 * Copies the contents of one file: several blocks under way, holes kept, resumable.
 *
 * Data goes from the file of one end to that of the other through memory that the network end has registered, with no copy between.
 * To a server, blocks are written in any order; but the last one goes last, when everything before it is on stable storage, so that a
 * file which has its full length is complete. What is shorter can be continued.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { LentMemory } from "../file_system.ts";
import { Slots } from "../slots.ts";
import type { CopyEnd } from "./copy_ends.ts";

/** Holes are looked for in units of this; what is smaller is written as zeros. */
export const HOLE_BYTES = 64 * 1024;
/** Blocks of one file under way at once: one comes while the other is written, and both stay in the cache; more where they take long on their way. */
const BLOCKS_IN_FLIGHT = 2;
/** The most that they are then, all together. */
const BYTES_IN_FLIGHT_MAX = 32 * 1024 * 1024;
/** Where blocks are longer on their way than this for each byte, they wait for something else than this machine (half a GB/s with two of them). */
const LONG_MS_PER_BYTE = 4 / 1024 ** 2;
/** What a block counts at least where memory for them is shared out: small files are bounded in number, too. */
const BLOCK_CHARGE_MIN_BYTES = 2 * 1024 * 1024;

const zeros = new Uint8Array(HOLE_BYTES);

/** Memory for blocks, shared by all files of a copy. */
export class BlockMemory {
  readonly blockBytes: number;
  readonly #allocate: (lengthBytes: number) => LentMemory;
  readonly #slots: Slots;

  /** `totalBytes`: how much is lent at once. */
  constructor(allocate: (lengthBytes: number) => LentMemory, options: { blockBytes: number; totalBytes: number }) {
    this.#allocate = allocate;
    this.blockBytes = options.blockBytes;
    this.#slots = new Slots(options.totalBytes);
  }

  /** Lends memory for a block, or less; waits until there is some. */
  async take(lengthBytes: number, signal: AbortSignal): Promise<LentMemory> {
    const charge = Math.max(lengthBytes, BLOCK_CHARGE_MIN_BYTES);
    await this.#slots.take(signal, charge);
    try {
      const memory = this.#allocate(lengthBytes);
      const release = () => {
        memory.release();
        this.#slots.give(charge);
      };
      return { bytes: memory.bytes, release, [Symbol.dispose]: release };
    } catch (error) {
      this.#slots.give(charge);
      throw error;
    }
  }
}

/** What to copy, and how. */
export interface ContentsOptions {
  /** Length of the source when the copy began. */
  size: number;
  /** Where to begin: what is before is there already. */
  start: number;
  /** Length of what the destination holds now; zeros must be written there. */
  existingSize: number;
  /** Leave holes where the source has zeros. */
  keepHoles: boolean;
  memory: BlockMemory;
  signal: AbortSignal;
  /** Told of each stretch that is done. */
  onProgress: (bytes: number) => void;
}

/** Copies contents. When it fails or is aborted, the destination is left as long as what is safely there. */
export async function copyContents(source: CopyEnd, sink: CopyEnd, options: ContentsOptions): Promise<void> {
  const copy = new ContentsCopy(source, sink, options);
  await copy.run();
}

class ContentsCopy {
  readonly #source: CopyEnd;
  readonly #sink: CopyEnd;
  readonly #options: ContentsOptions;
  /** Everything before this has been written. */
  #done: number;
  /** The file's length as far as we made it. */
  #written: number;
  #blocksInFlight = BLOCKS_IN_FLIGHT;
  #failure: { error: unknown } | undefined;

  constructor(source: CopyEnd, sink: CopyEnd, options: ContentsOptions) {
    this.#source = source;
    this.#sink = sink;
    this.#options = options;
    this.#done = options.start;
    this.#written = options.existingSize;
  }

  async run(): Promise<void> {
    const { size, start } = this.#options;
    const { blockBytes } = this.#options.memory;
    const lastBlock = Math.max(start, Math.floor((size - 1) / blockBytes) * blockBytes);
    try {
      let committed: Promise<void> = Promise.resolve();
      const { commitBytes } = this.#sink;
      for (let from = start; from < lastBlock; from += commitBytes) {
        await this.#copyRange(from, Math.min(lastBlock, from + commitBytes));
        await committed;
        committed = this.#commit();
        committed.catch(() => {}); // met where it is awaited
      }
      await committed;
      const end = await this.#copyLast(lastBlock);
      if (this.#written !== end) await this.#sink.truncate(end);
    } catch (error) {
      await this.#leaveResumable();
      throw error;
    }
  }

  /** Copies a stretch, block by block, several at once. Throws when all of them have ended. */
  async #copyRange(from: number, to: number): Promise<void> {
    const { signal, memory } = this.#options;
    const inFlight = new Slots(this.#blocksInFlight);
    let previous: Promise<void> = Promise.resolve();
    for (let offset = from; offset < to; offset += memory.blockBytes) {
      await inFlight.take(signal).catch((error) => void (this.#failure ??= { error }));
      if (this.#failure !== undefined) break;
      const length = Math.min(memory.blockBytes, to - offset);
      const before = previous;
      const began = performance.now();
      const block = this.#copyBlock(offset, length, before)
        .catch((error) => void (this.#failure ??= { error }))
        .finally(() => {
          inFlight.give();
          const isLong = performance.now() - began > memory.blockBytes * LONG_MS_PER_BYTE;
          if (!isLong || (this.#blocksInFlight + 1) * memory.blockBytes > BYTES_IN_FLIGHT_MAX) return;
          this.#blocksInFlight++;
          inFlight.give();
        });
      previous = Promise.all([before, block]).then(() => {
        if (this.#failure === undefined) this.#done = offset + length;
      });
    }
    await previous;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #copyBlock(offset: number, length: number, previous: Promise<void>): Promise<void> {
    const { signal, memory, onProgress } = this.#options;
    using block = await memory.take(length, signal);
    const bytesRead = await this.#source.readAt(block.bytes, offset);
    if (bytesRead < length) throw new Error("the file became shorter while it was copied");
    if (this.#sink.isOrdered) await previous;
    signal.throwIfAborted();
    if (this.#failure !== undefined) return; // a gap before this block
    for (const { from, to } of this.#runs(block.bytes, offset)) {
      await this.#sink.writeAt(block.bytes.subarray(from, to), offset + from);
      this.#written = Math.max(this.#written, offset + to);
    }
    onProgress(length);
  }

  /** The last block, and what the file has grown by meanwhile. Returns where the file ends. */
  async #copyLast(from: number): Promise<number> {
    const { signal, memory, onProgress, size } = this.#options;
    // One byte more than there should be, so that one read finds the end.
    using block = await memory.take(Math.min(memory.blockBytes, size - from + 1), signal);
    for (let offset = from;;) {
      const bytesRead = await this.#source.readAt(block.bytes, offset);
      signal.throwIfAborted();
      const contents = block.bytes.subarray(0, bytesRead);
      for (const run of this.#runs(contents, offset)) {
        await this.#sink.writeLast(contents.subarray(run.from, run.to), offset + run.from);
        this.#written = Math.max(this.#written, offset + run.to);
      }
      if (offset < size) onProgress(Math.min(bytesRead, size - offset));
      offset += bytesRead;
      this.#done = offset;
      if (bytesRead < block.bytes.byteLength) return offset;
    }
  }

  /** Stretches of a block that have to be written. */
  #runs(bytes: Uint8Array, offset: number): { from: number; to: number }[] {
    if (!this.#options.keepHoles || offset < this.#options.existingSize) {
      return bytes.byteLength === 0 ? [] : [{ from: 0, to: bytes.byteLength }];
    }
    return dataRuns(bytes);
  }

  /** Waits for stable storage; copies again what a restart of the server has lost. */
  async #commit(): Promise<void> {
    for (let lost = await this.#sink.commit(); lost.length > 0; lost = await this.#sink.commit()) {
      const { blockBytes } = this.#options.memory;
      for (const { offset, length } of lost) {
        for (let at = offset; at < offset + length; at += blockBytes) {
          await this.#recopy(at, Math.min(blockBytes, offset + length - at));
        }
      }
    }
  }

  async #recopy(offset: number, length: number): Promise<void> {
    const { signal, memory } = this.#options;
    using block = await memory.take(length, signal);
    const bytesRead = await this.#source.readAt(block.bytes, offset);
    if (bytesRead < length) throw new Error("the file became shorter while it was copied");
    await this.#sink.writeAt(block.bytes.subarray(0, length), offset);
  }

  /** Cuts off what lies behind a gap, so that the length tells how far the copy came. */
  async #leaveResumable(): Promise<void> {
    if (this.#written <= this.#done) return;
    try {
      await this.#sink.truncate(this.#done);
      await this.#sink.commit();
    } catch {
      // The error that ended the copy says more.
    }
  }
}

/** Stretches of memory that are not all zeros, in units of `HOLE_BYTES`. */
export function dataRuns(bytes: Uint8Array): { from: number; to: number }[] {
  const runs: { from: number; to: number }[] = [];
  for (let from = 0; from < bytes.byteLength; from += HOLE_BYTES) {
    const unit = bytes.subarray(from, from + HOLE_BYTES);
    // The platform's memcmp: a loop here takes five times as long.
    if (Buffer.compare(unit, zeros.subarray(0, unit.byteLength)) === 0) continue;
    const last = runs.at(-1);
    if (last?.to === from) last.to += unit.byteLength;
    else runs.push({ from, to: from + unit.byteLength });
  }
  return runs;
}
