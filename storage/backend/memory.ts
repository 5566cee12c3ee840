/**
 * Storage, backends: a file system in memory.
 *
 * It is complete, with the semantics of Linux, and shares no code with the local directory: tests serve it where no disk should be
 * involved, and compare other backends with it. Every method answers at once. Its rules for access without an open file are those of
 * RFC 1813 §4.4: the owner may read and write whatever the mode says, and who may execute a file may read it.
 *
 * @module
 */
import {
  Access,
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
  FileType,
  FsError,
  type Stability,
  type Timespec,
} from "./file_system.ts";
import {
  checkChanges,
  clearSetIdBits,
  dataOf,
  directoryOf,
  dropPrivileges,
  requirePermission,
  verifierTimes,
} from "./memory_attributes.ts";
import {
  DOT_COOKIE,
  DOT_DOT_COOKIE,
  isWithin,
  MemoryDirectory,
  MemoryNode,
  type NodeContents,
  usedBytes,
} from "./memory_nodes.ts";
import {
  checkName,
  grantedBits,
  inGroup,
  isDot,
  isDotDot,
  ModeBit,
  ownsFile,
  Permission,
  stickyForbids,
} from "./permissions.ts";
import { BLOCK_BYTES, SparseBytes } from "./sparse_bytes.ts";

/** Bytes of a handle: the instance, the file, the file's secret, 8 each. */
const HANDLE_BYTES = 24;
/** Longest target of a symlink, as Linux has it (PATH_MAX, its NUL not counted). */
const SYMLINK_TARGET_BYTES_MAX = 4095;
/** As the mode of a file or directory whose maker asked for none. */
const DEFAULT_FILE_MODE = 0o644;
const DEFAULT_DIRECTORY_MODE = 0o755;
const SYMLINK_MODE = 0o777;
const DEFAULT_MODES: { readonly [type: number]: number | undefined } = {
  [FileType.Directory]: DEFAULT_DIRECTORY_MODE,
  [FileType.Symlink]: SYMLINK_MODE,
};

/** How large a `MemoryFileSystem` may become, and whose its root is. */
export interface MemoryFileSystemOptions {
  /** Bytes of file contents; a write beyond them meets ENOSPC. 1 GiB if absent. */
  bytesMax?: number;
  /** Files of all kinds, the root included. A million if absent. */
  filesMax?: number;
  /** Owner and mode of the root directory: 0, 0, 0o755 if absent. */
  root?: { uid?: number; gid?: number; mode?: number };
}

/** A file system whose files live in this process and end with it. */
export class MemoryFileSystem implements FileSystem {
  /** The root directory's handle. */
  readonly root: FileHandle;
  /** What it can do. */
  readonly limits: FileSystemLimits = {
    linkMax: 32000,
    nameBytesMax: 255,
    fileBytesMax: BigInt(Number.MAX_SAFE_INTEGER),
    timeDeltaNanoseconds: 1,
  };
  readonly #instance = crypto.getRandomValues(new BigUint64Array(1))[0];
  readonly #nodes = new Map<bigint, MemoryNode>();
  readonly #root: MemoryNode;
  readonly #blocksMax: number;
  readonly #filesMax: number;
  #blocksUsed = 0;
  #nextFileid = 2n;
  #lastNanoseconds = 0n;

  /** An empty file system. */
  constructor(options: MemoryFileSystemOptions = {}) {
    this.#blocksMax = Math.ceil((options.bytesMax ?? 2 ** 30) / BLOCK_BYTES);
    this.#filesMax = options.filesMax ?? 1_000_000;
    const contents: NodeContents = { type: FileType.Directory, directory: new MemoryDirectory(), parent: undefined };
    this.#root = new MemoryNode(this.#nextFileid++, contents, this.#now());
    this.#root.uid = options.root?.uid ?? 0;
    this.#root.gid = options.root?.gid ?? 0;
    this.#root.mode = options.root?.mode ?? DEFAULT_DIRECTORY_MODE;
    this.#nodes.set(this.#root.fileid, this.#root);
    this.root = this.#handle(this.#root);
  }

  /** The file's attributes now. Everybody may ask. */
  getAttributes(file: FileHandle, _as: Credentials): FileAttributes {
    return this.#attributes(this.#node(file));
  }

  /** Changes attributes, all or none. */
  setAttributes(file: FileHandle, changes: AttributeChanges, as: Credentials, guard?: Timespec): FileAttributes {
    const node = this.#node(file);
    if (guard && (guard.seconds !== node.ctime.seconds || guard.nanoseconds !== node.ctime.nanoseconds)) {
      throw new FsError("EAGAIN", "the file's ctime is not the guard's");
    }
    checkChanges(node, changes, as, this.limits.fileBytesMax);
    this.#applyChanges(node, changes, as);
    return this.#attributes(node);
  }

  /** Finds a name. */
  lookup(directory: FileHandle, name: Uint8Array, as: Credentials): Entry {
    const node = this.#node(directory);
    const { parent } = directoryOf(node);
    requirePermission(node, Permission.Execute, as);
    if (isDot(name)) return this.#entry(node);
    if (isDotDot(name)) return this.#entry(parent ?? node);
    checkName(name, this.limits.nameBytesMax);
    return this.#entry(this.#child(node, name));
  }

  /** Which of the asked rights are granted, by mode alone. */
  access(file: FileHandle, bits: number, as: Credentials): number {
    const node = this.#node(file);
    const granted = grantedBits(node, as, { directory: node.isDirectory });
    const write = (granted & Permission.Write) !== 0;
    const execute = (granted & Permission.Execute) !== 0;
    let allowed = (granted & Permission.Read) !== 0 ? Access.Read : 0;
    if (node.isDirectory) {
      if (execute) allowed |= Access.Lookup;
      if (execute && write) allowed |= Access.Modify | Access.Extend | Access.Delete;
    } else {
      if (execute) allowed |= Access.Execute;
      if (write) allowed |= Access.Modify | Access.Extend;
    }
    return allowed & bits;
  }

  /** The path that a symbolic link holds. */
  readLink(file: FileHandle, _as: Credentials): Uint8Array {
    const { contents } = this.#node(file);
    if (contents.type !== FileType.Symlink) throw new FsError("EINVAL", "not a symbolic link");
    return contents.target.slice();
  }

  /** Copies contents to `into`. */
  read(file: FileHandle, offset: bigint, into: Uint8Array, as: Credentials): { bytesRead: number; eof: boolean } {
    const node = this.#node(file);
    const data = dataOf(node);
    const granted = grantedBits(node, as, { directory: false });
    if ((granted & (Permission.Read | Permission.Execute)) === 0 && !ownsFile(node, as)) throw new FsError("EACCES");
    if (offset >= BigInt(data.length)) return { bytesRead: 0, eof: true };
    const bytesRead = data.read(Number(offset), into);
    return { bytesRead, eof: Number(offset) + bytesRead >= data.length };
  }

  /** Copies the pieces into the file. What it wrote is as stable as memory is. */
  write(
    file: FileHandle,
    offset: bigint,
    pieces: readonly Uint8Array[],
    stability: Stability,
    as: Credentials,
  ): { bytesWritten: number; committed: Stability } {
    const node = this.#node(file);
    const data = dataOf(node);
    if (!ownsFile(node, as)) requirePermission(node, Permission.Write, as);
    const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    if (offset + BigInt(length) > this.limits.fileBytesMax) throw new FsError("EFBIG");
    let bytesWritten = 0;
    for (const piece of pieces) {
      const before = data.usedBytes;
      const written = data.write(Number(offset) + bytesWritten, piece, this.#blocksMax - this.#blocksUsed);
      this.#blocksUsed += (data.usedBytes - before) / BLOCK_BYTES;
      bytesWritten += written;
      if (written < piece.byteLength) break;
    }
    if (bytesWritten === 0 && length > 0) throw new FsError("ENOSPC");
    if (length > 0) {
      dropPrivileges(node, as);
      node.modified(this.#now());
    }
    return { bytesWritten, committed: stability };
  }

  /** Makes a regular file, or takes the one that is there, as `mode` says. */
  create(directory: FileHandle, name: Uint8Array, mode: CreateMode, as: Credentials): Entry {
    const parent = this.#node(directory);
    const table = directoryOf(parent).directory;
    requirePermission(parent, Permission.Execute, as);
    checkName(name, this.limits.nameBytesMax);
    const existing = table.get(name);
    if (existing !== undefined) return this.#createExisting(existing, mode, as);
    const data = new SparseBytes();
    const times = mode.kind === "exclusive" ? verifierTimes(mode.verifier) : {};
    const changes = mode.kind === "exclusive" ? { mode: DEFAULT_FILE_MODE, ...times } : mode.changes;
    return this.#make(parent, name, { type: FileType.Regular, data }, changes, as);
  }

  /** Makes a directory. */
  makeDirectory(directory: FileHandle, name: Uint8Array, changes: AttributeChanges, as: Credentials): Entry {
    const parent = this.#node(directory);
    if (parent.nlink >= this.limits.linkMax) throw new FsError("EMLINK");
    const contents: NodeContents = { type: FileType.Directory, directory: new MemoryDirectory(), parent };
    const made = this.#make(parent, name, contents, changes, as);
    parent.nlink++;
    return made;
  }

  /** Makes a symbolic link. */
  symlink(
    directory: FileHandle,
    name: Uint8Array,
    target: Uint8Array,
    changes: AttributeChanges,
    as: Credentials,
  ): Entry {
    if (target.byteLength === 0) throw new FsError("ENOENT", "a symbolic link must lead somewhere");
    if (target.byteLength > SYMLINK_TARGET_BYTES_MAX) throw new FsError("ENAMETOOLONG");
    if (target.includes(0)) throw new FsError("EINVAL", "a symbolic link's target may not hold NUL");
    const contents: NodeContents = { type: FileType.Symlink, target: target.slice() };
    // The mode of a symbolic link means nothing: no other one is taken.
    return this.#make(this.#node(directory), name, contents, { ...changes, mode: undefined }, as);
  }

  /** Makes a device, which only stands there, a socket or a pipe. */
  makeNode(
    directory: FileHandle,
    name: Uint8Array,
    node: { type: FileType; major: number; minor: number },
    changes: AttributeChanges,
    as: Credentials,
  ): Entry {
    const parent = this.#node(directory);
    switch (node.type) {
      case FileType.BlockDevice:
      case FileType.CharacterDevice:
        if (as.uid !== 0) throw new FsError("EPERM", "only the superuser makes devices");
        return this.#make(parent, name, { type: node.type, major: node.major, minor: node.minor }, changes, as);
      case FileType.Socket:
      case FileType.Fifo:
        return this.#make(parent, name, { type: node.type }, changes, as);
      default:
        throw new FsError("EINVAL", "not a kind of special file");
    }
  }

  /** Removes a name that is not a directory. */
  remove(directory: FileHandle, name: Uint8Array, as: Credentials): void {
    const parent = this.#node(directory);
    const node = this.#removable(parent, name, as);
    if (node.isDirectory) throw new FsError("EISDIR");
    this.#unlink(parent, name, node);
  }

  /** Removes an empty directory. */
  removeDirectory(directory: FileHandle, name: Uint8Array, as: Credentials): void {
    const parent = this.#node(directory);
    const node = this.#removable(parent, name, as);
    if (directoryOf(node).directory.size > 0) throw new FsError("ENOTEMPTY");
    this.#unlink(parent, name, node);
  }

  /** Moves a name. */
  rename(
    from: { directory: FileHandle; name: Uint8Array },
    to: { directory: FileHandle; name: Uint8Array },
    as: Credentials,
  ): void {
    const source = this.#node(from.directory);
    const destination = this.#node(to.directory);
    // In the order of Linux: both directories, what is in them, what cannot be at all, and only then who may.
    for (const each of [source, destination]) directoryOf(each);
    for (const each of [source, destination]) requirePermission(each, Permission.Execute, as);
    for (const { name } of [from, to]) checkName(name, this.limits.nameBytesMax);
    const { directory } = directoryOf(destination);
    const moved = this.#child(source, from.name);
    const replaced = directory.get(to.name);
    if (isWithin(destination, moved)) throw new FsError("EINVAL", "a directory cannot be moved into itself");
    if (replaced !== undefined && isWithin(source, replaced)) throw new FsError("ENOTEMPTY");
    if (replaced === moved) return;
    requirePermission(source, Permission.Write, as);
    if (stickyForbids(source, moved, as)) throw new FsError("EPERM");
    requirePermission(destination, Permission.Write, as);
    if (replaced !== undefined) this.#checkReplaceable(destination, moved, replaced, as);
    if (moved.isDirectory && source !== destination) {
      requirePermission(moved, Permission.Write, as);
      if (replaced === undefined && destination.nlink >= this.limits.linkMax) throw new FsError("EMLINK");
    }
    if (replaced?.isDirectory && directoryOf(replaced).directory.size > 0) throw new FsError("ENOTEMPTY");
    if (replaced !== undefined) this.#unlink(destination, to.name, replaced);
    directoryOf(source).directory.delete(from.name);
    directory.add(to.name, moved);
    const now = this.#now();
    if (moved.contents.type === FileType.Directory) {
      moved.contents.parent = destination;
      source.nlink--;
      destination.nlink++;
    }
    source.modified(now);
    destination.modified(now);
    moved.ctime = now;
  }

  /** Gives a file another name. */
  link(file: FileHandle, directory: FileHandle, name: Uint8Array, as: Credentials): FileAttributes {
    const node = this.#node(file);
    const parent = this.#node(directory);
    if (node.isDirectory) throw new FsError("EPERM", "a directory has one name only");
    const table = this.#addable(parent, name, as);
    if (node.nlink >= this.limits.linkMax) throw new FsError("EMLINK");
    table.add(name, node);
    const now = this.#now();
    node.nlink++;
    node.ctime = now;
    parent.modified(now);
    return this.#attributes(node);
  }

  /** Entries behind a cookie. */
  readDirectory(
    directory: FileHandle,
    options: { cookie: bigint; entriesMax: number; attributes: boolean },
    as: Credentials,
  ): { entries: DirectoryEntry[]; eof: boolean } {
    const node = this.#node(directory);
    const { directory: table, parent } = directoryOf(node);
    requirePermission(node, Permission.Read, as);
    if (!table.knows(options.cookie)) throw new FsError("EINVAL", "no cookie of this directory's");
    // What the caller may not look up, it may not see the attributes of.
    const search = (grantedBits(node, as, { directory: true }) & Permission.Execute) !== 0;
    const entries: DirectoryEntry[] = [];
    const add = (name: Uint8Array, child: MemoryNode, cookie: bigint): void => {
      const entry = options.attributes && search ? this.#entry(child) : undefined;
      entries.push({ name: name.slice(), fileid: child.fileid, cookie, entry });
    };
    if (options.cookie < DOT_COOKIE && entries.length < options.entriesMax) add(DOT, node, DOT_COOKIE);
    if (options.cookie < DOT_DOT_COOKIE && entries.length < options.entriesMax) {
      add(DOT_DOT, parent ?? node, DOT_DOT_COOKIE);
    }
    const dotsMissing = entries.at(-1)?.cookie === DOT_COOKIE ||
      (entries.length === 0 && options.cookie < DOT_DOT_COOKIE);
    const rest = table.after(options.cookie, options.entriesMax - entries.length);
    for (const slot of rest.slots) add(slot.name, slot.node, slot.cookie);
    return { entries, eof: rest.eof && !dotsMissing };
  }

  /** How full it is. */
  status(file: FileHandle, _as: Credentials): FileSystemStatus {
    this.#node(file);
    const free = BigInt(this.#blocksMax - this.#blocksUsed) * BigInt(BLOCK_BYTES);
    const freeFiles = BigInt(this.#filesMax - this.#nodes.size);
    return {
      totalBytes: BigInt(this.#blocksMax) * BigInt(BLOCK_BYTES),
      freeBytes: free,
      availableBytes: free,
      totalFiles: BigInt(this.#filesMax),
      freeFiles,
      availableFiles: freeFiles,
    };
  }

  /** Checks that it may, and has nothing to do. */
  commit(file: FileHandle, _offset: bigint, _lengthBytes: number, as: Credentials): void {
    const node = this.#node(file);
    dataOf(node);
    if (!ownsFile(node, as)) requirePermission(node, Permission.Write, as);
  }

  /** Forgets every file: all handles are stale from now on. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#nodes.clear();
    return Promise.resolve();
  }

  // Nodes and handles

  #node(handle: FileHandle): MemoryNode {
    if (handle.byteLength !== HANDLE_BYTES) throw new FsError("EBADHANDLE");
    const view = new DataView(handle.buffer, handle.byteOffset, HANDLE_BYTES);
    if (view.getBigUint64(0) !== this.#instance) throw new FsError("EBADHANDLE");
    const node = this.#nodes.get(view.getBigUint64(8));
    if (node === undefined || node.secret !== view.getBigUint64(16)) throw new FsError("ESTALE");
    return node;
  }

  #handle(node: MemoryNode): FileHandle {
    const handle = new Uint8Array(HANDLE_BYTES);
    const view = new DataView(handle.buffer);
    view.setBigUint64(0, this.#instance);
    view.setBigUint64(8, node.fileid);
    view.setBigUint64(16, node.secret);
    return handle;
  }

  #attributes(node: MemoryNode): FileAttributes {
    return node.attributes(this.#instance);
  }

  #entry(node: MemoryNode): Entry {
    return { handle: this.#handle(node), attributes: this.#attributes(node) };
  }

  #child(directory: MemoryNode, name: Uint8Array): MemoryNode {
    const child = directoryOf(directory).directory.get(name);
    if (child === undefined) throw new FsError("ENOENT");
    return child;
  }

  /** Wall-clock time that never stands still, so that every change shows in ctime. */
  #now(): Timespec {
    const clock = BigInt(Date.now()) * 1_000_000n;
    this.#lastNanoseconds = clock > this.#lastNanoseconds ? clock : this.#lastNanoseconds + 1n;
    return {
      seconds: this.#lastNanoseconds / 1_000_000_000n,
      nanoseconds: Number(this.#lastNanoseconds % 1_000_000_000n),
    };
  }

  // Making and removing names

  /** The table of a directory to which the caller may add this name, which must be free. */
  #addable(parent: MemoryNode, name: Uint8Array, as: Credentials): MemoryDirectory {
    const { directory } = directoryOf(parent);
    requirePermission(parent, Permission.Execute, as);
    checkName(name, this.limits.nameBytesMax);
    if (directory.get(name) !== undefined) throw new FsError("EEXIST");
    requirePermission(parent, Permission.Write, as);
    // A directory that was removed while somebody held its handle takes no names any more.
    if (parent.nlink === 0) throw new FsError("ENOENT");
    return directory;
  }

  #make(
    parent: MemoryNode,
    name: Uint8Array,
    contents: NodeContents,
    changes: AttributeChanges,
    as: Credentials,
  ): Entry {
    const table = this.#addable(parent, name, as);
    if (this.#nodes.size >= this.#filesMax) throw new FsError("ENOSPC", "no room for another file");
    const node = new MemoryNode(this.#nextFileid, contents, this.#now());
    const inherits = (parent.mode & ModeBit.SetGid) !== 0;
    node.uid = as.uid;
    node.gid = inherits ? parent.gid : as.gid;
    node.mode = DEFAULT_MODES[node.type] ?? DEFAULT_FILE_MODE;
    checkChanges(node, changes, as, this.limits.fileBytesMax);
    this.#applyChanges(node, changes, as);
    if (inherits && node.isDirectory) node.mode |= ModeBit.SetGid;
    this.#nextFileid++;
    this.#nodes.set(node.fileid, node);
    table.add(name, node);
    parent.modified(this.#now());
    return this.#entry(node);
  }

  #createExisting(existing: MemoryNode, mode: CreateMode, as: Credentials): Entry {
    if (existing.contents.type !== FileType.Regular || mode.kind === "guarded") throw new FsError("EEXIST");
    if (mode.kind === "unchecked") {
      // The file is there already: of the attributes only its size is looked at, for O_TRUNC.
      if (mode.changes.size !== undefined) this.setAttributes(this.#handle(existing), { size: mode.changes.size }, as);
      return this.#entry(existing);
    }
    const { atime, mtime } = verifierTimes(mode.verifier);
    const same = existing.atime.seconds === atime.seconds && existing.mtime.seconds === mtime.seconds;
    if (!same || existing.contents.data.length > 0) throw new FsError("EEXIST");
    return this.#entry(existing);
  }

  /** The node behind a name that the caller may take away from the directory. */
  #removable(parent: MemoryNode, name: Uint8Array, as: Credentials): MemoryNode {
    directoryOf(parent);
    requirePermission(parent, Permission.Execute, as);
    checkName(name, this.limits.nameBytesMax);
    const node = this.#child(parent, name);
    requirePermission(parent, Permission.Write, as);
    if (stickyForbids(parent, node, as)) throw new FsError("EPERM");
    return node;
  }

  #checkReplaceable(parent: MemoryNode, moved: MemoryNode, replaced: MemoryNode, as: Credentials): void {
    if (stickyForbids(parent, replaced, as)) throw new FsError("EPERM");
    if (moved.isDirectory && !replaced.isDirectory) throw new FsError("ENOTDIR");
    if (!moved.isDirectory && replaced.isDirectory) throw new FsError("EISDIR");
  }

  #unlink(parent: MemoryNode, name: Uint8Array, node: MemoryNode): void {
    const now = this.#now();
    directoryOf(parent).directory.delete(name);
    parent.modified(now);
    node.ctime = now;
    node.nlink--;
    if (node.isDirectory) {
      node.nlink = 0;
      parent.nlink--;
    }
    if (node.nlink > 0) return;
    this.#nodes.delete(node.fileid);
    if (node.contents.type === FileType.Regular) this.#blocksUsed -= usedBytes(node.contents) / BLOCK_BYTES;
  }

  // Changing attributes

  #applyChanges(node: MemoryNode, changes: AttributeChanges, as: Credentials): void {
    const now = this.#now();
    if (changes.size !== undefined) {
      const data = dataOf(node);
      const before = data.usedBytes;
      data.truncate(Number(changes.size));
      this.#blocksUsed += (data.usedBytes - before) / BLOCK_BYTES;
      dropPrivileges(node, as);
      node.mtime = now;
    }
    if (changes.uid !== undefined || changes.gid !== undefined) {
      node.uid = changes.uid ?? node.uid;
      node.gid = changes.gid ?? node.gid;
      if (!node.isDirectory) clearSetIdBits(node);
    }
    if (changes.mode !== undefined) {
      node.mode = changes.mode & 0o7777;
      if (as.uid !== 0 && !inGroup(as, node.gid)) node.mode &= ~ModeBit.SetGid;
    }
    node.setTimes(changes, now);
    node.ctime = now;
  }
}

const DOT = Uint8Array.of(0x2e);
const DOT_DOT = Uint8Array.of(0x2e, 0x2e);
