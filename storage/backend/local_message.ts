/**
 * Storage, backends: requests to native code and its replies as bytes, little-endian (storage/native/src/message.rs and ops/).
 *
 * @module
 */
import {
  type AttributeChanges,
  type CreateMode,
  type Credentials,
  type DirectoryEntry,
  type Entry,
  type FileAttributes,
  type FileHandle,
  type FileType,
  FsError,
  type Timespec,
} from "./file_system.ts";

/** Operations by number (storage/native/src/ops/mod.rs). */
export const Operation = {
  GetAttributes: 1,
  SetAttributes: 2,
  Lookup: 3,
  Access: 4,
  ReadLink: 5,
  Read: 6,
  Write: 7,
  Create: 8,
  MakeDirectory: 9,
  Symlink: 10,
  MakeNode: 11,
  Remove: 12,
  RemoveDirectory: 13,
  Rename: 14,
  Link: 15,
  ReadDirectory: 16,
  Status: 17,
  Commit: 18,
} as const;
export type Operation = typeof Operation[keyof typeof Operation];

/** Most bytes of a request. */
export const REQUEST_BYTES_MAX = 32 << 10;
/** Bytes of the longest reply. */
export const REPLY_BYTES_MAX = 1 << 16;
/** Longest byte string in a request: what is longer is too long for any file system (PATH_MAX). */
const STRING_BYTES_MAX = 4096;
/** Pieces of one write (IOV_MAX). */
export const PIECES_MAX = 1024;
/** Supplementary groups of a caller. */
const GROUPS_MAX = 64;
const HANDLE_BYTES_MAX = 64;

/** Writes requests into one buffer, again and again. */
export class RequestWriter {
  /** The buffer. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_BYTES_MAX);
  /** Bytes of the request so far. */
  length = 0;
  readonly #view = new DataView(this.bytes.buffer);

  /** Begins a request with whose it is. */
  begin(as: Credentials): this {
    const { uid, gid, gids } = as;
    if (gids.length > GROUPS_MAX) throw new FsError("EINVAL", `more than ${GROUPS_MAX} groups`);
    this.length = 0;
    this.u32(uid).u32(gid).u32(gids.length);
    for (let index = 0; index < gids.length; index++) this.u32(gids[index]);
    return this;
  }

  /** A 32-bit number. */
  u32(value: number): this {
    this.#view.setUint32(this.length, value, true);
    this.length += 4;
    return this;
  }

  /** A 64-bit number; negative ones as two's complement. */
  u64(value: bigint): this {
    this.#view.setBigUint64(this.length, value, true);
    this.length += 8;
    return this;
  }

  /** A counted byte string: a handle, a name, a target. */
  string(value: Uint8Array): this {
    if (value.byteLength > STRING_BYTES_MAX) throw new FsError("ENAMETOOLONG");
    this.u32(value.byteLength);
    this.bytes.set(value, this.length);
    this.length += value.byteLength;
    return this;
  }

  /** A handle and, where there is one, a name. */
  file(handle: FileHandle, name?: Uint8Array): this {
    if (handle.byteLength > HANDLE_BYTES_MAX) throw new FsError("EBADHANDLE");
    this.string(handle);
    return name === undefined ? this : this.string(name);
  }

  /** Attributes to set: a mask, then every field. */
  changes({ mode, uid, gid, size, atime, mtime }: AttributeChanges): this {
    let mask = 0;
    if (mode !== undefined) mask |= 1;
    if (uid !== undefined) mask |= 2;
    if (gid !== undefined) mask |= 4;
    if (size !== undefined) mask |= 8;
    if (atime !== undefined) mask |= atime === "now" ? 32 : 16;
    if (mtime !== undefined) mask |= mtime === "now" ? 128 : 64;
    this.u32(mask).u32(mode ?? 0).u32(uid ?? 0).u32(gid ?? 0).u64(size ?? 0n);
    return this.#time(atime).#time(mtime);
  }

  /** A ctime that the file must have, or none. */
  guard(guard: Timespec | undefined): this {
    return this.u32(guard ? 1 : 0).#time(guard);
  }

  /** How to create. */
  create(mode: CreateMode): this {
    if (mode.kind !== "exclusive") return this.u32(mode.kind === "unchecked" ? 0 : 1).changes(mode.changes);
    const { verifier } = mode;
    if (verifier.byteLength !== 8) throw new FsError("EINVAL", "a verifier is 8 bytes");
    const view = new DataView(verifier.buffer, verifier.byteOffset, 8);
    return this.u32(2).u32(view.getUint32(0)).u32(view.getUint32(4));
  }

  /**
   * Memory by address, without the first bytes of each piece. Whoever asks for this must keep the pieces until the operation
   * is completed.
   */
  memory(pieces: readonly Uint8Array[], addressOf: (piece: BufferSource) => number, skipBytes = 0): this {
    if (pieces.length > PIECES_MAX) throw new FsError("EINVAL", `more than ${PIECES_MAX} pieces`);
    this.u32(pieces.length);
    for (const piece of pieces) {
      const address = piece.byteLength === 0 ? 0 : addressOf(piece as BufferSource);
      this.u64(BigInt(address + skipBytes)).u64(BigInt(piece.byteLength - skipBytes));
    }
    return this;
  }

  #time(time: Timespec | "now" | undefined): this {
    if (time === undefined || time === "now") return this.u64(0n).u32(0);
    return this.u64(BigInt.asUintN(64, time.seconds)).u32(time.nanoseconds);
  }
}

/** Reads a reply from front to back. */
export class ReplyReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Goes to a position. */
  at(position: number): this {
    this.#at = position;
    return this;
  }

  /** The position behind what was read. */
  get position(): number {
    return this.#at;
  }

  /** A 32-bit number. */
  u32(): number {
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  /** A signed 32-bit number. */
  i32(): number {
    return this.u32() | 0;
  }

  /** A 64-bit number. */
  u64(): bigint {
    this.#at += 8;
    return this.#view.getBigUint64(this.#at - 8, true);
  }

  /** A copy of so many bytes. */
  bytes(count: number): Uint8Array {
    this.#at += count;
    return this.#bytes.slice(this.#at - count, this.#at);
  }

  /** Attributes: ten words of 32 bits, then seven of 64. */
  attributes(): FileAttributes {
    const view = this.#view;
    const at = this.#at;
    this.#at += 96;
    return {
      type: view.getUint32(at, true) as FileType,
      mode: view.getUint32(at + 4, true),
      nlink: view.getUint32(at + 8, true),
      uid: view.getUint32(at + 12, true),
      gid: view.getUint32(at + 16, true),
      size: view.getBigUint64(at + 40, true),
      used: view.getBigUint64(at + 48, true),
      rdevMajor: view.getUint32(at + 20, true),
      rdevMinor: view.getUint32(at + 24, true),
      fsid: view.getBigUint64(at + 56, true),
      fileid: view.getBigUint64(at + 64, true),
      atime: { seconds: view.getBigInt64(at + 72, true), nanoseconds: view.getUint32(at + 28, true) },
      mtime: { seconds: view.getBigInt64(at + 80, true), nanoseconds: view.getUint32(at + 32, true) },
      ctime: { seconds: view.getBigInt64(at + 88, true), nanoseconds: view.getUint32(at + 36, true) },
    };
  }

  /** A handle and attributes. */
  entry(): Entry {
    const length = this.u32();
    const handle = this.#bytes.slice(this.#at, this.#at + length);
    this.#at += HANDLE_BYTES_MAX;
    return { handle, attributes: this.attributes() };
  }

  /** A part of a directory. */
  listing(): { entries: DirectoryEntry[]; eof: boolean } {
    const count = this.u32();
    const eof = this.u32() !== 0;
    const entries: DirectoryEntry[] = [];
    for (let index = 0; index < count; index++) {
      const cookie = this.u64();
      const fileid = this.u64();
      const nameBytes = this.u32();
      const entry = this.u32() !== 0 ? this.entry() : undefined;
      entries.push({ name: this.bytes(nameBytes), fileid, cookie, entry });
    }
    return { entries, eof };
  }
}
