/**
 * The one interface between a file server and where the bytes live.
 *
 * Every method takes the caller's credentials; a backend that can, lets the kernel make the access checks with them.
 * Methods return a value when it is at hand and a promise when they had to wait, so that a hot path is not slowed by
 * needless turns of the event loop. They throw `FsError`.
 *
 * @module
 */

/** A value now, or later. */
export type MaybePromise<T> = T | Promise<T>;

/** Opaque name of a file that survives renames and restarts; at most 64 bytes (NFS3_FHSIZE, RFC 1813 §2.4). */
export type FileHandle = Uint8Array;

/** Whose rights an operation is carried out with. */
export interface Credentials {
  uid: number;
  gid: number;
  /** Supplementary groups. */
  gids: readonly number[];
}

/** Seconds and nanoseconds since 1970-01-01 UTC. */
export interface Timespec {
  seconds: bigint;
  nanoseconds: number;
}

/** The kinds of file, in the order of `ftype3` (RFC 1813 §2.3.5), 1 to 7. */
export const FileType = {
  Regular: 1,
  Directory: 2,
  BlockDevice: 3,
  CharacterDevice: 4,
  Symlink: 5,
  Socket: 6,
  Fifo: 7,
} as const;
export type FileType = typeof FileType[keyof typeof FileType];

/** What `stat` tells. */
export interface FileAttributes {
  type: FileType;
  /** Permission bits, 0o7777. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: bigint;
  /** Bytes of storage in use; less than `size` for a sparse file. */
  used: bigint;
  rdevMajor: number;
  rdevMinor: number;
  fsid: bigint;
  fileid: bigint;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
}

/** What to change; an absent field stays as it is. `"now"`: the server's clock. */
export interface AttributeChanges {
  mode?: number;
  uid?: number;
  gid?: number;
  size?: bigint;
  atime?: Timespec | "now";
  mtime?: Timespec | "now";
}

/** A file found or made. */
export interface Entry {
  handle: FileHandle;
  attributes: FileAttributes;
}

/** One name in a directory. */
export interface DirectoryEntry {
  name: Uint8Array;
  fileid: bigint;
  /** Position behind this entry, to resume at. */
  cookie: bigint;
  /** Set where asked for and where the entry could be looked up. */
  entry?: Entry;
}

/** `ACCESS3_*` bits (RFC 1813 §3.3.4). */
export const Access = { Read: 0x01, Lookup: 0x02, Modify: 0x04, Extend: 0x08, Delete: 0x10, Execute: 0x20 } as const;

/** How far written data must have come before `write` returns: `stable_how` (RFC 1813 §3.3.7). */
export const Stability = { Unstable: 0, DataSync: 1, FileSync: 2 } as const;
export type Stability = typeof Stability[keyof typeof Stability];

/** How `create` treats a name that exists: `createmode3` (RFC 1813 §3.3.8). */
export type CreateMode =
  | { kind: "unchecked"; changes: AttributeChanges }
  | { kind: "guarded"; changes: AttributeChanges }
  | { kind: "exclusive"; verifier: Uint8Array };

/** Capacity in bytes and files. */
export interface FileSystemStatus {
  totalBytes: bigint;
  freeBytes: bigint;
  availableBytes: bigint;
  totalFiles: bigint;
  freeFiles: bigint;
  availableFiles: bigint;
}

/** What a backend can do, for FSINFO and PATHCONF. */
export interface FileSystemLimits {
  linkMax: number;
  nameBytesMax: number;
  fileBytesMax: bigint;
  /** Granularity of times, nanoseconds. */
  timeDeltaNanoseconds: number;
}

/** A system error: `code` is the errno's name ("ENOENT", "ESTALE", "EACCES", …). */
export class FsError extends Error {
  override readonly name = "FsError";
  constructor(readonly code: string, message?: string, options?: ErrorOptions) {
    super(message ?? code, options);
  }
}

/** A tree of files. Names are bytes without "/" and NUL, 1 to `nameBytesMax` long, never "." or ".."; anything else is the caller's fault: EINVAL. */
export interface FileSystem extends AsyncDisposable {
  /** The root directory's handle. */
  readonly root: FileHandle;
  readonly limits: FileSystemLimits;

  getAttributes(file: FileHandle, as: Credentials): MaybePromise<FileAttributes>;
  /** `guard`: the ctime that the file must have (EAGAIN where it differs: NFS3ERR_NOT_SYNC). */
  setAttributes(
    file: FileHandle,
    changes: AttributeChanges,
    as: Credentials,
    guard?: Timespec,
  ): MaybePromise<FileAttributes>;
  /** "." and ".." are allowed here; ".." of the root is the root. */
  lookup(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<Entry>;
  /** Returns those of the asked `Access` bits that are granted. */
  access(file: FileHandle, bits: number, as: Credentials): MaybePromise<number>;
  readLink(file: FileHandle, as: Credentials): MaybePromise<Uint8Array>;
  /** Reads up to `into.byteLength` bytes at `offset`, straight into `into`, which must stay untouched until the result is there. */
  read(
    file: FileHandle,
    offset: bigint,
    into: Uint8Array,
    as: Credentials,
  ): MaybePromise<{ bytesRead: number; eof: boolean }>;
  /** Writes the pieces one behind the other at `offset`, from where they lie. All or an error, except that a full disk may leave a short count. */
  write(
    file: FileHandle,
    offset: bigint,
    pieces: readonly Uint8Array[],
    stability: Stability,
    as: Credentials,
  ): MaybePromise<{ bytesWritten: number; committed: Stability }>;
  create(directory: FileHandle, name: Uint8Array, mode: CreateMode, as: Credentials): MaybePromise<Entry>;
  makeDirectory(
    directory: FileHandle,
    name: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry>;
  symlink(
    directory: FileHandle,
    name: Uint8Array,
    target: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry>;
  makeNode(
    directory: FileHandle,
    name: Uint8Array,
    node: { type: FileType; major: number; minor: number },
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry>;
  /** Removes a name that is not a directory. */
  remove(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<void>;
  removeDirectory(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<void>;
  rename(
    from: { directory: FileHandle; name: Uint8Array },
    to: { directory: FileHandle; name: Uint8Array },
    as: Credentials,
  ): MaybePromise<void>;
  link(file: FileHandle, directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<FileAttributes>;
  /**
   * Entries behind `cookie` (0: from the start, "." and ".." included), at most `entriesMax`. `attributes`: look each one up (READDIRPLUS).
   * EINVAL where the cookie cannot be one of this directory's.
   */
  readDirectory(
    directory: FileHandle,
    options: { cookie: bigint; entriesMax: number; attributes: boolean },
    as: Credentials,
  ): MaybePromise<{ entries: DirectoryEntry[]; eof: boolean }>;
  status(file: FileHandle, as: Credentials): MaybePromise<FileSystemStatus>;
  /** Returns when everything written to the range is on stable storage. */
  commit(file: FileHandle, offset: bigint, lengthBytes: number, as: Credentials): MaybePromise<void>;
}
