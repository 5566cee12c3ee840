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
  /** User. */
  uid: number;
  /** Group. */
  gid: number;
  /** Supplementary groups. */
  gids: readonly number[];
}

/** Seconds and nanoseconds since 1970-01-01 UTC. */
export interface Timespec {
  /** Whole seconds; negative before 1970. */
  seconds: bigint;
  /** 0 to 999 999 999, behind the seconds. */
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
/** One of the kinds of file. */
export type FileType = typeof FileType[keyof typeof FileType];

/** What `stat` tells. */
export interface FileAttributes {
  /** What kind of file it is. */
  type: FileType;
  /** Permission bits, 0o7777. */
  mode: number;
  /** Names that it has. */
  nlink: number;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Length, bytes. */
  size: bigint;
  /** Bytes of storage in use; less than `size` for a sparse file. */
  used: bigint;
  /** Of a device: its major number; else 0. */
  rdevMajor: number;
  /** Of a device: its minor number; else 0. */
  rdevMinor: number;
  /** Tells file systems apart. */
  fsid: bigint;
  /** Tells the files of a file system apart: the inode number. */
  fileid: bigint;
  /** When it was last read. */
  atime: Timespec;
  /** When its contents last changed. */
  mtime: Timespec;
  /** When its attributes last changed. */
  ctime: Timespec;
}

/** What to change; an absent field stays as it is. `"now"`: the server's clock. */
export interface AttributeChanges {
  /** Permission bits, 0o7777. */
  mode?: number;
  /** Owner. */
  uid?: number;
  /** Group. */
  gid?: number;
  /** Length, bytes: cut, or made longer by a hole. */
  size?: bigint;
  /** When it was last read. */
  atime?: Timespec | "now";
  /** When its contents last changed. */
  mtime?: Timespec | "now";
}

/** A file found or made. */
export interface Entry {
  /** Names it from now on. */
  handle: FileHandle;
  /** Its attributes at that moment. */
  attributes: FileAttributes;
}

/** One name in a directory. */
export interface DirectoryEntry {
  /** The name, "." and ".." among them. */
  name: Uint8Array;
  /** Of the file that it names. */
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
/** One of the stabilities. */
export type Stability = typeof Stability[keyof typeof Stability];

/** How `create` treats a name that exists: `createmode3` (RFC 1813 §3.3.8). */
export type CreateMode =
  | { kind: "unchecked"; changes: AttributeChanges }
  | { kind: "guarded"; changes: AttributeChanges }
  | { kind: "exclusive"; verifier: Uint8Array };

/** Capacity in bytes and files. */
export interface FileSystemStatus {
  /** Size of the file system. */
  totalBytes: bigint;
  /** Free space. */
  freeBytes: bigint;
  /** Free space that is the caller's to use. */
  availableBytes: bigint;
  /** Files that there is room for. */
  totalFiles: bigint;
  /** Files that there is still room for. */
  freeFiles: bigint;
  /** Files that there is still room for, of the caller's. */
  availableFiles: bigint;
}

/** What a backend can do, for FSINFO and PATHCONF. */
export interface FileSystemLimits {
  /** Names that a file may have. */
  linkMax: number;
  /** The longest name, bytes. */
  nameBytesMax: number;
  /** The longest file, bytes; below 2^63. */
  fileBytesMax: bigint;
  /** Granularity of times, nanoseconds. */
  timeDeltaNanoseconds: number;
}

/** A system error: `code` is the errno's name ("ENOENT", "ESTALE", "EACCES", …). */
export class FsError extends Error {
  /** "FsError". */
  override readonly name = "FsError";

  /** `code`: the errno's name. */
  constructor(readonly code: string, message?: string, options?: ErrorOptions) {
    super(message ?? code, options);
  }
}

/** A tree of files. Names are bytes without "/" and NUL, 1 to `nameBytesMax` long, never "." or ".."; anything else is the caller's fault: EINVAL. */
export interface FileSystem extends AsyncDisposable {
  /** The root directory's handle. */
  readonly root: FileHandle;
  /** What it can do. */
  readonly limits: FileSystemLimits;

  /** The file's attributes now. */
  getAttributes(file: FileHandle, as: Credentials): MaybePromise<FileAttributes>;
  /** Changes attributes, all or none. `guard`: the ctime that the file must have (EAGAIN where it differs: NFS3ERR_NOT_SYNC). */
  setAttributes(
    file: FileHandle,
    changes: AttributeChanges,
    as: Credentials,
    guard?: Timespec,
  ): MaybePromise<FileAttributes>;
  /** Finds a name. "." and ".." are allowed here; ".." of the root is the root. */
  lookup(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<Entry>;
  /** Returns those of the asked `Access` bits that are granted. */
  access(file: FileHandle, bits: number, as: Credentials): MaybePromise<number>;
  /** The path that a symbolic link holds. */
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
  /** Makes a regular file, or takes the one that is there, as `mode` says. */
  create(directory: FileHandle, name: Uint8Array, mode: CreateMode, as: Credentials): MaybePromise<Entry>;
  /** Makes a directory. */
  makeDirectory(
    directory: FileHandle,
    name: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry>;
  /** Makes a symbolic link that holds `target`, which is not looked at. */
  symlink(
    directory: FileHandle,
    name: Uint8Array,
    target: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry>;
  /** Makes a device, socket or pipe. */
  makeNode(
    directory: FileHandle,
    name: Uint8Array,
    node: { type: FileType; major: number; minor: number },
    changes: AttributeChanges,
    as: Credentials,
  ): MaybePromise<Entry>;
  /** Removes a name that is not a directory. */
  remove(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<void>;
  /** Removes a directory, which must be empty. */
  removeDirectory(directory: FileHandle, name: Uint8Array, as: Credentials): MaybePromise<void>;
  /** Moves a name; what had the new one before is replaced where POSIX has it so. */
  rename(
    from: { directory: FileHandle; name: Uint8Array },
    to: { directory: FileHandle; name: Uint8Array },
    as: Credentials,
  ): MaybePromise<void>;
  /** Gives a file another name; returns its attributes behind that. */
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
  /** How full the file system is. */
  status(file: FileHandle, as: Credentials): MaybePromise<FileSystemStatus>;
  /** Returns when everything written to the range is on stable storage. */
  commit(file: FileHandle, offset: bigint, lengthBytes: number, as: Credentials): MaybePromise<void>;
}
