/**
 * A mounted file system, with the methods, options and errors of Deno's own file API.
 *
 * Paths are POSIX paths below what was mounted; relative ones begin at its root. Names that are not UTF-8 come and go as `names.ts`
 * says. Every method rejects with the `Deno.errors` class, message and `code` that its namesake has for a local file, the
 * `NfsError` as its cause, or with the reason of an abort.
 *
 * @module
 */
import type { Bulk } from "../rpc/transport.ts";
import { ACCESS3_MODIFY, ACCESS3_READ, type fattr3, ftype3, NfsError, nfsstat3 } from "../storage/nfs/mod.ts";
import { asFileErrors, codeOf, LocalFault } from "./errors.ts";
import { type FileAccess, NfsFile } from "./file.ts";
import { type NfsFileInfo, toDirEntry, toFileInfo, toTime } from "./file_info.ts";
import { decodeName, encodeName, joinPath } from "./names.ts";
import { completeItem, listDirectory } from "./nfs/listing.ts";
import type { Changes, Node, Options, Place } from "./nfs/nfs_client.ts";
import type { Resolved } from "./nfs/path_walk.ts";
import { readWhole, removeTree, writeWhole } from "./whole_files.ts";
import type { Session } from "./session.ts";

/** Memory lent by the library: transfers to and from it need no registration. Disposing of it gives it back. */
export interface LentMemory extends Disposable {
  /** The memory; not to be used after `release`. */
  readonly bytes: Uint8Array;
  /** Gives the memory back. Idempotent. */
  release(): void;
}

/** Capacity of a file system, bytes and files. */
export interface FileSystemStatus {
  /** Size. */
  totalBytes: bigint;
  /** Free. */
  freeBytes: bigint;
  /** Free for us, who may be given less than root. */
  availableBytes: bigint;
  /** Room for files, taken or not. */
  totalFiles: bigint;
  /** Room for more files. */
  freeFiles: bigint;
  /** Room for more files of ours. */
  availableFiles: bigint;
}

/** A directory entry with everything that `lstat` tells of it. */
export type NfsDirEntry = Deno.DirEntry & { info: NfsFileInfo };

/** How a mount ends. */
export type Unmount = () => Promise<void>;

/** Attempts to open a name that others keep making and removing, and to find an unused temporary name. */
const TRIES_MAX = 16;

/** A mounted file system. Made by `mount`. */
export class NfsFileSystem implements AsyncDisposable {
  readonly #session: Session;
  readonly #unmount: Unmount;
  #isClosed = false;

  /** Made by `mount`. */
  constructor(session: Session, unmount: Unmount) {
    this.#session = session;
    this.#unmount = unmount;
  }

  /** How the server is reached: "rdma", "tcp", or "memory". */
  get transport(): string {
    return this.#session.client.transport.kind;
  }

  /** The size of blocks that suits programs which read and write this server, bytes. */
  get blockBytes(): number {
    return this.#session.blockBytes;
  }

  /** Opens a file, by default for reading, as `Deno.open`. */
  async open(path: string, options: Deno.OpenOptions = { read: true }): Promise<NfsFile> {
    checkOpenOptions(options);
    return await this.#run(`open '${path}'`, path, async (call) => {
      const node = await this.#open(path, options, call);
      return new NfsFile(this.#session, node, toAccess(options));
    });
  }

  /** Creates a file, or empties it, and opens it for reading and writing, as `Deno.create`. */
  async create(path: string): Promise<NfsFile> {
    return await this.open(path, { read: true, write: true, create: true, truncate: true });
  }

  /** The contents of a file, as `Deno.readFile`. */
  async readFile(path: string, options: Deno.ReadFileOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return await this.#run(`readfile '${path}'`, path, async (call) => {
      return await readWhole(this.#session, await this.#find(path, call), call);
    }, { signal: options.signal });
  }

  /** The contents of a file as text, as `Deno.readTextFile`. */
  async readTextFile(path: string, options: Deno.ReadFileOptions = {}): Promise<string> {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(await this.readFile(path, options));
  }

  /** Writes a file, on stable storage when this resolves, as `Deno.writeFile`. Data must not change until then. */
  async writeFile(
    path: string,
    data: Uint8Array | ReadableStream<Uint8Array>,
    options: Deno.WriteFileOptions = {},
  ): Promise<void> {
    const { append = false, create = true, createNew = false, mode, signal } = options;
    const how = { write: true, append, create, createNew, truncate: !append && !createNew, mode };
    const operation = `writefile '${path}'`;
    const node = await this.#run(operation, path, (call) => this.#open(path, how, call), { signal });
    await this.#run(operation, path, async (call) => {
      if (mode !== undefined) await this.#session.client.setAttributes(node.handle, { mode: mode & 0o7777 }, call);
      await writeWhole(this.#session, node, { data, append }, call);
    }, { signal, isRepeatable: false });
  }

  /** Writes text to a file, as `Deno.writeTextFile`. */
  async writeTextFile(
    path: string,
    data: string | ReadableStream<string>,
    options: Deno.WriteFileOptions = {},
  ): Promise<void> {
    const bytes = typeof data === "string"
      ? new TextEncoder().encode(data)
      : data.pipeThrough(new TextEncoderStream() as TransformStream<string, Uint8Array>);
    await this.writeFile(path, bytes, options);
  }

  /** The entries of a directory, in the server's order, as `Deno.readDir`. */
  async *readDir(path: string): AsyncGenerator<Deno.DirEntry, void, undefined> {
    for await (const { name, attributes } of this.#list(path)) yield toDirEntry(name, attributes.type);
  }

  /** The entries of a directory with what `lstat` tells of each, at the price of the listing alone. */
  async *readDirInfo(path: string): AsyncGenerator<NfsDirEntry, void, undefined> {
    for await (const { name, attributes } of this.#list(path)) {
      yield { ...toDirEntry(name, attributes.type), info: this.#info(attributes) };
    }
  }

  /** Makes a directory, as `Deno.mkdir`. */
  async mkdir(path: string, options: Deno.MkdirOptions = {}): Promise<void> {
    const changes = { mode: (options.mode ?? 0o777) & 0o7777 & ~umask() };
    await this.#run(`mkdir '${path}'`, path, async (call) => {
      if (options.recursive) await this.#makeDirectories(path, changes, call);
      else await this.#makeDirectory(path, changes, call);
    });
  }

  /** Removes a file or an empty directory, or with `recursive` a whole tree, as `Deno.remove`. */
  async remove(path: string, options: Deno.RemoveOptions = {}): Promise<void> {
    await this.#run(`remove '${path}'`, path, async (call) => {
      const { place, node } = await this.#session.walker.walk(path, { ...call, follow: false });
      if (node === undefined) throw new NfsError(nfsstat3.NFS3ERR_NOENT);
      if (place === undefined) throw new LocalFault("EBUSY");
      const { client, walker } = this.#session;
      if (node.attributes.type !== ftype3.NF3DIR) return await client.remove(place, call);
      walker.forget();
      if (options.recursive) await removeTree(client, place, node.handle, call);
      else await client.removeDirectory(place, call);
      walker.forget();
    });
  }

  /** Renames a file or directory, in the place of what has the new name, as `Deno.rename`. */
  async rename(oldpath: string, newpath: string): Promise<void> {
    await this.#run(`rename '${oldpath}' -> '${newpath}'`, oldpath, async (call) => {
      checkPath(newpath, `rename '${oldpath}' -> '${newpath}'`);
      const { client, walker } = this.#session;
      const old = await walker.walkToParent(oldpath, call);
      const { place, isDirectoryWanted } = await walker.walkToParent(newpath, call);
      if (old.place === undefined || place === undefined) throw new LocalFault("EBUSY");
      const { attributes } = await client.lookup(old.place, call);
      const isPlain = attributes.type !== ftype3.NF3DIR;
      if (isPlain && (isDirectoryWanted || old.isDirectoryWanted)) throw new NfsError(nfsstat3.NFS3ERR_NOTDIR);
      await client.rename({ ...old.place, fileid: attributes.fileid }, place, call);
      walker.forget();
    });
  }

  /** What is known of a file, symbolic links followed, as `Deno.stat`. */
  async stat(path: string): Promise<NfsFileInfo> {
    return await this.#run(
      `stat '${path}'`,
      path,
      async (call) => this.#info((await this.#find(path, call)).attributes),
    );
  }

  /** What is known of a file or of a symbolic link itself, as `Deno.lstat`. */
  async lstat(path: string): Promise<NfsFileInfo> {
    return await this.#run(`lstat '${path}'`, path, async (call) => {
      return this.#info((await this.#session.walker.find(path, { ...call, follow: false })).attributes);
    });
  }

  /** Makes a symbolic link `newpath` that holds `oldpath` as it is, as `Deno.symlink`. */
  async symlink(oldpath: string, newpath: string): Promise<void> {
    const operation = `symlink '${oldpath}' -> '${newpath}'`;
    await this.#run(operation, newpath, async (call) => {
      if (oldpath === "") throw new NfsError(nfsstat3.NFS3ERR_NOENT);
      checkPath(oldpath, operation);
      const place = await this.#newPlace(newpath, call);
      await this.#session.client.symlink(place, encodeName(oldpath), call);
    });
  }

  /** Gives a file another name (a hard link), as `Deno.link`. */
  async link(oldpath: string, newpath: string): Promise<void> {
    const operation = `link '${oldpath}' -> '${newpath}'`;
    await this.#run(operation, oldpath, async (call) => {
      checkPath(newpath, operation);
      const node = await this.#session.walker.find(oldpath, { ...call, follow: false });
      const place = await this.#newPlace(newpath, call);
      if (node.attributes.type === ftype3.NF3DIR) {
        const existing = await this.#session.walker.walk(newpath, { ...call, follow: false });
        throw new NfsError(existing.node === undefined ? nfsstat3.NFS3ERR_PERM : nfsstat3.NFS3ERR_EXIST);
      }
      await this.#session.client.link(node.handle, place, call);
    });
  }

  /** What a symbolic link holds, as `Deno.readLink`. */
  async readLink(path: string): Promise<string> {
    return await this.#run(`readlink '${path}'`, path, async (call) => {
      const node = await this.#session.walker.find(path, { ...call, follow: false });
      if (node.attributes.type !== ftype3.NF3LNK) throw new NfsError(nfsstat3.NFS3ERR_INVAL);
      return decodeName(await this.#session.client.readLink(node.handle, call));
    });
  }

  /** The path without symbolic links, "." and "..", from the root of the mount, as `Deno.realPath`. */
  async realPath(path: string): Promise<string> {
    return await this.#run(`realpath '${path}'`, path, async (call) => {
      const resolved = await this.#session.walker.walk(path, { ...call, follow: true });
      if (resolved.node === undefined) throw new NfsError(nfsstat3.NFS3ERR_NOENT);
      return `/${resolved.path.join("/")}`;
    });
  }

  /** Sets the permission bits, as `Deno.chmod`. */
  async chmod(path: string, mode: number): Promise<void> {
    await this.#change(`chmod '${path}'`, path, { mode: mode & 0o7777 });
  }

  /** Sets owner and group, as `Deno.chown`; `null` leaves one as it is. */
  async chown(path: string, uid: number | null, gid: number | null): Promise<void> {
    await this.#change(`chown '${path}'`, path, { uid: uid ?? undefined, gid: gid ?? undefined });
  }

  /** Sets the times of last access and modification: dates, or seconds, as `Deno.utime`. */
  async utime(path: string, atime: number | Date, mtime: number | Date): Promise<void> {
    await this.#change(`utime '${path}'`, path, { atime: toTime(atime), mtime: toTime(mtime) });
  }

  /** Sets several attributes at once, times with all of NFS's nanoseconds; those of a symbolic link itself where `follow` is false. */
  async setAttributes(path: string, changes: Changes, options: { follow?: boolean } = {}): Promise<void> {
    await this.#change(`setattr '${path}'`, path, changes, options.follow ?? true);
  }

  /** Sets a file's length, as `Deno.truncate`. */
  async truncate(path: string, len?: number): Promise<void> {
    await this.#run(`truncate '${path}'`, path, async (call) => {
      const node = await this.#find(path, call);
      if (node.attributes.type === ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_ISDIR);
      const size = BigInt(Math.max(0, Math.trunc(len ?? 0)));
      await this.#session.client.setAttributes(node.handle, { size }, call);
    });
  }

  /** Copies contents and permissions of a file, as `Deno.copyFile`. The data takes the way through the client, as NFSv3 has no other. */
  async copyFile(fromPath: string, toPath: string): Promise<void> {
    const operation = `copy '${fromPath}' -> '${toPath}'`;
    await this.#run(operation, fromPath, async (call) => {
      checkPath(toPath, operation);
      const from = await this.#find(fromPath, call);
      if (from.attributes.type !== ftype3.NF3REG) {
        const message = `the source path is neither a regular file nor a symlink to a regular file: ${operation}`;
        throw Object.assign(new TypeError(message), { code: "EINVAL" });
      }
      const existing = await this.#session.walker.walk(toPath, { ...call, follow: true });
      if (existing.node?.attributes.fileid === from.attributes.fileid) {
        const message = `Source and destination paths refer to the same file: ${operation}`;
        throw Object.assign(new TypeError(message), { code: "EINVAL" });
      }
      const mode = from.attributes.mode & 0o7777;
      const to = await this.#open(toPath, { write: true, create: true, truncate: true, mode }, call);
      await this.#session.client.setAttributes(to.handle, { mode }, call);
      const source = new NfsFile(this.#session, from, { read: true, write: false, append: false });
      await writeWhole(this.#session, to, { data: source.readable, append: false }, call);
    });
  }

  /** Makes a new file with a name that nobody has, as `Deno.makeTempFile`; in the root of the mount unless told otherwise. */
  async makeTempFile(options: Deno.MakeTempOptions = {}): Promise<string> {
    return await this.#makeTemp("tmpfile", options, (place, call) => {
      return this.#session.client.createNew(place, { mode: 0o600 }, call);
    });
  }

  /** Makes a new directory with a name that nobody has, as `Deno.makeTempDir`; in the root of the mount unless told otherwise. */
  async makeTempDir(options: Deno.MakeTempOptions = {}): Promise<string> {
    return await this.#makeTemp("tmpdir", options, (place, call) => {
      return this.#session.client.makeDirectory(place, { mode: 0o700 }, call);
    });
  }

  /** Makes a FIFO. (Sockets and devices are nothing to copy.) */
  async makeFifo(path: string, options: { mode?: number } = {}): Promise<void> {
    await this.#run(`mkfifo '${path}'`, path, async (call) => {
      const place = await this.#newPlace(path, call);
      const changes = { mode: (options.mode ?? 0o666) & 0o7777 & ~umask() };
      const node = { type: ftype3.NF3FIFO, device: { specdata1: 0, specdata2: 0 }, changes };
      await this.#session.client.makeNode(place, node, call);
    });
  }

  /** How full the file system is on which a path lies. */
  async status(path = "/"): Promise<FileSystemStatus> {
    return await this.#run(`statfs '${path}'`, path, async (call) => {
      const status = await this.#session.client.fileSystemStatus((await this.#find(path, call)).handle, call);
      return {
        totalBytes: status.tbytes,
        freeBytes: status.fbytes,
        availableBytes: status.abytes,
        totalFiles: status.tfiles,
        freeFiles: status.ffiles,
        availableFiles: status.afiles,
      };
    });
  }

  /** Lends memory that is registered once and for all, for reads into it and writes from it. */
  allocate(lengthBytes: number): LentMemory {
    const lent: Bulk = this.#session.allocate(lengthBytes);
    return { bytes: lent.bytes, release: () => lent.release(), [Symbol.dispose]: () => lent.release() };
  }

  /**
   * Registers memory of the application's, so that transfers to and from it, or parts of it, need not do so each time. Until the
   * returned object is disposed of, the buffer must not be detached or resized.
   */
  register(bytes: Uint8Array): Disposable {
    return this.#session.options.register?.(bytes) ?? { [Symbol.dispose]: () => {} };
  }

  /**
   * Waits for what closed files have not brought to stable storage yet, ends calls under way, unmounts and closes the connection.
   * Throws what went wrong with those files.
   */
  async close(): Promise<void> {
    if (this.#isClosed) throw new Deno.errors.BadResource("Bad resource ID");
    await this[Symbol.asyncDispose]();
  }

  /** As `close`; does nothing the second time. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await asFileErrors(undefined, () => this.#session.settle());
    } finally {
      this.#session.end();
      await this.#unmount();
    }
  }

  async #run<T>(
    operation: string,
    path: string,
    run: (call: Options & { signal: AbortSignal }) => Promise<T>,
    options: { signal?: AbortSignal | null; isRepeatable?: boolean } = {},
  ): Promise<T> {
    const { signal, isRepeatable = true } = options;
    checkPath(path, operation);
    return await asFileErrors(operation, async () => {
      const call = this.#session.call(signal ?? undefined);
      try {
        return await run(call);
      } catch (error) {
        // A directory that is remembered was removed by somebody else: look again.
        const isStale = error instanceof NfsError && error.status === nfsstat3.NFS3ERR_STALE;
        if (!isStale || !this.#session.walker.forget() || !isRepeatable) throw error;
        return await run(call);
      }
    });
  }

  #info(attributes: fattr3): NfsFileInfo {
    return toFileInfo(attributes, this.#session.blockBytes);
  }

  async #find(path: string, call: Options): Promise<Node> {
    return await this.#session.walker.find(path, { ...call, follow: true });
  }

  async #change(operation: string, path: string, changes: Changes, follow = true): Promise<void> {
    await this.#run(operation, path, async (call) => {
      const node = await this.#session.walker.find(path, { ...call, follow });
      await this.#session.client.setAttributes(node.handle, changes, call);
    });
  }

  async *#list(path: string): AsyncGenerator<{ name: string; attributes: fattr3 }, void, undefined> {
    const operation = `readdir '${path}'`;
    checkPath(path, operation);
    const call = this.#session.call();
    const { client } = this.#session;
    const directory = await asFileErrors(operation, async () => {
      const node = await this.#find(path, call);
      if (node.attributes.type !== ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_NOTDIR);
      return node.handle;
    });
    const items = listDirectory(client, directory, call);
    try {
      for (;;) {
        const next = await asFileErrors(operation, () => items.next());
        if (next.done) return;
        const { name, attributes } = next.value;
        const node = attributes === undefined
          ? await asFileErrors(operation, () => completeItem(client, directory, next.value, call))
          : { attributes };
        if (node !== undefined) yield { name, attributes: node.attributes };
      }
    } finally {
      await items.return();
    }
  }

  /** The place of something that is to be made and must not exist yet. */
  async #newPlace(path: string, call: Options): Promise<Place> {
    const { place, isDirectoryWanted } = await this.#session.walker.walkToParent(path, call);
    if (place === undefined) throw new NfsError(nfsstat3.NFS3ERR_EXIST);
    if (isDirectoryWanted) throw new NfsError(nfsstat3.NFS3ERR_NOENT);
    return place;
  }

  async #makeDirectory(path: string, changes: Changes, call: Options): Promise<void> {
    if (path === "") throw new NfsError(nfsstat3.NFS3ERR_NOENT);
    const { place } = await this.#session.walker.walkToParent(path, call);
    if (place === undefined) throw new NfsError(nfsstat3.NFS3ERR_EXIST);
    await this.#session.client.makeDirectory(place, changes, call);
  }

  /** Makes a directory and those above it that are missing. One that exists is fine. */
  async #makeDirectories(path: string, changes: Changes, call: Options): Promise<void> {
    try {
      await this.#makeDirectory(path, changes, call);
    } catch (error) {
      if (!(error instanceof NfsError)) throw error;
      if (error.status === nfsstat3.NFS3ERR_NOENT) {
        const above = path.replace(/\/+$/, "").replace(/[^/]*$/, "");
        if (above === "" || above === path) throw error;
        await this.#makeDirectories(above, changes, call);
        await this.#makeDirectories(path, changes, call);
        return;
      }
      // Another status (no permission, a read-only file system) may come first where the directory exists all the same.
      const node = await this.#find(path, call).catch(() => undefined);
      if (node?.attributes.type !== ftype3.NF3DIR) throw error;
    }
  }

  async #open(path: string, options: Deno.OpenOptions, call: Options): Promise<Node> {
    const { create = false, createNew = false, truncate = false } = options;
    const access = toAccess(options);
    const { client, walker } = this.#session;
    for (let attempt = 0;; attempt++) {
      const found: Resolved = await walker.walk(path, { ...call, follow: !createNew });
      const { node, place } = found;
      if (node !== undefined) {
        if (createNew) throw new NfsError(nfsstat3.NFS3ERR_EXIST);
        await this.#openExisting(node, { access, truncate }, call);
        return node;
      }
      if (!create && !createNew) throw new NfsError(nfsstat3.NFS3ERR_NOENT);
      if (found.isDirectoryWanted) throw new NfsError(nfsstat3.NFS3ERR_ISDIR);
      const changes = { mode: (options.mode ?? 0o666) & 0o7777 & ~umask() };
      try {
        return createNew ? await client.createNew(place!, changes, call) : await client.create(place!, changes, call);
      } catch (error) {
        const isThereNow = error instanceof NfsError && error.status === nfsstat3.NFS3ERR_EXIST;
        if (createNew || !isThereNow || attempt === TRIES_MAX) throw error;
      }
    }
  }

  async #openExisting(node: Node, how: { access: FileAccess; truncate: boolean }, call: Options): Promise<void> {
    const { client } = this.#session;
    const { read, write } = how.access;
    if (write && node.attributes.type === ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_ISDIR);
    const wanted = (read ? ACCESS3_READ : 0) | (write ? ACCESS3_MODIFY : 0);
    const granted = await client.access(node.handle, wanted, call);
    if ((granted & wanted) !== wanted) throw new NfsError(nfsstat3.NFS3ERR_ACCES);
    if (how.truncate) await client.setAttributes(node.handle, { size: 0n }, call);
  }

  async #makeTemp(
    operation: string,
    options: Deno.MakeTempOptions,
    make: (place: Place, call: Options) => Promise<Node>,
  ): Promise<string> {
    const { dir = "/", prefix = "", suffix = "" } = options;
    for (const part of [prefix, suffix]) {
      const invalid = /[/\0]/.exec(part)?.[0];
      if (invalid !== undefined) throw new Error(`Invalid character in prefix or suffix: ${JSON.stringify(invalid)}`);
    }
    return await this.#run(operation, dir, async (call) => {
      const directory = await this.#find(dir, call);
      if (directory.attributes.type !== ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_NOTDIR);
      for (let attempt = 0;; attempt++) {
        const random = crypto.getRandomValues(new Uint8Array(8)).toHex();
        const name = `${prefix}${random}${suffix}`;
        try {
          await make({ directory: directory.handle, name: encodeName(name) }, call);
          return joinPath(dir, name);
        } catch (error) {
          const isTaken = error instanceof NfsError && error.status === nfsstat3.NFS3ERR_EXIST;
          if (!isTaken || attempt === TRIES_MAX) throw error;
        }
      }
    });
  }
}

function toAccess(options: Deno.OpenOptions): FileAccess {
  const append = options.append ?? false;
  return { read: options.read ?? false, write: (options.write ?? false) || append, append };
}

/** Refuses what `Deno.open` refuses, with its words. */
function checkOpenOptions(options: Deno.OpenOptions): void {
  const { read, write, append, truncate, create, createNew } = options;
  if (![read, write, append, truncate, create, createNew].includes(true)) {
    throw new Error("'options' requires at least one option to be true");
  }
  if (truncate && !write) throw new Error("'truncate' option requires 'write' to be true");
  if ((create || createNew) && !write && !append) {
    throw new Error("'create' or 'createNew' options require 'write' or 'append' to be true");
  }
}

/** Refuses a path that no name on a file system can match. */
function checkPath(path: string, operation: string): void {
  if (typeof path !== "string") throw new TypeError("a path on the server is a string");
  if (path.includes("\0")) {
    const error = new TypeError(`file name contained an unexpected NUL byte: ${operation}`);
    throw Object.assign(error, { code: "EINVAL" });
  }
}

/** Bits that new files do not get; those of the process, as for local files. */
function umask(): number {
  try {
    return Deno.umask();
  } catch (error) {
    if (codeOf(error) === undefined && !(error instanceof Deno.errors.NotCapable)) throw error;
    return 0o022;
  }
}
