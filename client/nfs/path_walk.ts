/**
 * From a path to a file: one LOOKUP a component, symbolic links followed here, as NFS leaves that to the client.
 *
 * The root of the mount is the root of every path, of absolute link targets too, and ".." ends there: a link on the server
 * never leads to anything of the client's, nor out of what is mounted.
 *
 * @module
 */
import { ftype3, NfsError, nfsstat3 } from "../../storage/nfs/mod.ts";
import { LocalFault } from "../errors.ts";
import { decodeName, encodeName, PATH_BYTES_MAX, splitPath } from "../names.ts";
import type { NfsClient, Node, Options, Place } from "./nfs_client.ts";

/** Symbolic links followed in one path (as MAXSYMLINKS of Linux). */
export const LINKS_MAX = 40;
/**
 * For how long a directory on the way is taken to be where it was. Changes of our own count at once; somebody else's renaming of
 * a directory may go unnoticed for this long. Files, links, and what is missing are never taken from memory.
 */
const REMEMBERED_MS = 1000;
/** Directories remembered at most. */
const REMEMBERED_MAX = 4096;

/** Where a path leads. */
export interface Resolved {
  /** Real path: components from the root, no symbolic links, the last one included whether or not it exists. */
  path: string[];
  /** Directory and name of the last component; `undefined` for the root. */
  place?: Place;
  /** What is there; `undefined` where only the last component is missing. */
  node?: Node;
  /** The path ends with a slash, so that it can only mean a directory. */
  isDirectoryWanted: boolean;
}

/** How to walk. */
export interface WalkOptions extends Options {
  /** What to do with a symbolic link as the last component: follow it where true. */
  follow: boolean;
}

interface Step {
  name: string;
  node: Node;
  /** Real path of this directory, by which it is remembered. */
  path: string;
}

/** Walks paths below one root. */
export class PathWalker {
  readonly #client: NfsClient;
  readonly #root: Node;
  readonly #remembered = new Map<string, { node: Node; untilMs: number }>();

  constructor(client: NfsClient, root: Node) {
    this.#client = client;
    this.#root = root;
  }

  /** Finds what a path means. Throws `NfsError` for a component that is missing, no directory or not accessible, `LocalFault` for too many links. */
  async walk(path: string, options: WalkOptions): Promise<Resolved> {
    if (path === "") throw new NfsError(nfsstat3.NFS3ERR_NOENT);
    if (encodeName(path).byteLength >= PATH_BYTES_MAX) throw new NfsError(nfsstat3.NFS3ERR_NAMETOOLONG);
    const steps: Step[] = [];
    const top = () => steps.at(-1)?.node ?? this.#root;
    let isDirectoryWanted = endsAsDirectory(path);
    let rest = splitPath(path);
    let links = 0;
    while (rest.length > 0) {
      options.signal?.throwIfAborted();
      const [name, ...behind] = rest;
      rest = behind;
      if (name === "..") {
        steps.pop();
        continue;
      }
      const place = { directory: top().handle, name: encodeName(name) };
      const isLast = rest.length === 0;
      const here = `${steps.at(-1)?.path ?? ""}/${name}`;
      const remembered = isLast ? undefined : this.#recall(here);
      const node = remembered ?? await this.#find(place, isLast, options);
      if (node === undefined) return { path: [...steps.map((step) => step.name), name], place, isDirectoryWanted };
      if (node.attributes.type === ftype3.NF3LNK && (!isLast || options.follow || isDirectoryWanted)) {
        if (++links > LINKS_MAX) throw new LocalFault("ELOOP");
        const target = decodeName(await this.#client.readLink(node.handle, options));
        if (target === "") throw new NfsError(nfsstat3.NFS3ERR_NOENT);
        if (target.startsWith("/")) steps.length = 0;
        isDirectoryWanted ||= isLast && endsAsDirectory(target);
        rest = [...splitPath(target), ...rest];
        continue;
      }
      const isDirectory = node.attributes.type === ftype3.NF3DIR;
      if (!isDirectory && (!isLast || isDirectoryWanted)) throw new NfsError(nfsstat3.NFS3ERR_NOTDIR);
      if (isDirectory && remembered === undefined) this.#remember(here, node);
      steps.push({ name, node, path: here });
    }
    const last = steps.at(-1);
    const directory = steps.at(-2)?.node ?? this.#root;
    return {
      path: steps.map((step) => step.name),
      place: last && { directory: directory.handle, name: encodeName(last.name) },
      node: last?.node ?? this.#root,
      isDirectoryWanted,
    };
  }

  /**
   * The directory and the name that a path's last component stands for, whether or not that exists and whatever it is; no place for
   * the root and for a path that ends with "..".
   */
  async walkToParent(path: string, options: Options): Promise<{ place?: Place; isDirectoryWanted: boolean }> {
    const parts = splitPath(path);
    const name = parts.pop();
    if (name === undefined || name === "..") {
      await this.walk(path, { ...options, follow: true });
      return { isDirectoryWanted: true };
    }
    if (encodeName(path).byteLength >= PATH_BYTES_MAX) throw new NfsError(nfsstat3.NFS3ERR_NAMETOOLONG);
    const directory = await this.find(`/${parts.join("/")}/`, { ...options, follow: true });
    return {
      place: { directory: directory.handle, name: encodeName(name) },
      isDirectoryWanted: endsAsDirectory(path),
    };
  }

  /** The existing file that a path leads to. */
  async find(path: string, options: WalkOptions): Promise<Node> {
    const { node } = await this.walk(path, options);
    if (node === undefined) throw new NfsError(nfsstat3.NFS3ERR_NOENT);
    return node;
  }

  /** To be called when a directory was renamed or removed. True where something was remembered. */
  forget(): boolean {
    const isAny = this.#remembered.size > 0;
    this.#remembered.clear();
    return isAny;
  }

  #recall(path: string): Node | undefined {
    const found = this.#remembered.get(path);
    return found !== undefined && performance.now() < found.untilMs ? found.node : undefined;
  }

  #remember(path: string, node: Node): void {
    if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear();
    this.#remembered.set(path, { node, untilMs: performance.now() + REMEMBERED_MS });
  }

  async #find(place: Place, isLast: boolean, options: Options): Promise<Node | undefined> {
    try {
      return await this.#client.lookup(place, options);
    } catch (error) {
      if (isLast && error instanceof NfsError && error.status === nfsstat3.NFS3ERR_NOENT) return undefined;
      throw error;
    }
  }
}

/** Whether a path can only mean a directory: it ends with "/", "/." or "/..". */
function endsAsDirectory(path: string): boolean {
  return /(^|\/)(\.\.?)?$/.test(path);
}
