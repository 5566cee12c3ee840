/**
 * Server, NFS: MOUNT version 3 (RFC 1813 §5.2), which turns a path into the handle that a client starts from.
 *
 * @module
 */
import { type CallContext, type Service, service } from "../../rpc/server.ts";
import { AuthFlavor } from "../../rpc/wire/rpc_message.ts";
import { type Credentials, type FileHandle, FileType, FsError } from "../../storage/backend/file_system.ts";
import { LIST_BYTES_MAX, MOUNT3, type mount3, mountstat3 } from "../../storage/nfs/mod.ts";
import type { Export } from "../exports.ts";
import { run, type Steps, wait } from "./steps.ts";

/** What a client may authenticate with, the preferred one first. */
const FLAVORS = [AuthFlavor.AUTH_SYS, AuthFlavor.AUTH_NONE];
/** Mounting only finds the way: what a caller may do there is checked with each call. */
const FINDER: Credentials = { uid: 0, gid: 0, gids: [] };
/** Mounts remembered at most; the oldest are forgotten first. */
const MOUNTS_REMEMBERED_MAX = 256;

const utf8 = new TextEncoder();

/** MOUNT for one export. The list of mounts is what clients said and informs only. */
export function mount3Service(options: { export: Export }): Service {
  const exported = options.export;
  const mounts = new MountList();
  return service(MOUNT3, {
    NULL: () => {},
    MNT: (path, context) => run(mount(path, { exported, mounts, context })),
    DUMP: () => mounts.list(),
    UMNT: (path, context) => mounts.delete(context.peer.address, path),
    UMNTALL: (_, context) => mounts.deleteAll(context.peer.address),
    EXPORT: () => [{ ex_dir: utf8.encode(exported.path), ex_groups: [] }],
  });
}

function* mount(
  path: Uint8Array,
  { exported, mounts, context }: { exported: Export; mounts: MountList; context: CallContext },
): Steps<mount3.mountres3> {
  try {
    const fhandle = yield* find(path, exported);
    mounts.add(context.peer.address, path);
    return { fhs_status: mountstat3.MNT3_OK, value: { fhandle, auth_flavors: FLAVORS } };
  } catch (error) {
    if (error instanceof MountError) return { fhs_status: error.status };
    if (error instanceof FsError) return { fhs_status: STATUS_BY_ERRNO.get(error.code) ?? mountstat3.MNT3ERR_IO };
    throw error;
  }
}

/** Follows the path from the export's root, through directories only: a symbolic link is the client's to follow. */
function* find(path: Uint8Array, { path: exportPath, fileSystem }: Export): Steps<FileHandle> {
  let directory = fileSystem.root;
  const { attributes } = yield* wait(fileSystem.lookup(directory, utf8.encode("."), FINDER));
  if (attributes.type !== FileType.Directory) throw new MountError(mountstat3.MNT3ERR_NOTDIR);
  for (const name of namesBelow(path, exportPath)) {
    if (name.byteLength > fileSystem.limits.nameBytesMax) throw new MountError(mountstat3.MNT3ERR_NAMETOOLONG);
    const found = yield* wait(fileSystem.lookup(directory, name, FINDER));
    if (found.attributes.type !== FileType.Directory) throw new MountError(mountstat3.MNT3ERR_NOTDIR);
    directory = found.handle;
  }
  return directory;
}

/**
 * The names that lead from an export's root to a path. Empty ones and "." lead nowhere and are left out; ".." is refused. An empty
 * path is "/": libnfs asks for it, and the Linux server takes it so.
 */
function namesBelow(path: Uint8Array, exportPath: string): Uint8Array[] {
  const names = split(path);
  const isAbsolute = path.byteLength === 0 || path[0] === SLASH;
  if (!isAbsolute || path.includes(0) || names.some((name) => sameBytes(name, DOT_DOT))) {
    throw new MountError(mountstat3.MNT3ERR_INVAL);
  }
  for (const expected of split(utf8.encode(exportPath))) {
    const name = names.shift();
    if (name === undefined || !sameBytes(name, expected)) throw new MountError(mountstat3.MNT3ERR_NOENT);
  }
  return names;
}

const SLASH = 0x2f;
const DOT = utf8.encode(".");
const DOT_DOT = utf8.encode("..");

function split(path: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  for (let start = 0; start <= path.byteLength;) {
    const slash = path.indexOf(SLASH, start);
    const end = slash < 0 ? path.byteLength : slash;
    const name = path.subarray(start, end);
    if (name.byteLength > 0 && !sameBytes(name, DOT)) names.push(name);
    start = end + 1;
  }
  return names;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
}

class MountError extends Error {
  override readonly name = "MountError";
  constructor(readonly status: Exclude<mount3.mountstat3, typeof mountstat3.MNT3_OK>) {
    super(mountstat3.nameOf(status));
  }
}

const STATUS_BY_ERRNO: ReadonlyMap<string, MountError["status"]> = new Map<string, MountError["status"]>([
  ["EPERM", mountstat3.MNT3ERR_PERM],
  ["ENOENT", mountstat3.MNT3ERR_NOENT],
  ["EACCES", mountstat3.MNT3ERR_ACCES],
  ["ENOTDIR", mountstat3.MNT3ERR_NOTDIR],
  ["EINVAL", mountstat3.MNT3ERR_INVAL],
  ["ENAMETOOLONG", mountstat3.MNT3ERR_NAMETOOLONG],
]);

/** Who has mounted what, by their own word. */
class MountList {
  readonly #entries = new Map<string, mount3.mountbody>();

  add(address: string, path: Uint8Array): void {
    const key = keyOf(address, path);
    this.#entries.delete(key);
    this.#entries.set(key, { ml_hostname: utf8.encode(address), ml_directory: path.slice() });
    if (this.#entries.size <= MOUNTS_REMEMBERED_MAX) return;
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      break;
    }
  }

  delete(address: string, path: Uint8Array): void {
    this.#entries.delete(keyOf(address, path));
  }

  deleteAll(address: string): void {
    for (const key of this.#entries.keys()) if (key.startsWith(`${address} `)) this.#entries.delete(key);
  }

  /** The newest mounts, as many as a reply has room for. */
  list(): mount3.mountlist {
    const mounts: mount3.mountlist = [];
    let bytes = END_OF_LIST_BYTES;
    for (const mount of [...this.#entries.values()].reverse()) {
      bytes += END_OF_LIST_BYTES + 4 + padded(mount.ml_hostname.byteLength) + 4 + padded(mount.ml_directory.byteLength);
      if (bytes > LIST_BYTES_MAX) break;
      mounts.push(mount);
    }
    return mounts;
  }
}

const END_OF_LIST_BYTES = 4;

function padded(length: number): number {
  return (length + 3) & ~3;
}

function keyOf(address: string, path: Uint8Array): string {
  return `${address} ${path.toHex()}`;
}
