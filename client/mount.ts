/**
 * From a URL to a mounted file system.
 *
 * @module
 */
import { encodeAuthSys } from "../rpc/auth/auth_sys.ts";
import { RpcError } from "../rpc/errors.ts";
import type { ClientTransport } from "../rpc/transport.ts";
import type { OpaqueAuth } from "../rpc/wire/rpc_message.ts";
import { ftype3, NfsError, nfsstat3, STREAM_BYTES_MAX } from "../storage/nfs/mod.ts";
import { Connector } from "./connect.ts";
import { asFileErrors } from "./errors.ts";
import { NfsFileSystem } from "./file_system.ts";
import { splitPath } from "./names.ts";
import { findExport, MountClient } from "./nfs/mount_client.ts";
import { NfsClient, type Node, type Options } from "./nfs/nfs_client.ts";
import { PathWalker } from "./nfs/path_walk.ts";
import { findMountPort, PORTMAPPER_PORT } from "./nfs/portmap_client.ts";
import { ReconnectingTransport } from "./nfs/reconnecting_transport.ts";
import { Session } from "./session.ts";
import { formatNfsUrl, type NfsUrl, parseNfsUrl, type Proto } from "./url.ts";

/** The fewest bytes of one READ or WRITE that make sense. */
const TRANSFER_BYTES_MIN = 512;
/** A server gets this long to say goodbye. */
const UNMOUNT_MS = 1000;
/** Supplementary groups that AUTH_SYS has room for. */
const GIDS_MAX = 16;

/** Makes connections to a server. */
export type Dial = (signal: AbortSignal) => Promise<ClientTransport>;

/** Choices for a mount. Where the URL makes the same choice, the one made here counts. */
export interface MountOptions {
  /** Ends the mounting. */
  signal?: AbortSignal;
  /** Ends every operation of the file system, once it is mounted. */
  operationsSignal?: AbortSignal;
  /** Only this transport; else RDMA, and TCP where the peer has no iWARP. */
  proto?: Proto;
  /** Who we are to the server; the user and the groups of this process where absent. */
  uid?: number;
  /** Our group. */
  gid?: number;
  /** Further groups of ours; AUTH_SYS takes 16. */
  gids?: readonly number[];
  /** Ask for CRC32C on an iWARP connection. */
  crc?: boolean;
  /** TCP port of a MOUNT service that is not on the port of NFS; where absent, the server's portmapper is asked for that. */
  mountPort?: number;
  /** How long operations wait for a server that went away, milliseconds; two minutes where absent. */
  retryMs?: number;
  /** After how long a silent server counts as gone, milliseconds; one minute where absent. */
  silenceMs?: number;
  /** `false`: a large `write` of a file does not wait for stable storage; what a server that restarts loses shows as an error of `sync`. */
  writeThrough?: boolean;
  /** Makes the connections, instead of what the URL says. */
  dial?: Dial;
}

/**
 * Mounts the directory that a URL names, and makes it the root of every path.
 *
 * ```ts ignore
 * import { mount } from "@weft/weft";
 *
 * await using fs = await mount("nfs://localhost/");
 * await fs.writeTextFile("hello.txt", "Hello");
 * ```
 *
 * Rejects with `TypeError` for a bad URL, `Deno.errors.NotFound`, `PermissionDenied` and the like for what the server says of the
 * path, `Deno.errors.ConnectionRefused`, `TimedOut` and the like where there is no server, or the signal's reason.
 */
export async function mount(url: string | URL, options: MountOptions = {}): Promise<NfsFileSystem> {
  const parsed = parseNfsUrl(url);
  return await connect(parsed, options, async (client, mounts, call) => {
    const path = `/${splitPath(parsed.path).join("/")}`;
    const found = await findRoot(mounts, path, { candidates: [path], call });
    const root = { handle: found.handle, attributes: await client.getAttributes(found.handle, call) };
    const walker = new PathWalker(client, root);
    const node = found.rest === "/" ? root : await walker.find(found.rest, { ...call, follow: true });
    return { node, directory: found.directory, result: (fs) => fs };
  });
}

/** A mounted export, and where in it a URL leads. */
export interface MountedExport {
  /** Its files. */
  fs: NfsFileSystem;
  /** What was mounted. */
  directory: string;
  /** The way on from there. */
  path: string;
  /** Everything that the server exports, as far as it tells. */
  exports: string[];
}

/**
 * Mounts the export in which the path of a URL lies: for paths of single files, and with symbolic links and ".." on the way.
 * Rejects as `mount` does.
 */
export async function mountExport(url: NfsUrl, options: MountOptions = {}): Promise<MountedExport> {
  return await connect(url, options, async (client, mounts, call) => {
    const parts = splitPath(url.path);
    const above = parts.map((_, at) => `/${parts.slice(0, parts.length - at - 1).join("/")}`);
    const exports = await mounts.exports(call).catch((): string[] => []);
    const exported = findExport(exports, url.path);
    const candidates = exported === undefined ? [`/${parts.join("/")}`, ...above] : [exported.directory];
    const { handle, directory, rest } = await findRoot(mounts, url.path, { candidates, call });
    const node = { handle, attributes: await client.getAttributes(handle, call) };
    return { node, directory, result: (fs) => ({ fs, directory, path: rest, exports }) };
  });
}

/** Finds the root of a mount. */
type FindRoot<T> = (
  client: NfsClient,
  mounts: MountClient,
  call: Options,
) => Promise<{ node: Node; directory: string; result: (fs: NfsFileSystem) => T }>;

/** Connects, has the root found, and puts the file system together. */
async function connect<T>(url: NfsUrl, options: MountOptions, find: FindRoot<T>): Promise<T> {
  const { signal } = options;
  const connector = new Connector(url, options);
  const dial = options.dial ?? ((signal: AbortSignal) => connector.dial(signal));
  const call = { signal };
  let transport: ReconnectingTransport | undefined;
  const close = async () => {
    await transport?.close();
    await connector[Symbol.asyncDispose]();
  };
  try {
    const first = await dial(signal ?? new AbortController().signal);
    const connection = new ReconnectingTransport(first, { dial, ...options });
    transport = connection;
    const credential = encodeAuthSys(await whoWeAre(url, options));
    const client = new NfsClient(connection, { credential, connections: () => connection.connections });
    const port = options.mountPort ?? url.mountPort;
    const service = new MountService(connection, { connector, credential, port, isAlone: options.dial !== undefined });
    return await asFileErrors(`mount '${formatNfsUrl(url)}'`, async () => {
      const { node, directory, result } = await service.run((mounts) => find(client, mounts, call), signal);
      if (node.attributes.type !== ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_NOTDIR);
      const { rtmax, wtmax } = await client.fileSystemInfo(node.handle, call);
      const session = new Session(client, node, {
        readBytesMax: clampTransfer(rtmax),
        writeBytesMax: clampTransfer(wtmax),
        writeThrough: options.writeThrough ?? true,
        register: options.dial === undefined ? (bytes) => connector.register(bytes) : undefined,
        signal: options.operationsSignal,
      });
      return result(
        new NfsFileSystem(session, async () => {
          if (connection.isConnected) await sayGoodbye(service, directory);
          await close();
        }),
      );
    });
  } catch (error) {
    await close();
    throw error;
  }
}

/** Where MOUNT is: on the connection of NFS; else where an option or the portmapper says, by TCP. */
class MountService {
  readonly #transport: ClientTransport;
  readonly #connector: Connector;
  readonly #credential: OpaqueAuth;
  /** There is only the one connection. */
  readonly #isAlone: boolean;
  #port: number | undefined;

  constructor(
    transport: ClientTransport,
    options: { connector: Connector; credential: OpaqueAuth; port: number | undefined; isAlone: boolean },
  ) {
    this.#transport = transport;
    this.#connector = options.connector;
    this.#credential = options.credential;
    this.#port = options.port;
    this.#isAlone = options.isAlone;
  }

  /** Runs calls of MOUNT. */
  async run<T>(calls: (mounts: MountClient) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const credential = this.#credential;
    if (this.#port === undefined) {
      try {
        return await calls(new MountClient(this.#transport, { credential }));
      } catch (error) {
        const isElsewhere = error instanceof RpcError && error.status === "PROG_UNAVAIL";
        this.#port = isElsewhere && !this.#isAlone ? await this.#askPortmapper(signal) : undefined;
        if (this.#port === undefined) throw error;
      }
    }
    await using transport = await this.#dial(this.#port, signal);
    return await calls(new MountClient(transport, { credential }));
  }

  async #askPortmapper(signal: AbortSignal | undefined): Promise<number | undefined> {
    try {
      await using transport = await this.#dial(PORTMAPPER_PORT, signal);
      return await findMountPort(transport, { signal }) || undefined;
    } catch {
      signal?.throwIfAborted();
      return undefined; // that the server has no MOUNT says more than that it has no portmapper
    }
  }

  async #dial(port: number, signal: AbortSignal | undefined): Promise<ClientTransport> {
    return await this.#connector.dialPort(port, signal ?? new AbortController().signal);
  }
}

/** The first of some directories that the server lets us mount; if it is none, what it exports above the path. */
async function findRoot(
  mounts: MountClient,
  path: string,
  { candidates, call }: { candidates: string[]; call: Options },
): Promise<{ handle: Uint8Array; directory: string; rest: string }> {
  const refusals: NfsError[] = [];
  const mountIn = async (directory: string) => {
    try {
      const rest = splitPath(path).slice(splitPath(directory).length);
      return { handle: await mounts.mount(directory, call), directory, rest: `/${rest.join("/")}` };
    } catch (error) {
      if (!(error instanceof NfsError)) throw error;
      refusals.push(error);
      return undefined;
    }
  };
  for (const directory of candidates) {
    const found = await mountIn(directory);
    if (found !== undefined) return found;
  }
  const exported = findExport(await mounts.exports(call).catch(() => []), path);
  const isNew = exported !== undefined && !candidates.includes(exported.directory);
  const found = isNew ? await mountIn(exported.directory) : undefined;
  if (found === undefined) throw refusals[0];
  return found;
}

/** The server's list of mounts only informs: a goodbye that fails harms nobody. */
async function sayGoodbye(service: MountService, directory: string): Promise<void> {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), UNMOUNT_MS);
  const { signal } = patience;
  await service.run((mounts) => mounts.unmount(directory, { signal }), signal).catch(() => {});
  clearTimeout(timer);
}

function clampTransfer(bytes: number): number {
  return Math.max(TRANSFER_BYTES_MIN, Math.min(bytes, STREAM_BYTES_MAX));
}

/** What AUTH_SYS says of us. */
async function whoWeAre(
  url: NfsUrl,
  options: MountOptions,
): Promise<{ uid: number; gid: number; gids: readonly number[]; machinename: string }> {
  const uid = options.uid ?? url.uid ?? Deno.uid() ?? 65534;
  const gid = options.gid ?? url.gid ?? Deno.gid() ?? 65534;
  const isSelf = options.uid === undefined && url.uid === undefined;
  const gids = options.gids ?? (isSelf ? await ownGroups() : []);
  return { uid, gid, gids: gids.slice(0, GIDS_MAX), machinename: hostname() };
}

/** Supplementary groups of this process; Deno does not tell, Linux does. */
async function ownGroups(): Promise<number[]> {
  const status = await Deno.readTextFile("/proc/self/status").catch(() => "");
  const groups = /^Groups:[ \t]*([0-9 ]*)$/m.exec(status)?.[1] ?? "";
  return groups.split(" ").filter((group) => group !== "").map(Number);
}

function hostname(): string {
  try {
    return Deno.hostname().slice(0, 255);
  } catch {
    return "";
  }
}
