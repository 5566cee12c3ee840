/**
 * Storage, backends: a directory of this machine as a `FileSystem`.
 *
 * Confined by the kernel beneath its root (`openat2`), never by looking at paths. As root it acts with the caller's identity,
 * so that the kernel makes the access checks; as an ordinary user it acts as that user. Handles are sealed under a key in
 * the state directory. Other file systems mounted beneath the root are not served: a lookup of a mount point is EACCES. A file
 * that somebody on this machine moves out of the root can still be used by a handle given out before, where handles are the
 * kernel's; nothing else outside the root can.
 *
 * @module
 */
import { storageLibrary } from "../_ffi/library.ts";
import type { StorageSymbols } from "../_ffi/symbols.ts";
import { EBUSY, EINPROGRESS, fsError } from "./errno.ts";
import {
  type AttributeChanges,
  type CreateMode,
  type Credentials,
  type DirectoryEntry,
  type Entry,
  type FileAttributes,
  type FileHandle,
  type FileSystem,
  type FileSystemLimits,
  type FileSystemStatus,
  type FileType,
  FsError,
  type MaybePromise,
  type Stability,
  type Timespec,
} from "./file_system.ts";
import { Operation, REPLY_BYTES_MAX, ReplyReader, RequestWriter } from "./local_message.ts";
import { type Decode, LocalQueue } from "./local_queue.ts";

/** How often files that lie idle are looked for. */
const SWEEP_INTERVAL_MS = 2000;

/** Most bytes of one read or write; a longer read is cut short. */
const TRANSFER_BYTES_MAX = 2 ** 30;

/** How a directory is served. */
export interface LocalDirectoryOptions {
  /**
   * Where the key for handles lives, and the index for an ordinary user's. Made where it is missing.
   * `$XDG_STATE_HOME/weft` if absent, or `~/.local/state/weft`.
   */
  stateDirectory?: string;
  /**
   * Whether changes of names and attributes are on stable storage when they return, as RFC 1813 §4.8 wants it; true if
   * absent. False is faster and loses the last ones in a power cut. File contents are not concerned: they have COMMIT.
   */
  stable?: boolean;
  /** Which handles to give out: the kernel's where allowed (if absent), or always such as need the index. */
  handles?: "kernel" | "index";
}

/** What became of it. */
export interface LocalDirectoryTraits {
  /** Whether handles are the kernel's own; else they are followed through the index. */
  kernelHandles: boolean;
  /** Whether operations are carried out with the caller's identity; else with this process's. */
  takesIdentities: boolean;
  /** Whether the files live in memory only (tmpfs). */
  memoryBacked: boolean;
}

/** A served directory of this machine. */
export class LocalDirectory implements FileSystem {
  readonly root: FileHandle;
  readonly limits: FileSystemLimits;
  /** What the directory's file system can do. */
  readonly traits: LocalDirectoryTraits;
  readonly #symbols: StorageSymbols;
  readonly #id: number;
  readonly #queue: LocalQueue;
  readonly #request: RequestWriter;
  readonly #out = new Uint8Array(REPLY_BYTES_MAX);
  readonly #reply = new ReplyReader(this.#out);
  /** Whether changes of names and attributes wait for a disk. */
  readonly #stable: boolean;
  #sweeping: ReturnType<typeof setInterval> | undefined;
  #closed: Promise<void> | undefined;

  private constructor(symbols: StorageSymbols, id: number, reply: ReplyReader, stable: boolean) {
    this.#symbols = symbols;
    this.#id = id;
    this.#request = new RequestWriter();
    this.#queue = new LocalQueue(symbols, id, reply.i32());
    const traits = reply.u32();
    this.traits = {
      kernelHandles: (traits & 1) !== 0,
      takesIdentities: (traits & 2) !== 0,
      memoryBacked: (traits & 4) !== 0,
    };
    this.#stable = stable && !this.traits.memoryBacked;
    this.limits = {
      linkMax: reply.u32(),
      nameBytesMax: reply.u32(),
      fileBytesMax: reply.u64(),
      timeDeltaNanoseconds: 1,
    };
    this.root = reply.bytes(reply.u32());
  }

  /**
   * Serves a directory.
   *
   * @throws {FsError} ENOENT, ENOTDIR, EACCES (the key in the state directory is readable by others), EBUSY (another process
   * serves it with that state directory), EINVAL (the state directory lies within what is served, where kernel handles are
   * used), EPERM (run by root without the right to take on identities), ENOSYS (Linux before 5.8, or no /proc).
   */
  static open(path: string, options: LocalDirectoryOptions = {}): LocalDirectory {
    const symbols = storageLibrary();
    const { stateDirectory = defaultStateDirectory(), stable = true, handles = "kernel" } = options;
    const text = new TextEncoder();
    const request = new RequestWriter();
    request.string(text.encode(path)).string(text.encode(stateDirectory));
    request.u32((stable ? 1 : 0) | (handles === "index" ? 2 : 0));
    const out = new Uint8Array(256);
    const id = symbols.weft_fs_open(request.bytes, request.length, out, out.byteLength);
    if (id < 0) throw fsError(id, `cannot serve ${path} with the state in ${stateDirectory}`);
    return new LocalDirectory(symbols, id, new ReplyReader(out), stable);
  }

  getAttributes(file: FileHandle, as: Credentials): MaybePromise<FileAttributes> {
    this.#begin(as).file(file);
    return this.#call(Operation.GetAttributes, decodeAttributes);
  }

  setAttributes(
    file: FileHandle,
    changes: AttributeChanges,
    as: Credentials,
    guard?: Timespec,
  ): MaybePromise<FileAttributes> {
    this.#begin(as).file(file).changes(changes).guard(guard);
    const waits = this.#stable || changes.size !== undefined;
    return waits
      ? this.#submit(Operation.SetAttributes, decodeAttributes)
      : this.#call(Operation.SetAttributes, decodeAttributes);
  }

  lookup(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<Entry> {
    this.#begin(as).file(directory, name);
    return this.#call(Operation.Lookup, decodeEntry);
  }

  access(file: FileHandle, bits: number, as: Credentials): MaybePromise<number> {
    this.#begin(as).file(file).u32(bits);
    return this.#call(Operation.Access, (_status, reply) => reply.u32());
  }

  readLink(file: FileHandle, as: Credentials): MaybePromise<Uint8Array> {
    this.#begin(as).file(file);
    return this.#call(Operation.ReadLink, (_status, reply) => reply.bytes(reply.u32()));
  }

  read(
    file: FileHandle,
    offset: bigint,
    into: Uint8Array,
    as: Credentials,
  ): MaybePromise<{ bytesRead: number; eof: boolean }> {
    if (into.byteLength > TRANSFER_BYTES_MAX) into = into.subarray(0, TRANSFER_BYTES_MAX);
    const request = this.#begin(as).file(file).u64(offset).u32(0);
    const status = this.#callNow(Operation.Read, request, into);
    const reply = this.#reply;
    if (status < 0 && status !== -EINPROGRESS) throw fsError(status);
    const head = Math.max(status, 0);
    if (status >= 0) {
      const eof = reply.u32() !== 0;
      if (reply.u32() !== 0) return { bytesRead: head, eof };
    }
    // The rest has to come from the disk.
    this.#begin(as).file(file).u64(offset + BigInt(head)).memory([into], this.#symbols.weft_fs_address, head);
    const decode: Decode<{ bytesRead: number; eof: boolean }> = (more, reply) => ({
      bytesRead: head + more,
      eof: reply.u32() !== 0,
    });
    return this.#queue.submit(Operation.Read, request, decode, into);
  }

  write(
    file: FileHandle,
    offset: bigint,
    pieces: readonly Uint8Array[],
    stability: Stability,
    as: Credentials,
  ): MaybePromise<{ bytesWritten: number; committed: Stability }> {
    const request = this.#begin(as).file(file).u64(offset).u32(stability);
    const decode: Decode<{ bytesWritten: number; committed: Stability }> = (bytesWritten) => ({
      bytesWritten,
      committed: stability,
    });
    let length = 0;
    for (const piece of pieces) length += piece.byteLength;
    if (length > TRANSFER_BYTES_MAX) throw new FsError("EINVAL", "more bytes than one write may have");
    const single = pieces.length === 1;
    const status = this.#callNow(
      Operation.Write,
      single ? request.u32(0) : request.memory(pieces, this.#symbols.weft_fs_address),
      single ? pieces[0] : null,
    );
    if (status >= 0) return decode(status, this.#reply);
    if (status !== -EINPROGRESS) throw fsError(status);
    if (single) this.#begin(as).file(file).u64(offset).u32(stability).memory(pieces, this.#symbols.weft_fs_address);
    return this.#queue.submit(Operation.Write, request, decode, pieces);
  }

  create(directory: FileHandle, name: Uint8Array, mode: CreateMode, as: Credentials): MaybePromise<Entry> {
    this.#begin(as).file(directory, name).create(mode);
    return this.#submit(Operation.Create, decodeEntry);
  }

  makeDirectory(
    directory: FileHandle,
    name: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry> {
    this.#begin(as).file(directory, name).changes(changes);
    return this.#submit(Operation.MakeDirectory, decodeEntry);
  }

  symlink(
    directory: FileHandle,
    name: Uint8Array,
    target: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry> {
    this.#begin(as).file(directory, name).string(target).changes(changes);
    return this.#submit(Operation.Symlink, decodeEntry);
  }

  makeNode(
    directory: FileHandle,
    name: Uint8Array,
    node: { type: FileType; major: number; minor: number },
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry> {
    this.#begin(as).file(directory, name).u32(node.type).u32(node.major).u32(node.minor).changes(changes);
    return this.#submit(Operation.MakeNode, decodeEntry);
  }

  remove(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<void> {
    this.#begin(as).file(directory, name);
    return this.#submit(Operation.Remove, decodeNothing);
  }

  removeDirectory(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<void> {
    this.#begin(as).file(directory, name);
    return this.#submit(Operation.RemoveDirectory, decodeNothing);
  }

  rename(
    from: { directory: FileHandle; name: Uint8Array },
    to: { directory: FileHandle; name: Uint8Array },
    as: Credentials,
  ): MaybePromise<void> {
    this.#begin(as).file(from.directory, from.name).file(to.directory, to.name);
    return this.#submit(Operation.Rename, decodeNothing);
  }

  link(file: FileHandle, directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<FileAttributes> {
    this.#begin(as).file(file).file(directory, name);
    return this.#submit(Operation.Link, decodeAttributes);
  }

  readDirectory(
    directory: FileHandle,
    options: { cookie: bigint; entriesMax: number; attributes: boolean },
    as: Credentials,
  ): MaybePromise<{ entries: DirectoryEntry[]; eof: boolean }> {
    const { cookie, entriesMax, attributes } = options;
    this.#begin(as).file(directory).u64(cookie).u32(entriesMax).u32(attributes ? 1 : 0);
    const decode: Decode<{ entries: DirectoryEntry[]; eof: boolean }> = (_status, reply) => reply.listing();
    // With attributes it takes about 3 µs an entry.
    return attributes ? this.#submit(Operation.ReadDirectory, decode) : this.#call(Operation.ReadDirectory, decode);
  }

  status(file: FileHandle, as: Credentials): MaybePromise<FileSystemStatus> {
    this.#begin(as).file(file);
    return this.#call(Operation.Status, (_status, reply) => ({
      totalBytes: reply.u64(),
      freeBytes: reply.u64(),
      availableBytes: reply.u64(),
      totalFiles: reply.u64(),
      freeFiles: reply.u64(),
      availableFiles: reply.u64(),
    }));
  }

  commit(file: FileHandle, _offset: bigint, _lengthBytes: number, as: Credentials): MaybePromise<void> {
    this.#begin(as).file(file);
    return this.#submit(Operation.Commit, decodeNothing);
  }

  /** Waits for what is under way, then lets go of every file. Operations begun after this throw EBADF. Idempotent. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    await this.#queue.idle();
    clearInterval(this.#sweeping);
    while (this.#symbols.weft_fs_close(this.#id) === -EBUSY) await new Promise((resolve) => setTimeout(resolve, 1));
    await this.#queue.close();
  }

  /** Begins a request. */
  #begin(as: Credentials): RequestWriter {
    if (this.#closed) throw new FsError("EBADF", "the directory is not served any more");
    if (this.#sweeping === undefined) this.#sweepSometimes();
    return this.#request.begin(as);
  }

  /** Tries an operation on this thread. The reply is in `#reply`. */
  #callNow(operation: Operation, request: RequestWriter, data: Uint8Array | null): number {
    const out = this.#out;
    this.#reply.at(0);
    return this.#symbols.weft_fs_call(
      this.#id,
      operation,
      request.bytes,
      request.length,
      data as BufferSource | null,
      data === null ? 0 : data.byteLength,
      out,
      out.byteLength,
    );
  }

  /** Carries out the operation just written, on this thread if it need not wait. */
  #call<T>(operation: Operation, decode: Decode<T>): MaybePromise<T> {
    const status = this.#callNow(operation, this.#request, null);
    if (status >= 0) return decode(status, this.#reply);
    if (status === -EINPROGRESS) return this.#submit(operation, decode);
    throw fsError(status);
  }

  #submit<T>(operation: Operation, decode: Decode<T>): Promise<T> {
    return this.#queue.submit(operation, this.#request, decode);
  }

  /** Has idle files closed every now and then, as long as any are held. */
  #sweepSometimes(): void {
    this.#sweeping = setInterval(() => {
      if (this.#symbols.weft_fs_sweep(this.#id) > 0) return;
      clearInterval(this.#sweeping);
      this.#sweeping = undefined;
    }, SWEEP_INTERVAL_MS);
    this.#sweeping.unref();
  }
}

function decodeAttributes(_status: number, reply: ReplyReader): FileAttributes {
  return reply.attributes();
}

function decodeEntry(_status: number, reply: ReplyReader): Entry {
  return reply.entry();
}

function decodeNothing(): void {}

/** `$XDG_STATE_HOME/weft`, or `~/.local/state/weft`. */
function defaultStateDirectory(): string {
  const state = Deno.env.get("XDG_STATE_HOME");
  if (state?.startsWith("/")) return `${state}/weft`;
  const home = Deno.env.get("HOME");
  if (!home) {
    throw new FsError("ENOENT", "no place for the state: neither stateDirectory, XDG_STATE_HOME nor HOME is set");
  }
  return `${home}/.local/state/weft`;
}
