/**
 * What a file's server has taken but not put on stable storage yet, and what to do when the server restarts before it has
 * (RFC 1813 §4.8: the write verifier).
 *
 * @module
 */
import { Slots } from "../slots.ts";
import type { Options } from "./nfs_client.ts";
import { type TransferFile, type UnstableRange, writeRange } from "./transfer.ts";

/** How often in a row data is written again because the server restarted once more. */
const REWRITES_MAX = 8;

/** A part of a file: its first byte, and how many. */
export interface FileRange {
  offset: bigint;
  length: number;
}

interface Pending extends UnstableRange {
  /** The contents, where they are still at hand. */
  data?: Uint8Array;
  /** Grows with each write. */
  sequence: number;
}

/** Writes to one file that wait for their COMMIT. Ranges never overlap: a later write takes the place of what it covers. */
export class UncommittedWrites {
  readonly #file: TransferFile;
  /** By offset. */
  #pending: Pending[] = [];
  #retainedBytes = 0;
  #sequence = 0;
  /** Lost, and not told yet. */
  readonly #lost: FileRange[] = [];
  /** One COMMIT at a time, so that whoever asks for one knows that everything before is safe when it returns. */
  readonly #committing = new Slots(1);
  /** Writes under way; while old contents are written again there are none, so that these never land on newer ones. */
  #writing = 0;
  #onIdle: (() => void) | undefined;
  #rewriting: Promise<void> | undefined;

  constructor(file: TransferFile) {
    this.#file = file;
  }

  /** Ranges that wait. */
  get count(): number {
    return this.#pending.length;
  }

  /** Bytes of contents that are kept in memory for a rewrite. */
  get retainedBytes(): number {
    return this.#retainedBytes;
  }

  /**
   * Writes, UNSTABLE. `retained`: memory with the same contents that stays as it is until the COMMIT; without it the range
   * cannot be written again.
   */
  async write(
    range: { offset: bigint; data: Uint8Array; retained?: Uint8Array },
    options?: Options,
  ): Promise<void> {
    while (this.#rewriting !== undefined) await this.#rewriting;
    this.#writing++;
    try {
      await this.#write(range, options);
    } finally {
      if (--this.#writing === 0) this.#onIdle?.();
    }
  }

  /** Forgets what lies in a range, because something newer is there. */
  supersede(range: FileRange): void {
    const end = endOf(range);
    if (range.length === 0) return;
    const first = this.#indexAt(range.offset);
    let after = first;
    while (after < this.#pending.length && this.#pending[after].offset < end) after++;
    if (after === first) return;
    // Only the outermost two can reach beyond the range.
    const before = part(this.#pending[first], this.#pending[first].offset, range.offset);
    const behind = part(this.#pending[after - 1], end, endOf(this.#pending[after - 1]));
    this.#splice(first, after - first, [before, behind].filter(({ length }) => length > 0));
  }

  /** Forgets what lies at or behind a file's new end. */
  truncate(size: bigint): void {
    const last = this.#pending.at(-1);
    if (last !== undefined && endOf(last) > size) this.supersede({ offset: size, length: Number(endOf(last) - size) });
  }

  /**
   * Brings everything written so far to stable storage. Contents that the server lost in a restart are written again; ranges
   * whose contents are not at hand any more are returned: they are lost.
   */
  async commit(options?: Options): Promise<FileRange[]> {
    return await this.#committing.run(async () => {
      for (let attempt = 0; this.#pending.length > 0; attempt++) {
        const last = this.#sequence;
        const verifier = await this.#file.client.commit(this.#file.handle, options);
        const wasWritten = (entry: Pending) => entry.sequence <= last;
        this.#keep((entry) => !(wasWritten(entry) && entry.verifier === verifier));
        if (!this.#pending.some(wasWritten)) break;
        if (attempt === REWRITES_MAX) {
          throw new Error(`the server restarted ${REWRITES_MAX} times while data was written to it`);
        }
        await this.#rewrite(wasWritten, options);
      }
      return this.#lost.splice(0);
    }, options?.signal);
  }

  /** Writes the chosen ranges again, with nothing else under way; what fails stays pending. */
  async #rewrite(isChosen: (entry: Pending) => boolean, options?: Options): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#rewriting = promise;
    try {
      if (this.#writing > 0) await new Promise<void>((idle) => this.#onIdle = idle);
      for (const entry of this.#pending.filter(isChosen)) {
        const { offset, length, data } = entry;
        if (data !== undefined) {
          await this.#write({ offset, data, retained: data }, options);
        } else {
          this.#lost.push({ offset, length });
          this.#keep((other) => other !== entry);
        }
      }
    } finally {
      this.#onIdle = undefined;
      this.#rewriting = undefined;
      resolve();
    }
  }

  async #write(range: { offset: bigint; data: Uint8Array; retained?: Uint8Array }, options?: Options): Promise<void> {
    const { offset, data, retained } = range;
    const unstable = await writeRange(this.#file, { offset, data, stable: false }, options);
    this.supersede({ offset, length: data.byteLength });
    const sequence = ++this.#sequence;
    for (const part of unstable) {
      const at = Number(part.offset - offset);
      this.#add({ ...part, sequence, data: retained?.subarray(at, at + part.length) });
    }
  }

  /** Puts an entry where there is none. */
  #add(entry: Pending): void {
    this.#splice(this.#indexAt(entry.offset), 0, [entry]);
  }

  #keep(isKept: (entry: Pending) => boolean): void {
    this.#pending = this.#pending.filter(isKept);
    this.#retainedBytes = this.#pending.reduce((sum, { data }) => sum + (data?.byteLength ?? 0), 0);
  }

  #splice(at: number, count: number, entries: Pending[]): void {
    for (const entry of this.#pending.splice(at, count, ...entries)) this.#retainedBytes -= entry.data?.byteLength ?? 0;
    for (const entry of entries) this.#retainedBytes += entry.data?.byteLength ?? 0;
  }

  /** Where the first entry stands that ends behind `offset`. */
  #indexAt(offset: bigint): number {
    let low = 0;
    for (let high = this.#pending.length; low < high;) {
      const middle = (low + high) >> 1;
      if (endOf(this.#pending[middle]) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function endOf({ offset, length }: FileRange): bigint {
  return offset + BigInt(length);
}

function part(entry: Pending, from: bigint, to: bigint): Pending {
  const start = Number(from - entry.offset);
  const length = Number(to - from);
  return { ...entry, offset: from, length, data: entry.data?.subarray(start, start + length) };
}
