/**
 * What the NFSv3 conformance tests run against: any server with any backend over any transport, and the callers they call it as.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import { BufferPool, Device } from "../../../rdma/mod.ts";
import {
  type ArgsOf,
  AUTH_NONE,
  type CallOptions,
  type ClientTransport,
  connectTcp,
  encodeAuthSys,
  type OpaqueAuth,
  type Procedure,
  type ResultsOf,
  RpcClient,
} from "../../../rpc/mod.ts";
import {
  type CREATE3res,
  createmode3,
  type fattr3,
  MOUNT3,
  mountstat3,
  NFS3,
  type NfsFailure,
  nfsstat3,
  PATH_BYTES_MAX,
  type post_op_attr,
  type READ3res,
  type READLINK3res,
  type sattr3,
  type SETATTR3res,
  stable_how,
  STREAM_BYTES_MAX,
  type SYMLINK3res,
  time_how,
  type wcc_data,
  type WRITE3res,
} from "../../../storage/nfs/mod.ts";

/** How a server is to be started. */
export interface ServerChoices {
  readOnly?: boolean;
  /** False if absent, so that tests have a superuser. */
  rootSquash?: boolean;
  /** The path under which it is mounted: "/" if absent. */
  path?: string;
}

/** A running server with an empty export. */
export interface ServerUnderTest extends AsyncDisposable {
  /** A new connection. The server's end closes it when it is disposed of. */
  connect(): Promise<ClientTransport>;
  /** Ends the server and every connection, and serves the same files anew. */
  restart(choices: ServerChoices): Promise<void>;
}

/** A kind of server to test. */
export interface Subject {
  /** In the names of tests. */
  readonly name: string;
  /** Whether callers have the rights of who they say they are; otherwise all have the same ones. */
  readonly enforcesCredentials: boolean;
  /** The most that one READ or WRITE carries. */
  readonly transferBytesMax: number;
  open(choices: ServerChoices): Promise<ServerUnderTest>;
}

type Procedures = typeof NFS3.procedures;

/** No changes. */
export const NO_CHANGES: sattr3 = {
  atime: { set_it: time_how.DONT_CHANGE },
  mtime: { set_it: time_how.DONT_CHANGE },
};

/** Somebody who calls. */
export class Caller {
  readonly nfs: RpcClient;
  readonly mount: RpcClient;

  constructor(readonly transport: ClientTransport, readonly credential: OpaqueAuth) {
    this.nfs = new RpcClient(transport, { program: NFS3, credential });
    this.mount = new RpcClient(transport, { program: MOUNT3, credential });
  }

  /** Calls a procedure by name. */
  call<K extends keyof Procedures>(
    name: K,
    args: ArgsOf<Procedures[K]>,
    options?: CallOptions,
  ): Promise<ResultsOf<Procedures[K]>> {
    const procedure: unknown = NFS3.procedures[name];
    return this.nfs.call(procedure as Procedure<typeof args, ResultsOf<Procedures[K]>>, args, options);
  }

  /** Mounts a path and returns the handle. */
  async mountPath(path: string): Promise<Uint8Array> {
    const mounted = await this.mount.call(MOUNT3.procedures.MNT, bytes(path));
    assert(mounted.fhs_status === mountstat3.MNT3_OK, `mounting ${path}: ${mountstat3.nameOf(mounted.fhs_status)}`);
    return mounted.value.fhandle;
  }

  create(dir: Uint8Array, name: string, changes: Partial<sattr3> = {}): Promise<CREATE3res> {
    const how = { mode: createmode3.GUARDED, value: { ...NO_CHANGES, ...changes } } as const;
    return this.call("CREATE", { where: { dir, name: bytes(name) }, how });
  }

  mkdir(dir: Uint8Array, name: string, changes: Partial<sattr3> = {}): Promise<CREATE3res> {
    return this.call("MKDIR", { where: { dir, name: bytes(name) }, attributes: { ...NO_CHANGES, ...changes } });
  }

  /** Makes a file with contents and returns its handle. */
  async file(dir: Uint8Array, name: string, contents: string | Uint8Array = ""): Promise<Uint8Array> {
    const { obj } = ok(await this.create(dir, name, { mode: 0o644 }));
    assert(obj !== undefined, "CREATE returned no handle");
    const data = typeof contents === "string" ? bytes(contents) : contents;
    if (data.byteLength > 0) ok(await this.write(obj, 0n, data));
    return obj;
  }

  /** Makes a directory and returns its handle. */
  async directory(dir: Uint8Array, name: string): Promise<Uint8Array> {
    const { obj } = ok(await this.mkdir(dir, name, { mode: 0o755 }));
    assert(obj !== undefined, "MKDIR returned no handle");
    return obj;
  }

  write(
    file: Uint8Array,
    offset: bigint,
    data: Uint8Array,
    stable: stable_how = stable_how.FILE_SYNC,
  ): Promise<WRITE3res> {
    return this.call("WRITE", { file, offset, count: data.byteLength, stable, data: [data] });
  }

  read(
    file: Uint8Array,
    offset: bigint,
    count: number,
  ): Promise<READ3res> {
    return this.call("READ", { file, offset, count }, { into: new Uint8Array(Math.min(count, STREAM_BYTES_MAX)) });
  }

  /** All of a short file. */
  async contents(file: Uint8Array): Promise<Uint8Array> {
    const { data, eof } = ok(await this.read(file, 0n, 1 << 20));
    assert(eof, "longer than one READ");
    return joined(data);
  }

  /** The path that a symbolic link holds. */
  readlink(symlink: Uint8Array): Promise<READLINK3res> {
    return this.call("READLINK", { symlink }, { into: new Uint8Array(PATH_BYTES_MAX) });
  }

  symlink(dir: Uint8Array, name: string, target: Uint8Array): Promise<SYMLINK3res> {
    const symlink = { symlink_attributes: NO_CHANGES, symlink_data: target.byteLength === 0 ? [] : [target] };
    return this.call("SYMLINK", { where: { dir, name: bytes(name) }, symlink });
  }

  setattr(
    object: Uint8Array,
    changes: Partial<sattr3>,
  ): Promise<SETATTR3res> {
    return this.call("SETATTR", { object, new_attributes: { ...NO_CHANGES, ...changes } });
  }

  async getattr(object: Uint8Array): Promise<fattr3> {
    return ok(await this.call("GETATTR", { object })).obj_attributes;
  }

  async lookup(dir: Uint8Array, name: string): Promise<Uint8Array> {
    return ok(await this.call("LOOKUP", { what: { dir, name: bytes(name) } })).object;
  }

  /** Every name in a directory but "." and "..", by READDIR of small pages. */
  async names(dir: Uint8Array): Promise<string[]> {
    const names: string[] = [];
    let cookie = 0n;
    let cookieverf: Uint8Array = new Uint8Array(8);
    for (let eof = false; !eof;) {
      const page = ok(await this.call("READDIR", { dir, cookie, cookieverf, count: 512 }));
      for (const entry of page.reply.entries) {
        names.push(text(entry.name));
        cookie = entry.cookie;
      }
      ({ cookieverf, reply: { eof } } = page);
    }
    return names.filter((name) => name !== "." && name !== "..").sort();
  }
}

/** Calls a server of this machine as who we are, over TCP. */
export async function withCaller<T>(port: number, run: (caller: Caller) => Promise<T>): Promise<T> {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using pool = new BufferPool(pd);
  await using transport = await connectTcp(device, { hostname: "127.0.0.1", port, pd, pool });
  return await run(new Caller(transport, encodeAuthSys({ uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 })));
}

/** What a test is given. */
export interface Fixture {
  server: ServerUnderTest;
  transport: ClientTransport;
  /** Handle of the export's root, where everybody may write. */
  root: Uint8Array;
  superuser: Caller;
  alice: Caller;
  bob: Caller;
  /** A caller that does not say who it is. */
  nobody: Caller;
}

export const ALICE = { uid: 1000, gid: 1000, gids: [50] };
export const BOB = { uid: 1001, gid: 1001, gids: [50, 51] };

/** The callers over a connection, with the root mounted. */
export async function callers(server: ServerUnderTest, path = "/"): Promise<Fixture> {
  const transport = await server.connect();
  const as = (who: { uid: number; gid: number; gids?: number[] }): Caller => new Caller(transport, encodeAuthSys(who));
  const superuser = as({ uid: 0, gid: 0 });
  return {
    server,
    transport,
    root: await superuser.mountPath(path),
    superuser,
    alice: as(ALICE),
    bob: as(BOB),
    nobody: new Caller(transport, AUTH_NONE),
  };
}

/** Registers a test on a server of its own. */
export function nfsTest(
  { subject, name, choices = {} }: { subject: Subject; name: string; choices?: ServerChoices },
  body: (fixture: Fixture) => Promise<void>,
): void {
  Deno.test(`NFSv3, ${subject.name}: ${name}`, async () => {
    await using server = await subject.open({ ...choices, readOnly: false, rootSquash: false });
    const fixture = await callers(server, choices.path);
    ok(await fixture.superuser.setattr(fixture.root, { mode: 0o777 }));
    if (!choices.readOnly && !choices.rootSquash) return await body(fixture);
    await fixture.transport.close();
    await server.restart(choices);
    await body(await callers(server, choices.path));
  });
}

type AnyResult = { status: nfsstat3; value?: unknown };
type Good<R extends AnyResult> = Extract<R, { status: typeof nfsstat3.NFS3_OK }>["value"];
type Bad<R extends AnyResult> = Exclude<R, { status: typeof nfsstat3.NFS3_OK }>["value"];

/** The value of a result that must be good. */
export function ok<R extends AnyResult>(result: R): Good<R> {
  assertEquals(nfsstat3.nameOf(result.status), "NFS3_OK");
  return result.value as Good<R>;
}

/** What came with a status that must be this one. */
export function fails<R extends AnyResult>(result: R, status: NfsFailure): Bad<R> {
  assertEquals(nfsstat3.nameOf(result.status), nfsstat3.nameOf(status));
  return result.value as Bad<R>;
}

/** Holds weak cache consistency data to what it must say: both sides there, and the side after as GETATTR has it. */
export async function checkWcc(
  wcc: wcc_data,
  { as, file, changed }: { as: Caller; file: Uint8Array; changed: boolean },
): Promise<void> {
  const { before, after } = wcc;
  assert(before !== undefined, "no attributes from before");
  assert(after !== undefined, "no attributes from after");
  assertEquals(after, await as.getattr(file));
  const same = before.ctime.seconds === after.ctime.seconds && before.ctime.nseconds === after.ctime.nseconds;
  // A clock may stand still between two operations, but nothing must move where nothing was done.
  if (!changed) assert(same, "ctime moved although nothing was changed");
  if (!changed) assertEquals([before.size, before.mtime], [after.size, after.mtime]);
}

/** Attributes that must be there and be those of the file. */
export async function checkAttributes(
  attributes: post_op_attr,
  { as, file }: { as: Caller; file: Uint8Array },
): Promise<void> {
  assertEquals(attributes, await as.getattr(file));
}

/** UTF-8 bytes of a name or contents. */
export function bytes(of: string): Uint8Array {
  return new TextEncoder().encode(of);
}

/** The text that UTF-8 bytes mean. */
export function text(of: Uint8Array): string {
  return new TextDecoder().decode(of);
}

/** Pieces in one. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}
