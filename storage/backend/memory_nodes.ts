/**
 * Storage, backends: what the in-memory file system is made of: nodes, and directories with cookies that stay good while names come and go.
 *
 * @module
 */
import { type AttributeChanges, type FileAttributes, FileType, type Timespec } from "./file_system.ts";
import { BLOCK_BYTES, type SparseBytes } from "./sparse_bytes.ts";

/** The cookie behind "." and the one behind ".."; entries' own follow. */
export const DOT_COOKIE = 1n;
export const DOT_DOT_COOKIE = 2n;

/** A name in a directory. */
export interface Slot {
  readonly name: Uint8Array;
  readonly node: MemoryNode;
  /** Never used again in this directory, so that a reader resumes at the right place whatever happened since. */
  readonly cookie: bigint;
}

/** Names of a directory in the order in which they were made. */
export class MemoryDirectory {
  readonly #byName = new Map<string, Slot>();
  /** In the order of their cookies. */
  readonly #slots: Slot[] = [];
  #nextCookie = DOT_DOT_COOKIE + 1n;

  /** How many names there are, "." and ".." not counted. */
  get size(): number {
    return this.#slots.length;
  }

  get(name: Uint8Array): MemoryNode | undefined {
    return this.#byName.get(nameKey(name))?.node;
  }

  add(name: Uint8Array, node: MemoryNode): void {
    const slot: Slot = { name: name.slice(), node, cookie: this.#nextCookie++ };
    this.#byName.set(nameKey(name), slot);
    this.#slots.push(slot);
  }

  delete(name: Uint8Array): void {
    const slot = this.#byName.get(nameKey(name));
    if (slot === undefined) return;
    this.#byName.delete(nameKey(name));
    this.#slots.splice(this.#indexBehind(slot.cookie) - 1, 1);
  }

  /** Up to `count` slots whose cookies are above `cookie`, and whether they are the last ones. */
  after(cookie: bigint, count: number): { slots: Slot[]; eof: boolean } {
    const start = this.#indexBehind(cookie);
    return { slots: this.#slots.slice(start, start + count), eof: start + count >= this.#slots.length };
  }

  /** Whether the cookie was ever given out here. */
  knows(cookie: bigint): boolean {
    return cookie >= 0n && cookie < this.#nextCookie;
  }

  /** Index of the first slot with a cookie above the given one. */
  #indexBehind(cookie: bigint): number {
    let low = 0;
    let high = this.#slots.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#slots[middle].cookie <= cookie) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Contents by the kind of file. */
export type NodeContents =
  | { type: typeof FileType.Regular; data: SparseBytes }
  | { type: typeof FileType.Directory; directory: MemoryDirectory; parent: MemoryNode | undefined }
  | { type: typeof FileType.Symlink; target: Uint8Array }
  | { type: typeof FileType.BlockDevice | typeof FileType.CharacterDevice; major: number; minor: number }
  | { type: typeof FileType.Socket | typeof FileType.Fifo };

/** A file of any kind. */
export class MemoryNode {
  mode = 0;
  uid = 0;
  gid = 0;
  nlink = 1;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
  /** Part of the file's handle that cannot be guessed. */
  readonly secret: bigint = crypto.getRandomValues(new BigUint64Array(1))[0];

  constructor(readonly fileid: bigint, readonly contents: NodeContents, now: Timespec) {
    this.atime = this.mtime = this.ctime = now;
    if (contents.type === FileType.Directory) this.nlink = 2;
  }

  get type(): FileType {
    return this.contents.type;
  }

  get isDirectory(): boolean {
    return this.contents.type === FileType.Directory;
  }

  attributes(fsid: bigint): FileAttributes {
    const { contents } = this;
    const device = contents.type === FileType.BlockDevice || contents.type === FileType.CharacterDevice;
    return {
      type: this.type,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      size: BigInt(sizeOf(contents)),
      used: BigInt(usedBytes(contents)),
      rdevMajor: device ? contents.major : 0,
      rdevMinor: device ? contents.minor : 0,
      fsid,
      fileid: this.fileid,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
    };
  }

  /** Sets the times that `changes` names. */
  setTimes(changes: AttributeChanges, now: Timespec): void {
    if (changes.atime !== undefined) this.atime = changes.atime === "now" ? now : changes.atime;
    if (changes.mtime !== undefined) this.mtime = changes.mtime === "now" ? now : changes.mtime;
  }

  /** Marks the contents as changed. */
  modified(now: Timespec): void {
    this.mtime = this.ctime = now;
  }
}

/** Bytes of storage that the contents take. */
export function usedBytes(contents: NodeContents): number {
  switch (contents.type) {
    case FileType.Regular:
      return contents.data.usedBytes;
    case FileType.Directory:
      return BLOCK_BYTES;
    default:
      return 0;
  }
}

/** Whether `node` is `ancestor` or lies somewhere below it. */
export function isWithin(node: MemoryNode, ancestor: MemoryNode): boolean {
  for (let at: MemoryNode | undefined = node; at?.contents.type === FileType.Directory; at = at.contents.parent) {
    if (at === ancestor) return true;
  }
  return false;
}

function sizeOf(contents: NodeContents): number {
  switch (contents.type) {
    case FileType.Regular:
      return contents.data.length;
    case FileType.Directory:
      return BLOCK_BYTES;
    case FileType.Symlink:
      return contents.target.byteLength;
    default:
      return 0;
  }
}

/** The name's bytes as characters, one each: a key that no two names share, whatever their encoding. */
function nameKey(name: Uint8Array): string {
  let key = "";
  for (const byte of name) key += String.fromCharCode(byte);
  return key;
}
