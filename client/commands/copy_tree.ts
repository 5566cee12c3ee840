/**
 * Copies files, links and trees, between here and servers in any direction, with the manners of `cp`.
 *
 * What a server says is not trusted here: the names of a listing stay below the directory that is copied to, and nothing is
 * written through a symbolic link that the copy itself has made.
 *
 * @module
 */
import { codeOf } from "../errors.ts";
import type { NfsFile } from "../file.ts";
import { type NfsFileInfo, toTime } from "../file_info.ts";
import { runBounded, Slots } from "../slots.ts";
import type { CommandContext } from "./context.ts";
import { type CopyEnd, LocalEnd, NfsEnd, usedBytes } from "./copy_ends.ts";
import { BlockMemory, copyContents } from "./copy_file.ts";
import { quote } from "./format.ts";
import type { Progress } from "./progress.ts";
import { NfsFiles, type Target } from "./target.ts";

/** Files under way at once, and subdirectories listed at once. */
const FILES_IN_FLIGHT = 32;
const DIRECTORIES_IN_FLIGHT = 4;
/** Memory for blocks of all files. */
const MEMORY_BYTES = 64 * 1024 * 1024;
/** Blocks where no server is at either end. */
const LOCAL_BLOCK_BYTES = 1024 * 1024;
/** What may be missing in the middle of a file on a server when its copy was cut short: blocks in flight, and what was not committed. */
const DOUBTFUL_BYTES = 160 * 1024 * 1024;

/** How to copy. */
export interface CopyOptions {
  recursive: boolean;
  /** Copy what symbolic links point to: `true` always, `false` never. */
  dereference: boolean;
  force: boolean;
  noClobber: boolean;
  preserve: boolean;
  /** Go on with what an earlier copy left. */
  resume: boolean;
  verbose: boolean;
  sparse: "auto" | "always" | "never";
}

/** What is known of a place before it is looked at. */
interface PlaceFacts {
  /** The user named it. */
  isOperand: boolean;
  /** Nothing is there: its directory is new. */
  isEmpty: boolean;
}

/** Copies one operand after the other. */
export class TreeCopier {
  readonly #context: CommandContext;
  readonly #options: CopyOptions;
  readonly #files = new Slots(FILES_IN_FLIGHT);
  readonly #progress: Progress | undefined;
  /** Symbolic links that this copy has made. */
  readonly #madeLinks = new Set<string>();
  /** Files that this copy has made or filled. */
  readonly #madeFiles = new Set<string>();
  #memory: BlockMemory | undefined;

  constructor(context: CommandContext, options: CopyOptions) {
    this.#context = context;
    this.#options = options;
    this.#progress = context.startProgress();
  }

  /** Copies what an operand names to a place. True where all of it arrived; what did not has been told. */
  async copy(source: Target, destination: Target): Promise<boolean> {
    this.#memory ??= blockMemory(source, destination);
    let info: Deno.FileInfo;
    try {
      info = this.#options.dereference ? await source.api.stat(source.path) : await source.api.lstat(source.path);
    } catch (error) {
      this.#context.fail(`cannot stat ${quote(source.display)}`, error);
      return false;
    }
    if (info.isDirectory) {
      if (!this.#options.recursive) {
        this.#context.fail(`-r not specified; omitting directory ${quote(source.display)}`);
        return false;
      }
      if (await isInside(source, destination)) {
        const [from, to] = [quote(source.display), quote(destination.display)];
        this.#context.fail(`cannot copy a directory, ${from}, into itself, ${to}`);
        return false;
      }
    }
    return await this.#copyAny(source, info, destination, { isOperand: true, isEmpty: false });
  }

  async #copyAny(
    source: Target,
    info: Deno.FileInfo,
    destination: Target,
    place: PlaceFacts,
  ): Promise<boolean> {
    this.#context.io.signal.throwIfAborted();
    const key = keyOf(destination);
    if (this.#madeLinks.has(key)) {
      const [from, to] = [quote(source.display), quote(destination.display)];
      this.#context.fail(`will not copy ${from} through just-created symlink ${to}`);
      return false;
    }
    if (this.#madeFiles.has(key)) {
      this.#context.fail(`will not overwrite just-created ${quote(destination.display)} with ${quote(source.display)}`);
      return false;
    }
    if (info.isDirectory) return await this.#copyDirectory(source, info, destination, place);
    if (info.isFile) return await this.#copyRegular(source, info, destination, place);
    return await this.#copySpecial(source, info, destination);
  }

  async #copyDirectory(
    source: Target,
    info: Deno.FileInfo,
    destination: Target,
    place: PlaceFacts,
  ): Promise<boolean> {
    const mode = (info.mode ?? 0o777) & 0o7777;
    let isNew = true;
    try {
      // Searchable and writable for us while it is filled.
      await destination.api.mkdir(destination.path, { mode: mode | 0o700 });
    } catch (error) {
      isNew = false;
      // A link to a directory is one only where the user named it.
      const look = place.isOperand ? destination.api.stat : destination.api.lstat;
      const existing = await look.call(destination.api, destination.path).catch(() => undefined);
      if (existing === undefined) {
        this.#context.fail(`cannot create directory ${quote(destination.display)}`, error);
        return false;
      }
      if (!existing.isDirectory) {
        const [from, to] = [quote(source.display), quote(destination.display)];
        this.#context.fail(`cannot overwrite non-directory ${to} with directory ${from}`);
        return false;
      }
    }
    if (isNew && this.#options.verbose) await this.#say(source, destination);
    let isWhole = await this.#copyEntries(source, destination, { isOperand: false, isEmpty: isNew });
    const isLocked = (mode & 0o700) !== 0o700;
    try {
      if (this.#options.preserve) await this.#preserve(info, destination);
      else if (isNew && isLocked) await destination.api.chmod(destination.path, mode & ~umask());
    } catch (error) {
      this.#context.fail(`setting attributes of ${quote(destination.display)}`, error);
      isWhole = false;
    }
    return isWhole;
  }

  /** The files of a directory, many at once, then its subdirectories. */
  async #copyEntries(source: Target, destination: Target, place: PlaceFacts): Promise<boolean> {
    const { signal } = this.#context.io;
    const running = new Set<Promise<void>>();
    const subdirectories: (() => Promise<void>)[] = [];
    let isWhole = true;
    let failure: { error: unknown } | undefined;
    const note = (result: Promise<boolean>) =>
      result.then((isDone) => void (isWhole &&= isDone), (error) => void (failure ??= { error }));
    try {
      for await (const [child, info] of this.#list(source)) {
        const to = destination.child(child.name);
        if (info.isDirectory) {
          subdirectories.push(() => note(this.#copyAny(child, info, to, place)));
          continue;
        }
        await this.#files.take(signal);
        const task = note(this.#copyAny(child, info, to, place)).finally(() => {
          this.#files.give();
          running.delete(task);
        });
        running.add(task);
        if (failure !== undefined) break;
      }
    } catch (error) {
      if (!signal.aborted) this.#context.fail(`cannot read directory ${quote(source.display)}`, error);
      isWhole = false;
    }
    await runBounded(subdirectories, DIRECTORIES_IN_FLIGHT);
    await Promise.all(running);
    if (failure !== undefined) throw failure.error;
    signal.throwIfAborted();
    return isWhole;
  }

  /** Entries of a directory with what is known of them; from a server that comes with the listing. */
  async *#list(directory: Target): AsyncGenerator<[Target, Deno.FileInfo], void, undefined> {
    const { dereference } = this.#options;
    const { files, path } = directory;
    const entries: AsyncIterable<Deno.DirEntry & { info?: Deno.FileInfo }> = files instanceof NfsFiles
      ? files.api.readDirInfo(path)
      : files.api.readDir(path);
    for await (const { name, info, isSymlink } of entries) {
      const child = directory.child(name);
      try {
        if (dereference && isSymlink) yield [child, await child.api.stat(child.path)];
        else yield [child, info ?? await child.api.lstat(child.path)];
      } catch (error) {
        this.#context.fail(`cannot stat ${quote(child.display)}`, error);
      }
    }
  }

  async #copyRegular(
    source: Target,
    info: Deno.FileInfo,
    destination: Target,
    place: PlaceFacts,
  ): Promise<boolean> {
    const existing = place.isEmpty ? undefined : await destination.api.stat(destination.path).catch(() => undefined);
    if (existing?.isDirectory) {
      const [from, to] = [quote(source.display), quote(destination.display)];
      this.#context.fail(`cannot overwrite directory ${to} with non-directory ${from}`);
      return false;
    }
    if (existing !== undefined && isSameFile(source, info, destination, existing)) {
      this.#context.fail(`${quote(source.display)} and ${quote(destination.display)} are the same file`);
      return false;
    }
    if (existing !== undefined && this.#options.noClobber) return true;
    const start = this.#resumeAt(info, existing, destination);
    this.#madeFiles.add(keyOf(destination));
    this.#progress?.expect(info.size - start);
    if (existing !== undefined && this.#options.resume && start === info.size && existing.size === info.size) {
      this.#progress?.finishFile();
      return await this.#finish(info, destination);
    }
    let from: CopyEnd | undefined;
    let to: CopyEnd | undefined;
    try {
      from = await this.#openSource(source);
      to = from && await this.#openDestination(destination, info, start);
      if (from === undefined || to === undefined) return false;
      if (this.#options.verbose) await this.#say(source, destination);
      await copyContents(from, to, {
        size: info.size,
        start,
        existingSize: start > 0 ? existing!.size : 0,
        keepHoles: this.#keepsHoles(info),
        memory: this.#memory!,
        signal: this.#context.io.signal,
        onProgress: (bytes) => this.#progress?.advance(bytes, source.display),
      });
    } catch (error) {
      if (this.#context.io.signal.aborted || error instanceof Deno.errors.BrokenPipe) throw error;
      this.#context.fail(`error copying ${quote(source.display)} to ${quote(destination.display)}`, error);
      return false;
    } finally {
      await from?.[Symbol.asyncDispose]();
      await to?.[Symbol.asyncDispose]();
    }
    this.#progress?.finishFile();
    return await this.#finish(info, destination);
  }

  async #openSource(source: Target): Promise<CopyEnd | undefined> {
    try {
      return toEnd(source, await source.api.open(source.path));
    } catch (error) {
      this.#context.fail(`cannot open ${quote(source.display)} for reading`, error);
      return undefined;
    }
  }

  async #openDestination(destination: Target, info: Deno.FileInfo, start: number): Promise<CopyEnd | undefined> {
    if (destination.path.endsWith("/")) {
      this.#context.fail(`cannot create regular file ${quote(destination.display)}: Not a directory`);
      return undefined;
    }
    const mode = (info.mode ?? 0o666) & 0o777;
    const how = { write: true, create: true, truncate: start === 0, mode };
    try {
      return toEnd(destination, await destination.api.open(destination.path, how));
    } catch (error) {
      if (this.#options.force) {
        try {
          await destination.api.remove(destination.path);
          return toEnd(destination, await destination.api.open(destination.path, how));
        } catch {
          // What opening it said is the better explanation.
        }
      }
      this.#context.fail(`cannot create regular file ${quote(destination.display)}`, error);
      return undefined;
    }
  }

  async #copySpecial(source: Target, info: Deno.FileInfo, destination: Target): Promise<boolean> {
    const existing = await destination.api.lstat(destination.path).catch(() => undefined);
    const [from, to] = [quote(source.display), quote(destination.display)];
    if (existing?.isDirectory) {
      this.#context.fail(`cannot overwrite directory ${to} with non-directory ${from}`);
      return false;
    }
    if (existing !== undefined && this.#options.noClobber) return true;
    const kind = info.isSymlink ? "symbolic link" : info.isFifo ? "fifo" : "special file";
    try {
      if (!info.isSymlink && !(info.isFifo && destination.files instanceof NfsFiles)) {
        this.#context.fail(`cannot create ${kind} ${to}: Operation not supported`);
        return false;
      }
      const target = info.isSymlink ? await source.api.readLink(source.path) : "";
      if (existing !== undefined) await destination.api.remove(destination.path);
      if (destination.files instanceof NfsFiles && info.isFifo) {
        await destination.files.api.makeFifo(destination.path, { mode: info.mode ?? undefined });
      } else {
        this.#madeLinks.add(keyOf(destination));
        await destination.api.symlink(target, destination.path);
      }
      if (this.#options.verbose) await this.#say(source, destination);
      // Of a link there is nothing more to keep that both ends can set.
      return info.isSymlink || await this.#finish(info, destination);
    } catch (error) {
      this.#context.fail(`cannot create ${kind} ${to}`, error);
      return false;
    }
  }

  /** Where to go on with what an earlier copy left: 0 where nothing of it can be used, the size where it is complete. */
  #resumeAt(info: Deno.FileInfo, existing: Deno.FileInfo | undefined, destination: Target): number {
    if (!this.#options.resume || existing === undefined || !existing.isFile || existing.size > info.size) return 0;
    // The source changed after the copy was made.
    if ((info.mtime?.getTime() ?? 0) > (existing.mtime?.getTime() ?? 0)) return 0;
    if (existing.size === info.size) return info.size;
    const safe = destination.files instanceof NfsFiles ? existing.size - DOUBTFUL_BYTES : existing.size;
    const { blockBytes } = this.#memory!;
    return Math.max(0, Math.floor(safe / blockBytes) * blockBytes);
  }

  #keepsHoles(info: Deno.FileInfo): boolean {
    if (this.#options.sparse !== "auto") return this.#options.sparse === "always";
    return (usedBytes(info) ?? info.size) < info.size;
  }

  async #finish(info: Deno.FileInfo, destination: Target): Promise<boolean> {
    if (!this.#options.preserve) return true;
    try {
      await this.#preserve(info, destination);
      return true;
    } catch (error) {
      this.#context.fail(`preserving attributes of ${quote(destination.display)}`, error);
      return false;
    }
  }

  /** Owner where we may, mode, times. */
  async #preserve(info: Deno.FileInfo, { api, path, files }: Target): Promise<void> {
    const mode = (info.mode ?? 0o666) & 0o7777;
    const { attributes } = info as Partial<NfsFileInfo>;
    if (files instanceof NfsFiles) {
      const atime = attributes?.atime ?? toTime(info.atime ?? new Date());
      const mtime = attributes?.mtime ?? toTime(info.mtime ?? new Date());
      const owner = { uid: info.uid ?? undefined, gid: info.gid ?? undefined };
      const isOwnerSet = await unlessRefused(files.api.setAttributes(path, { ...owner, mode, atime, mtime }));
      if (!isOwnerSet) await files.api.setAttributes(path, { mode, atime, mtime });
      return;
    }
    await unlessRefused(api.chown(path, info.uid, info.gid));
    await api.chmod(path, mode); // setting the owner may have cleared some of it
    if (info.atime !== null && info.mtime !== null) await api.utime(path, info.atime, info.mtime);
  }

  async #say(source: Target, destination: Target): Promise<void> {
    this.#progress?.clear();
    await this.#context.print(`${quote(source.display)} -> ${quote(destination.display)}`);
  }
}

/** Memory for blocks: of the connection's, where one end is on a server. */
function blockMemory(source: Target, destination: Target): BlockMemory {
  const served = [destination.files, source.files].find((files) => files instanceof NfsFiles);
  if (served instanceof NfsFiles) {
    const { api } = served;
    return new BlockMemory((bytes) => api.allocate(bytes), { blockBytes: api.blockBytes, totalBytes: MEMORY_BYTES });
  }
  const plain = (bytes: number) => ({ bytes: new Uint8Array(bytes), release: () => {}, [Symbol.dispose]: () => {} });
  return new BlockMemory(plain, { blockBytes: LOCAL_BLOCK_BYTES, totalBytes: MEMORY_BYTES });
}

function toEnd(target: Target, file: Awaited<ReturnType<Target["api"]["open"]>>): CopyEnd {
  return target.files instanceof NfsFiles ? new NfsEnd(file as NfsFile) : new LocalEnd(file as Deno.FsFile);
}

/** A place, by tree and path. */
function keyOf({ files, path }: Target): string {
  return `${files.id} ${path.replace(/\/+/g, "/").replace(/\/$/, "")}`;
}

function isSameFile(a: Target, aInfo: Deno.FileInfo, b: Target, bInfo: Deno.FileInfo): boolean {
  if (a.files.id !== b.files.id) return false;
  return aInfo.dev === bInfo.dev && aInfo.ino === bInfo.ino && aInfo.ino !== null;
}

/** Whether a place lies in a directory. */
async function isInside(directory: Target, place: Target): Promise<boolean> {
  if (directory.files.id !== place.files.id) return false;
  try {
    const above = await directory.api.realPath(directory.path);
    const parent = place.path.replace(/\/+$/, "").replace(/[^/]*$/, "");
    const real = await place.api.realPath(place.path).catch(() => place.api.realPath(parent === "" ? "." : parent));
    return real === above || real.startsWith(above === "/" ? "/" : `${above}/`);
  } catch {
    return false;
  }
}

/** As cp: only root can give files away, and nobody complains. */
async function unlessRefused(change: Promise<void>): Promise<boolean> {
  try {
    await change;
    return true;
  } catch (error) {
    if (!["EPERM", "EACCES", "EINVAL"].includes(codeOf(error) ?? "")) throw error;
    return false;
  }
}

function umask(): number {
  try {
    return Deno.umask();
  } catch {
    return 0o022;
  }
}
