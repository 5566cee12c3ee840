/**
 * Both ends of a copy, whether here or on a server: blocks at offsets, in memory that the copy owns.
 *
 * @module
 */
import type { NfsFile } from "../file.ts";
import type { FileLike } from "../file_api.ts";
import type { NfsFileInfo } from "../file_info.ts";
import { Slots } from "../slots.ts";

/** One end of a copy. */
export interface CopyEnd extends AsyncDisposable {
  /** Fills `p` from an offset, unless the file ends before; bytes read. */
  readAt(p: Uint8Array, offset: number): Promise<number>;
  /** Writes all of `p`; it may take a `commit` to be safe. */
  writeAt(p: Uint8Array, offset: number): Promise<void>;
  /** Writes all of `p` in a way that it needs no `commit`. */
  writeLast(p: Uint8Array, offset: number): Promise<void>;
  /** Returns ranges that have to be written again. */
  commit(): Promise<{ offset: number; length: number }[]>;
  truncate(size: number): Promise<void>;
  /** Blocks must be written one behind the other. */
  readonly isOrdered: boolean;
}

/** A local file. It has one position, so blocks take turns. */
export class LocalEnd implements CopyEnd {
  readonly isOrdered = true;
  readonly #file: FileLike;
  readonly #turn = new Slots(1);
  #position = 0;

  constructor(file: FileLike) {
    this.#file = file;
  }

  async readAt(p: Uint8Array, offset: number): Promise<number> {
    return await this.#turn.run(async () => {
      await this.#seek(offset);
      let length = 0;
      while (length < p.byteLength) {
        const bytesRead = await this.#file.read(length === 0 ? p : p.subarray(length));
        if (bytesRead === null) break;
        length += bytesRead;
        this.#position += bytesRead;
      }
      return length;
    });
  }

  async writeAt(p: Uint8Array, offset: number): Promise<void> {
    await this.#turn.run(async () => {
      await this.#seek(offset);
      for (let at = 0; at < p.byteLength;) {
        const bytesWritten = await this.#file.write(at === 0 ? p : p.subarray(at));
        at += bytesWritten;
        this.#position += bytesWritten;
      }
    });
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

  async #seek(offset: number): Promise<void> {
    if (offset === this.#position) return;
    this.#position = await this.#file.seek(offset, Deno.SeekMode.Start);
  }
}

/** A file of a server. */
export class NfsEnd implements CopyEnd {
  readonly isOrdered = false;
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
