/**
 * An open file, with the members of `Deno.FsFile`.
 *
 * Reads land in the caller's memory, writes leave it, without a copy on the way. What `write` has accepted is never lost by a
 * restart of the server: small pieces are kept (in a copy) until they are on stable storage, larger ones are on stable storage
 * when `write` resolves, pieces of `writable` are kept by reference until they are.
 *
 * @module
 */
import { ftype3, NfsError, nfsstat3 } from "../storage/nfs/mod.ts";
import { asFileErrors, systemError } from "./errors.ts";
import { type NfsFileInfo, toFileInfo, toTime } from "./file_info.ts";
import type { Node, Options } from "./nfs/nfs_client.ts";
import { readRange, type TransferFile, writeRange } from "./nfs/transfer.ts";
import { UncommittedWrites } from "./nfs/uncommitted_writes.ts";
import { lostError, type Session } from "./session.ts";
import { Slots } from "./slots.ts";

/** Writes below this many bytes are copied, so that they need not wait for stable storage. */
export const COPY_BYTES_MAX = 8 * 1024;
/** Contents kept for a rewrite, bytes and pieces; with more, a COMMIT makes room. */
const RETAINED_BYTES_MAX = 32 * 1024 * 1024;
const RETAINED_COUNT_MAX = 1024;
/** Size of the pieces that `readable` reads into memory of its own. */
const CHUNK_BYTES = 256 * 1024;
/** Pieces of `writable` that are under way at once. */
const CHUNKS_IN_FLIGHT = 8;

const OFFSET_MAX = 2n ** 63n - 1n;

/** How a file was opened. */
export interface FileAccess {
  /** For reading. */
  read: boolean;
  /** For writing, at the position or (`append`) at the end. */
  write: boolean;
  /** Each write goes to the end. */
  append: boolean;
}

/** An open file of a mounted file system. */
export class NfsFile implements Disposable, AsyncDisposable {
  readonly #session: Session;
  readonly #node: Node;
  readonly #file: TransferFile;
  readonly #access: FileAccess;
  readonly #uncommitted: UncommittedWrites;
  /** Operations at the position wait for each other, as they do on a local file. */
  readonly #turn = new Slots(1);
  #position = 0n;
  #isClosed = false;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array<ArrayBufferLike>> | undefined;

  /** Opened by `NfsFileSystem.open`. */
  constructor(session: Session, node: Node, access: FileAccess) {
    this.#session = session;
    this.#node = node;
    this.#access = access;
    this.#file = session.transferFile(node);
    this.#uncommitted = new UncommittedWrites(this.#file);
  }

  /**
   * Reads at the position, straight into `p`: bytes read, or `null` at the end of the file. `p` belongs to the call until it
   * has settled.
   */
  async read(p: Uint8Array): Promise<number | null> {
    return await this.#run(async (call) => {
      this.#expectReadable();
      if (p.byteLength === 0) return 0;
      return await this.#turn.run(async () => {
        const { bytesRead } = await readRange(this.#file, { offset: this.#position, into: p }, call);
        this.#position += BigInt(bytesRead);
        return bytesRead === 0 ? null : bytesRead;
      }, call.signal);
    });
  }

  /** Reads at an offset, leaving the position alone; any number may be under way. */
  async readAt(p: Uint8Array, offset: number | bigint): Promise<number | null> {
    return await this.#run(async (call) => {
      this.#expectReadable();
      if (p.byteLength === 0) return 0;
      const { bytesRead } = await readRange(this.#file, { offset: toOffset(offset), into: p }, call);
      return bytesRead === 0 ? null : bytesRead;
    });
  }

  /**
   * Writes all of `p` at the position (at the end, for a file opened with `append`). `p` belongs to the call until it has settled.
   *
   * From 8 KiB on the data is on stable storage when this resolves, unless the file system was mounted with `writeThrough: false`;
   * less is when `sync` or the file's disposal does.
   */
  async write(p: Uint8Array): Promise<number> {
    return await this.#run(async (call) => {
      this.#expectWritable();
      return await this.#turn.run(async () => {
        if (this.#access.append) this.#position = (await this.#attributes(call)).size;
        await this.#write(p, this.#position, call);
        this.#position += BigInt(p.byteLength);
        return p.byteLength;
      }, call.signal);
    });
  }

  /**
   * Writes all of `p` at an offset, leaving the position alone; on stable storage when this resolves. Any number may be under way,
   * in places of their own.
   */
  async writeAt(p: Uint8Array, offset: number | bigint): Promise<number> {
    return await this.#run(async (call) => {
      this.#expectWritable();
      await this.#writeStable(p, toOffset(offset), call);
      return p.byteLength;
    });
  }

  /**
   * Writes at an offset without waiting for stable storage and without keeping the data; `commit` tells what is safe. For
   * those who can make the data again.
   */
  async writeUnstable(p: Uint8Array, offset: number | bigint): Promise<void> {
    await this.#run(async (call) => {
      this.#expectWritable();
      await this.#uncommitted.write({ offset: toOffset(offset), data: p }, call);
    });
  }

  /** Waits for stable storage. Returns the ranges of `writeUnstable` that a restart of the server lost: write them again. */
  async commit(): Promise<{ offset: bigint; length: number }[]> {
    return await this.#run((call) => this.#uncommitted.commit(call));
  }

  /** Moves the position; returns it. */
  async seek(offset: number | bigint, whence: Deno.SeekMode): Promise<number> {
    return await this.#run((call) =>
      this.#turn.run(async () => {
        const by = typeof offset === "bigint" ? offset : BigInt(Math.trunc(offset));
        let base = 0n;
        if (whence === Deno.SeekMode.Current) base = this.#position;
        else if (whence === Deno.SeekMode.End) base = (await this.#attributes(call)).size;
        else if (whence !== Deno.SeekMode.Start) throw new TypeError(`Invalid seek mode: ${whence}`);
        const position = base + by;
        if (position < 0n || position > OFFSET_MAX) throw systemError("EINVAL");
        this.#position = position;
        return Number(position);
      }, call.signal)
    );
  }

  /** What the server knows of the file now. */
  async stat(): Promise<NfsFileInfo> {
    return await this.#run(async (call) => toFileInfo(await this.#attributes(call), this.#session.blockBytes));
  }

  /** Sets the file's length: cut off, or filled up with a hole. */
  async truncate(len?: number): Promise<void> {
    await this.#run((call) =>
      this.#turn.run(async () => {
        if (!this.#access.write) throw systemError("EINVAL");
        const size = BigInt(Math.max(0, Math.trunc(len ?? 0)));
        await this.#session.client.setAttributes(this.#node.handle, { size }, call);
        this.#uncommitted.truncate(size);
      }, call.signal)
    );
  }

  /** Sets the times of last access and modification: dates, or seconds. */
  async utime(atime: number | Date, mtime: number | Date): Promise<void> {
    await this.#run(async (call) => {
      await this.#commit(call); // what is written later would change them again
      await this.#session.client.setAttributes(this.#node.handle, { atime: toTime(atime), mtime: toTime(mtime) }, call);
    });
  }

  /** Waits until everything written is on stable storage. */
  async sync(): Promise<void> {
    await this.#run((call) => this.#turn.run(() => this.#commit(call), call.signal));
  }

  /** As `sync`. */
  async syncData(): Promise<void> {
    await this.sync();
  }

  /** Never. */
  isTerminal(): boolean {
    return false;
  }

  /** The rest of the file as a byte stream; bytes go straight into a BYOB reader's memory. The file closes when it ends. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: CHUNK_BYTES,
      pull: async (controller) => {
        const request = controller.byobRequest!;
        const bytesRead = await this.read(request.view as Uint8Array);
        if (bytesRead === null) {
          this.#close();
          controller.close();
        }
        request.respond(bytesRead ?? 0);
      },
      cancel: () => this.#close(),
    });
  }

  /**
   * A stream that writes at the position. Chunks must not change once they are written: they are sent from where they lie and kept
   * until they are on stable storage. Closing it does so, and closes the file.
   */
  get writable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    return this.#writable ??= this.#makeWritable();
  }

  /**
   * Closes the file. What is not on stable storage yet goes there in the background; closing the file system waits for that and
   * throws what went wrong.
   */
  close(): void {
    if (this.#isClosed) throw new Deno.errors.BadResource("Bad resource ID");
    this.#close();
  }

  /** As `close`; does nothing the second time. */
  [Symbol.dispose](): void {
    if (!this.#isClosed) this.#close();
  }

  /** Waits until everything written is on stable storage, and closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await asFileErrors(undefined, () => this.#commit(this.#session.call()));
  }

  #close(): void {
    this.#isClosed = true;
    if (this.#uncommitted.count > 0) this.#session.runInBackground(this.#commit(this.#session.call()));
  }

  async #run<T>(operation: (call: Options & { signal: AbortSignal }) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw new Deno.errors.BadResource("Bad resource ID");
    return await asFileErrors(undefined, () => operation(this.#session.call()));
  }

  async #attributes(call: Options): Promise<Node["attributes"]> {
    return await this.#session.client.getAttributes(this.#node.handle, call);
  }

  #expectReadable(): void {
    if (!this.#access.read) throw systemError("EBADF");
    if (this.#node.attributes.type === ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_ISDIR);
  }

  #expectWritable(): void {
    if (!this.#access.write) throw systemError("EBADF");
  }

  async #write(p: Uint8Array, offset: bigint, call: Options): Promise<void> {
    if (p.byteLength === 0) return;
    if (p.byteLength < COPY_BYTES_MAX) {
      await this.#uncommitted.write({ offset, data: p, retained: p.slice() }, call);
      await this.#makeRoom(call);
    } else if (!this.#session.options.writeThrough) {
      await this.#uncommitted.write({ offset, data: p }, call);
    } else {
      await this.#writeStable(p, offset, call);
    }
  }

  async #writeStable(p: Uint8Array, offset: bigint, call: Options): Promise<void> {
    if (p.byteLength === 0) return;
    if (p.byteLength <= this.#file.writeBytesMax) {
      await writeRange(this.#file, { offset, data: p, stable: true }, call);
      this.#uncommitted.supersede({ offset, length: p.byteLength });
    } else {
      await this.#uncommitted.write({ offset, data: p, retained: p }, call);
      await this.#commit(call);
    }
  }

  async #makeRoom(call: Options): Promise<void> {
    const { retainedBytes, count } = this.#uncommitted;
    if (retainedBytes > RETAINED_BYTES_MAX || count > RETAINED_COUNT_MAX) await this.#commit(call);
  }

  async #commit(call: Options): Promise<void> {
    const lost = await this.#uncommitted.commit(call);
    if (lost.length > 0) throw lostError(lost);
  }

  #makeWritable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    const slots = new Slots(CHUNKS_IN_FLIGHT);
    let failure: { error: unknown } | undefined;
    const inFlight = new Set<Promise<void>>();
    const settle = async () => {
      await Promise.all(inFlight);
      if (failure !== undefined) throw failure.error;
    };
    return new WritableStream({
      write: async (chunk) => {
        if (failure !== undefined) throw failure.error;
        if (this.#access.append || chunk.byteLength < COPY_BYTES_MAX) {
          await this.write(chunk);
          return;
        }
        await this.#run(async (call) => {
          this.#expectWritable();
          const offset = this.#position;
          this.#position += BigInt(chunk.byteLength);
          await slots.take(call.signal);
          const sent = this.#uncommitted.write({ offset, data: chunk, retained: chunk }, call)
            .catch((error) => void (failure ??= { error }))
            .finally(() => {
              slots.give();
              inFlight.delete(sent);
            });
          inFlight.add(sent);
          await this.#makeRoom(call);
        });
      },
      close: async () => {
        await asFileErrors(undefined, settle);
        await this[Symbol.asyncDispose]();
      },
      abort: async () => {
        await Promise.all(inFlight);
        if (!this.#isClosed) this.#close();
      },
    });
  }
}

function toOffset(offset: number | bigint): bigint {
  const at = BigInt(offset);
  if (at < 0n || at > OFFSET_MAX) throw systemError("EINVAL");
  return at;
}
