/**
 * NFSv3 and MOUNT as typed calls (RFC 1813 §3, §5): handles and names in, what was asked for out, a server's refusal thrown as
 * `NfsError`.
 *
 * A server that asks for patience (NFS3ERR_JUKEBOX) is asked again. Calls that must not be carried out twice, but may have been
 * because the connection broke and the server restarted meanwhile, have their second answer read with that in mind.
 *
 * @module
 */
import { RpcClient } from "../../rpc/client.ts";
import type { Procedure } from "../../rpc/program.ts";
import type { ClientTransport } from "../../rpc/transport.ts";
import type { OpaqueAuth } from "../../rpc/wire/rpc_message.ts";
import type {
  CREATE3resok,
  fattr3,
  FSINFO3resok,
  FSSTAT3resok,
  PATHCONF3resok,
  Result3,
  sattr3,
  specdata3,
} from "../../storage/nfs/mod.ts";
import {
  createmode3,
  ftype3,
  listingResultsBytesMax,
  NFS3,
  NfsError,
  nfsstat3,
  stable_how,
  time_how,
} from "../../storage/nfs/mod.ts";
import { pause } from "./reconnecting_transport.ts";

/** Pauses before a server that answered NFS3ERR_JUKEBOX is asked again, and how often it is. */
const JUKEBOX_PAUSE_MS = 500;
const JUKEBOX_PAUSE_MS_MAX = 5_000;
const JUKEBOX_TRIES = 30;

/** What every call takes. */
export interface Options {
  signal?: AbortSignal;
}

/** A file and what is known of it. */
export interface Node {
  handle: Uint8Array;
  attributes: fattr3;
}

/** A time, as NFS carries it. */
export interface Time {
  /** Since 1970, UTC. */
  seconds: number;
  /** Below a thousand million. */
  nseconds: number;
}

/** What to change of a file; what is absent stays. */
export interface Changes {
  /** Permission bits. */
  mode?: number;
  /** Owner. */
  uid?: number;
  /** Group. */
  gid?: number;
  /** Length, bytes. */
  size?: bigint;
  /** Last access; "now": by the server's clock. */
  atime?: Time | "now";
  /** Last change of the contents; "now": by the server's clock. */
  mtime?: Time | "now";
}

/** What one WRITE did. */
export interface WriteResult {
  bytesWritten: number;
  /** Whether it is on stable storage; if not, it takes a COMMIT. */
  isStable: boolean;
  /** Changes when the server restarts and may have lost what was not stable. */
  verifier: bigint;
}

/** One name of a directory listing. */
export interface ListedEntry {
  name: Uint8Array;
  fileid: bigint;
  cookie: bigint;
  attributes?: fattr3;
  handle?: Uint8Array;
}

/** A piece of a directory listing. */
export interface Listing {
  entries: ListedEntry[];
  verifier: Uint8Array;
  eof: boolean;
}

/** A name in a directory. */
export interface Place {
  directory: Uint8Array;
  name: Uint8Array;
}

const procedures = NFS3.procedures;

/** `sattr3` for some changes. */
export function toSattr3(changes: Changes): sattr3 {
  const time = (value: Time | "now" | undefined): sattr3["atime"] => {
    if (value === undefined) return { set_it: time_how.DONT_CHANGE };
    if (value === "now") return { set_it: time_how.SET_TO_SERVER_TIME };
    return { set_it: time_how.SET_TO_CLIENT_TIME, value };
  };
  return {
    mode: changes.mode,
    uid: changes.uid,
    gid: changes.gid,
    size: changes.size,
    atime: time(changes.atime),
    mtime: time(changes.mtime),
  };
}

/** Calls an NFSv3 server over one transport. */
export class NfsClient {
  readonly #rpc: RpcClient;
  readonly #connections: () => number;

  /** `connections`: how many connections the transport has made so far, where it makes more than one. */
  constructor(transport: ClientTransport, options: { credential: OpaqueAuth; connections?: () => number }) {
    this.#rpc = new RpcClient(transport, { program: NFS3, credential: options.credential });
    this.#connections = options.connections ?? (() => 1);
  }

  /** The transport that calls go over. */
  get transport(): ClientTransport {
    return this.#rpc.transport;
  }

  /** GETATTR (RFC 1813 §3.3.1). */
  async getAttributes(file: Uint8Array, options?: Options): Promise<fattr3> {
    return (await this.#call(procedures.GETATTR, { object: file }, options)).obj_attributes;
  }

  /** SETATTR (RFC 1813 §3.3.2). */
  async setAttributes(file: Uint8Array, changes: Changes, options?: Options): Promise<void> {
    await this.#call(procedures.SETATTR, { object: file, new_attributes: toSattr3(changes) }, options);
  }

  /** LOOKUP (RFC 1813 §3.3.3), and GETATTR where the server leaves the attributes out. */
  async lookup(place: Place, options?: Options): Promise<Node> {
    const found = await this.#call(procedures.LOOKUP, { what: toWhat(place) }, options);
    const handle = found.object;
    return { handle, attributes: found.obj_attributes ?? await this.getAttributes(handle, options) };
  }

  /** ACCESS (RFC 1813 §3.3.4): those of the asked `ACCESS3_*` bits that are granted. */
  async access(file: Uint8Array, bits: number, options?: Options): Promise<number> {
    return (await this.#call(procedures.ACCESS, { object: file, access: bits }, options)).access;
  }

  /** READLINK (RFC 1813 §3.3.5): the target, as bytes. */
  async readLink(file: Uint8Array, options?: Options): Promise<Uint8Array> {
    // a target is short: it comes in the reply, as the Linux client has it, not as a chunk of its own
    const { data } = await this.#call(procedures.READLINK, { symlink: file }, options);
    return data.length === 1 ? data[0] : new Uint8Array(0);
  }

  /** READ (RFC 1813 §3.3.6), straight into `into`. May return less than asked for; `eof` tells whether the file ends there. */
  async read(
    file: Uint8Array,
    range: { offset: bigint; into: Uint8Array },
    options?: Options,
  ): Promise<{ bytesRead: number; eof: boolean }> {
    const { offset, into } = range;
    const args = { file, offset, count: into.byteLength };
    const { count, eof, data } = await this.#call(procedures.READ, args, { ...options, into });
    const bytesRead = data.reduce((sum, piece) => sum + piece.byteLength, 0);
    if (bytesRead !== count) {
      throw new NfsError(nfsstat3.NFS3ERR_SERVERFAULT, `READ counts ${count} bytes and brings ${bytesRead}`);
    }
    return { bytesRead, eof };
  }

  /** WRITE (RFC 1813 §3.3.7), from where `data` lies. May write less. */
  async write(
    file: Uint8Array,
    range: { offset: bigint; data: Uint8Array; stable: boolean },
    options?: Options,
  ): Promise<WriteResult> {
    const { offset, data } = range;
    const stable = range.stable ? stable_how.FILE_SYNC : stable_how.UNSTABLE;
    const pieces = data.byteLength === 0 ? [] : [data];
    const args = { file, offset, count: data.byteLength, stable, data: pieces };
    const { count, committed, verf } = await this.#call(procedures.WRITE, args, options);
    if (count > data.byteLength || (count === 0 && data.byteLength > 0)) {
      throw new NfsError(nfsstat3.NFS3ERR_SERVERFAULT, `WRITE of ${data.byteLength} bytes took ${count}`);
    }
    return { bytesWritten: count, isStable: committed !== stable_how.UNSTABLE, verifier: toVerifier(verf) };
  }

  /** COMMIT (RFC 1813 §3.3.21) of the whole file: the verifier of the server that holds it now. */
  async commit(file: Uint8Array, options?: Options): Promise<bigint> {
    return toVerifier((await this.#call(procedures.COMMIT, { file, offset: 0n, count: 0 }, options)).verf);
  }

  /** CREATE (RFC 1813 §3.3.8), UNCHECKED: a file that exists already is taken as it is, except for `size`. */
  async create(place: Place, changes: Changes, options?: Options): Promise<Node> {
    const how = { mode: createmode3.UNCHECKED, value: toSattr3(changes) };
    return await this.#made(
      place,
      await this.#call(procedures.CREATE, { where: toWhat(place), how }, options),
      options,
    );
  }

  /**
   * CREATE (RFC 1813 §3.3.8), EXCLUSIVE: fails with NFS3ERR_EXIST where the name exists, unless this very call made it. The changes
   * are made afterwards, as this kind of call cannot carry them, and do not show in the attributes returned.
   */
  async createNew(place: Place, changes: Changes, options?: Options): Promise<Node> {
    const verf = crypto.getRandomValues(new Uint8Array(8));
    const how = { mode: createmode3.EXCLUSIVE, value: verf };
    const made = await this.#call(procedures.CREATE, { where: toWhat(place), how }, options);
    const node = await this.#made(place, made, options);
    // The server may have kept the verifier in the times.
    await this.setAttributes(node.handle, { atime: "now", mtime: "now", ...changes }, options);
    return node;
  }

  /** MKDIR (RFC 1813 §3.3.9). */
  async makeDirectory(place: Place, changes: Changes, options?: Options): Promise<Node> {
    const args = { where: toWhat(place), attributes: toSattr3(changes) };
    let there: Node | undefined;
    const made = await this.#callOnce(
      () => this.#call(procedures.MKDIR, args, options),
      nfsstat3.NFS3ERR_EXIST,
      async () => {
        there = await this.lookup(place, options);
        return there.attributes.type === ftype3.NF3DIR;
      },
    );
    return made === undefined ? there! : await this.#made(place, made, options);
  }

  /** SYMLINK (RFC 1813 §3.3.10). */
  async symlink(place: Place, target: Uint8Array, options?: Options): Promise<void> {
    const symlink_data = target.byteLength === 0 ? [] : [target];
    const symlink = { symlink_attributes: toSattr3({ mode: 0o777 }), symlink_data };
    await this.#callOnce(
      () => this.#call(procedures.SYMLINK, { where: toWhat(place), symlink }, options),
      nfsstat3.NFS3ERR_EXIST,
      async () => {
        const { handle, attributes } = await this.lookup(place, options);
        return attributes.type === ftype3.NF3LNK && isEqual(await this.readLink(handle, options), target);
      },
    );
  }

  /** MKNOD (RFC 1813 §3.3.11) of a FIFO, a socket or a device. */
  async makeNode(
    place: Place,
    node: { type: ftype3; device: specdata3; changes: Changes },
    options?: Options,
  ): Promise<Node> {
    const dev_attributes = toSattr3(node.changes);
    const isDevice = node.type === ftype3.NF3BLK || node.type === ftype3.NF3CHR;
    const what = isDevice
      ? { type: node.type as typeof ftype3.NF3BLK, value: { dev_attributes, spec: node.device } }
      : { type: node.type as typeof ftype3.NF3FIFO, value: dev_attributes };
    return await this.#made(
      place,
      await this.#call(procedures.MKNOD, { where: toWhat(place), what }, options),
      options,
    );
  }

  /** REMOVE (RFC 1813 §3.3.12) of anything but a directory. */
  async remove(place: Place, options?: Options): Promise<void> {
    await this.#callOnce(
      () => this.#call(procedures.REMOVE, { object: toWhat(place) }, options),
      nfsstat3.NFS3ERR_NOENT,
      () => Promise.resolve(true),
    );
  }

  /** RMDIR (RFC 1813 §3.3.13). */
  async removeDirectory(place: Place, options?: Options): Promise<void> {
    await this.#callOnce(
      () => this.#call(procedures.RMDIR, { object: toWhat(place) }, options),
      nfsstat3.NFS3ERR_NOENT,
      () => Promise.resolve(true),
    );
  }

  /** RENAME (RFC 1813 §3.3.14). */
  async rename(from: Place & { fileid?: bigint }, to: Place, options?: Options): Promise<void> {
    await this.#callOnce(
      () => this.#call(procedures.RENAME, { from: toWhat(from), to: toWhat(to) }, options),
      nfsstat3.NFS3ERR_NOENT,
      async () => (await this.lookup(to, options)).attributes.fileid === from.fileid,
    );
  }

  /** LINK (RFC 1813 §3.3.15). */
  async link(file: Uint8Array, place: Place, options?: Options): Promise<void> {
    await this.#callOnce(
      () => this.#call(procedures.LINK, { file, link: toWhat(place) }, options),
      nfsstat3.NFS3ERR_EXIST,
      async () => {
        const [there, here] = [await this.lookup(place, options), await this.getAttributes(file, options)];
        return there.attributes.fileid === here.fileid && there.attributes.fsid === here.fsid;
      },
    );
  }

  /** READDIR (RFC 1813 §3.3.16) from behind `cookie`. */
  async readDirectory(
    directory: Uint8Array,
    from: { cookie: bigint; verifier: Uint8Array; countBytes: number },
    options?: Options,
  ): Promise<Listing> {
    const args = { dir: directory, cookie: from.cookie, cookieverf: from.verifier, count: from.countBytes };
    const resultsBytesMax = listingResultsBytesMax(from.countBytes);
    const { cookieverf, reply } = await this.#call(procedures.READDIR, args, { ...options, resultsBytesMax });
    return { entries: reply.entries, verifier: cookieverf, eof: reply.eof };
  }

  /** READDIRPLUS (RFC 1813 §3.3.17) from behind `cookie`: a listing with attributes and handles, where the server has them. */
  async readDirectoryPlus(
    directory: Uint8Array,
    from: { cookie: bigint; verifier: Uint8Array; countBytes: number },
    options?: Options,
  ): Promise<Listing> {
    const { cookie, verifier, countBytes } = from;
    const args = { dir: directory, cookie, cookieverf: verifier, dircount: countBytes, maxcount: countBytes };
    const resultsBytesMax = listingResultsBytesMax(countBytes);
    const { cookieverf, reply } = await this.#call(procedures.READDIRPLUS, args, { ...options, resultsBytesMax });
    const entries = reply.entries.map((entry): ListedEntry => ({
      name: entry.name,
      fileid: entry.fileid,
      cookie: entry.cookie,
      attributes: entry.name_attributes,
      handle: entry.name_handle,
    }));
    return { entries, verifier: cookieverf, eof: reply.eof };
  }

  /** FSSTAT (RFC 1813 §3.3.18). */
  async fileSystemStatus(root: Uint8Array, options?: Options): Promise<FSSTAT3resok> {
    return await this.#call(procedures.FSSTAT, { fsroot: root }, options);
  }

  /** FSINFO (RFC 1813 §3.3.19). */
  async fileSystemInfo(root: Uint8Array, options?: Options): Promise<FSINFO3resok> {
    return await this.#call(procedures.FSINFO, { fsroot: root }, options);
  }

  /** PATHCONF (RFC 1813 §3.3.20). */
  async pathConfiguration(file: Uint8Array, options?: Options): Promise<PATHCONF3resok> {
    return await this.#call(procedures.PATHCONF, { object: file }, options);
  }

  /** Calls, waits out a busy server, and throws any other status. */
  async #call<Args, Ok, Fail>(
    procedure: Procedure<Args, Result3<Ok, Fail>>,
    args: Args,
    options: Options & { into?: Uint8Array; resultsBytesMax?: number } = {},
  ): Promise<Ok> {
    for (let attempt = 1;; attempt++) {
      const result = await this.#rpc.call(procedure, args, options);
      if (result.status === nfsstat3.NFS3_OK) return result.value as Ok;
      if (result.status !== nfsstat3.NFS3ERR_JUKEBOX || attempt === JUKEBOX_TRIES) throw new NfsError(result.status);
      await pause(Math.min(JUKEBOX_PAUSE_MS_MAX, JUKEBOX_PAUSE_MS * attempt), options.signal);
    }
  }

  /**
   * Makes a call that fails with `status` when it is carried out a second time. Where that may have happened, `isDone` decides
   * whether the first time did what was wanted; what it returned is not known then.
   */
  async #callOnce<T>(call: () => Promise<T>, status: nfsstat3, isDone: () => Promise<boolean>): Promise<T | undefined> {
    const connections = this.#connections();
    try {
      return await call();
    } catch (error) {
      const isRepeated = error instanceof NfsError && error.status === status && this.#connections() > connections;
      if (!isRepeated || !await isDone().catch(() => false)) throw error;
      return undefined;
    }
  }

  /** What a call made; looked up where the server does not say. */
  async #made(place: Place, made: CREATE3resok, options?: Options): Promise<Node> {
    const { obj: handle, obj_attributes: attributes } = made;
    if (handle === undefined) return await this.lookup(place, options);
    return { handle, attributes: attributes ?? await this.getAttributes(handle, options) };
  }
}

function toWhat(place: Place): { dir: Uint8Array; name: Uint8Array } {
  return { dir: place.directory, name: place.name };
}

function toVerifier(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0);
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
