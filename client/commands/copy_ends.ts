/**
 * Both ends of a copy, whether here or on a server: blocks at offsets, in memory that the copy owns.
 *
 * @module
 */
import type { NfsFile } from "../file.ts";
import type { NfsFileInfo } from "../file_info.ts";

/** One end of a copy. */
export interface CopyEnd extends AsyncDisposable {
  /** Fills `p` from an offset, unless the file ends before; bytes read. */
  readAt(p: Uint8Array, offset: number): Promise<number>;
  /** Writes all of `p`; it may take a `commit` to be safe. */
  writeAt(p: Uint8Array, offset: number): Promise<void>;
  /** Writes all of `p` in a way that it needs no `commit`. */
  writeLast(p: Uint8Array, offset: number): Promise<void>;
  /** After how much of a file to `commit`, so that an interrupted copy has little to do again. */
  readonly commitBytes: number;
  /** Returns ranges that have to be written again. */
  commit(): Promise<{ offset: number; length: number }[]>;
  truncate(size: number): Promise<void>;
  /** Blocks must be written one behind the other. */
  readonly isOrdered: boolean;
}

/**
 * A local file. Read and written at once, without the runtime's pool of threads: the kernel has the data, or takes it, and meanwhile the
 * core's own thread serves the server. The hand-over to a pool and back costs a tenth of a copy's time.
 */
export class LocalEnd implements CopyEnd {
  readonly isOrdered = true;
  /** At the end: `commit` does nothing, but what is under way ends before it. */
  readonly commitBytes = Infinity;
  readonly #file: Deno.FsFile;
  #position = 0;

  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  // `async`, so that errors come as rejections
  // deno-lint-ignore require-await
  async readAt(p: Uint8Array, offset: number): Promise<number> {
    this.#seek(offset);
    let length = 0;
    while (length < p.byteLength) {
      const bytesRead = this.#file.readSync(p.subarray(length));
      if (bytesRead === null) break;
      length += bytesRead;
      this.#position += bytesRead;
    }
    return length;
  }

  // deno-lint-ignore require-await
  async writeAt(p: Uint8Array, offset: number): Promise<void> {
    this.#seek(offset);
    for (let at = 0; at < p.byteLength;) {
      const bytesWritten = this.#file.writeSync(p.subarray(at));
      at += bytesWritten;
      this.#position += bytesWritten;
    }
  }

  async writeLast(p: Uint8Array, offset: number): Promise<void> {
    await this.writeAt(p, offset);
  }

  /** As other programs do, it leaves local files to the kernel. */
  commit(): Promise<{ offset: number; length: number }[]> {
    return Promise.resolve([]);
  }

  async truncate(size: number): Promise<void> {
    await this.#file.truncate(size);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#file[Symbol.dispose]();
    return Promise.resolve();
  }

  #seek(offset: number): void {
    if (offset === this.#position) return;
    this.#position = this.#file.seekSync(offset, Deno.SeekMode.Start);
  }
}

/** A file of a server. */
export class NfsEnd implements CopyEnd {
  readonly isOrdered = false;
  readonly commitBytes = 64 * 1024 * 1024;
  readonly #file: NfsFile;

  constructor(file: NfsFile) {
    this.#file = file;
  }

  async readAt(p: Uint8Array, offset: number): Promise<number> {
    return await this.#file.readAt(p, offset) ?? 0;
  }

  async writeAt(p: Uint8Array, offset: number): Promise<void> {
    await this.#file.writeUnstable(p, offset);
  }

  async writeLast(p: Uint8Array, offset: number): Promise<void> {
    await this.#file.writeAt(p, offset);
  }

  async commit(): Promise<{ offset: number; length: number }[]> {
    const lost = await this.#file.commit();
    return lost.map(({ offset, length }) => ({ offset: Number(offset), length }));
  }

  async truncate(size: number): Promise<void> {
    await this.#file.truncate(size);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }
}

/** Bytes of storage that a file takes; less than its size where it has holes. `undefined`: nobody knows. */
export function usedBytes(info: Deno.FileInfo): number | undefined {
  const { attributes } = info as Partial<NfsFileInfo>;
  if (attributes !== undefined) return Number(attributes.used);
  return info.blocks === null ? undefined : info.blocks * 512;
}
