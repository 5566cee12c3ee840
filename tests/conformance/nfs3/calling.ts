/**
 * Conformance: what NFS and MOUNT ask of ONC RPC (RFC 1813 §2.1, §4.1; RFC 5531 §9): bad arguments, unknown programs, repeated calls.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type ClientTransport,
  decode,
  encode,
  flatten,
  type Procedure,
  RpcError,
  type RpcRequest,
  type RpcResponse,
} from "../../../rpc/mod.ts";
import { MOUNT3, NFS3, nfsstat3 } from "../../../storage/nfs/mod.ts";
import { argsWith } from "./every_procedure.ts";
import { bytes, Caller, nfsTest, ok, type Subject } from "./subject.ts";

export function testCalling(subject: Subject): void {
  nfsTest({ subject, name: "arguments cut at any word, or with a word too many, are garbage" }, async (fixture) => {
    const { alice, root } = fixture;
    const file = await alice.file(root, "f", "contents");
    const args = argsWith({ file, dir: root, name: bytes("name") });
    for (const [name, procedure] of Object.entries(NFS3.procedures)) {
      const whole = encoded(procedure, args[name as keyof typeof args]);
      for (let length = 0; length < whole.byteLength; length += 4) {
        await refused(alice, { procedure: procedure.number, args: whole.subarray(0, length) }, "GARBAGE_ARGS");
      }
      const longer = new Uint8Array(whole.byteLength + 4);
      longer.set(whole);
      await refused(alice, { procedure: procedure.number, args: longer }, "GARBAGE_ARGS");
    }
    assertEquals(await alice.names(root), ["f"]);
    assertEquals(await alice.contents(file), bytes("contents"));
  });

  nfsTest({ subject, name: "lengths and discriminants that cannot be are garbage" }, async ({ alice, root }) => {
    const args = argsWith({ file: root, name: bytes("name") });
    const garbage = async (name: keyof typeof NFS3.procedures, change: (bytes: DataView) => void): Promise<void> => {
      const whole = encoded(NFS3.procedures[name], args[name]);
      change(new DataView(whole.buffer, whole.byteOffset, whole.byteLength));
      await refused(alice, { procedure: NFS3.procedures[name].number, args: whole }, "GARBAGE_ARGS");
    };
    const handleBytes = 4 + ((root.byteLength + 3) & ~3);
    for (const length of [65, 0x7fffffff, 0x80000000, 0xffffffff]) {
      await garbage("GETATTR", (view) => view.setUint32(0, length));
      await garbage("LOOKUP", (view) => view.setUint32(handleBytes, length));
      await garbage("WRITE", (view) => view.setUint32(handleBytes + 16, length));
    }
    await garbage("CREATE", (view) => view.setUint32(handleBytes + 8, 3));
    await garbage("CREATE", (view) => view.setUint32(handleBytes + 12, 2));
    await garbage("WRITE", (view) => view.setUint32(handleBytes + 12, 3));
    await garbage("MKNOD", (view) => view.setUint32(handleBytes + 8, 8));
    await garbage("SETATTR", (view) => view.setUint32(view.byteLength - 4, 2));
    assertEquals(await alice.names(root), []);
  });

  nfsTest({ subject, name: "MOUNT's arguments cut or too long are garbage" }, async ({ alice }) => {
    const { MNT, UMNT } = MOUNT3.procedures;
    const mount = { program: MOUNT3.number, version: MOUNT3.version };
    for (const procedure of [MNT, UMNT]) {
      const whole = encoded(procedure, bytes("/path"));
      for (let length = 0; length < whole.byteLength; length += 4) {
        const cut = { ...mount, procedure: procedure.number, args: whole.subarray(0, length) };
        await refused(alice, cut, "GARBAGE_ARGS");
      }
      const long = new Uint8Array(4 + 1028);
      new DataView(long.buffer).setUint32(0, 1025);
      await refused(alice, { ...mount, procedure: procedure.number, args: long }, "GARBAGE_ARGS");
    }
  });

  nfsTest({ subject, name: "other programs, versions and procedures are not there" }, async ({ alice }) => {
    const args = new Uint8Array(0);
    // NFSACL, which the Linux client tries and does without; the lock manager; the portmapper.
    for (const program of [100227, 100021, 100000]) {
      await refused(alice, { program, procedure: 0, args }, "PROG_UNAVAIL");
    }
    for (const program of [NFS3.number, MOUNT3.number]) {
      for (const version of [2, 4]) {
        const error = await refused(alice, { program, version, procedure: 0, args }, "PROG_MISMATCH");
        assertEquals(error.versions, { low: 3, high: 3 });
      }
    }
    await refused(alice, { procedure: 22, args }, "PROC_UNAVAIL");
    await refused(alice, { program: MOUNT3.number, procedure: 6, args }, "PROC_UNAVAIL");
    await alice.nfs.ping();
    await alice.mount.ping();
  });

  nfsTest({ subject, name: "credentials that are none are refused" }, async ({ transport, root }) => {
    for (const credential of [{ flavor: 1, body: bytes("no AUTH_SYS") }, { flavor: 6, body: new Uint8Array(20) }]) {
      const caller = new Caller(transport, credential);
      const error = await assertRejects(() => caller.getattr(root), RpcError);
      assertEquals([error.status, error.authStatus], ["AUTH_ERROR", 1]);
    }
  });

  nfsTest({ subject, name: "a call that comes again gets the answer that it had" }, async ({ alice, root, server }) => {
    const file = await alice.file(root, "f", "contents");
    await alice.file(root, "victim");
    await alice.file(root, "from");
    await alice.directory(root, "empty");
    const { ctime } = await alice.getattr(file);
    const at = (name: string): { dir: Uint8Array; name: Uint8Array } => ({ dir: root, name: bytes(name) });
    const args = argsWith({ file, dir: root, name: bytes("") });
    const once = {
      SETATTR: { ...args.SETATTR, guard: ctime },
      CREATE: { ...args.CREATE, where: at("created") },
      MKDIR: { ...args.MKDIR, where: at("made"), attributes: args.SETATTR.new_attributes },
      SYMLINK: { ...args.SYMLINK, where: at("link") },
      MKNOD: { ...args.MKNOD, where: at("pipe") },
      REMOVE: { object: at("victim") },
      RMDIR: { object: at("empty") },
      RENAME: { from: at("from"), to: at("to") },
      LINK: { file, link: at("linked") },
    };
    let xid = 0x5eed0000;
    for (const [name, value] of Object.entries(once)) {
      const procedure = NFS3.procedures[name as keyof typeof once];
      const request = { procedure: procedure.number, args: encoded(procedure, value), xid: ++xid };
      const first = await raw(alice.transport, request, alice);
      assertEquals(statusOf(procedure, first), nfsstat3.NFS3_OK, name);
      const again = await raw(await server.connect(), request, alice);
      assertEquals(again, first, `${name} on another connection`);
      const other = await raw(alice.transport, { ...request, xid: ++xid }, alice);
      assert(statusOf(procedure, other) !== nfsstat3.NFS3_OK, `${name} with another xid was not carried out`);
    }
    assertEquals(await alice.names(root), ["created", "f", "link", "linked", "made", "pipe", "to"]);
  });

  nfsTest({ subject, name: "an xid that is used again for another call is another call" }, async ({ alice, root }) => {
    const { CREATE } = NFS3.procedures;
    const made: Uint8Array[] = [];
    for (const name of ["a", "b", "c"]) {
      const args = encoded(CREATE, argsWith({ file: root, name: bytes(name) }).CREATE);
      made.push(await raw(alice.transport, { procedure: CREATE.number, args, xid: 0x5eed1111 }, alice));
    }
    assertEquals(made.map((results) => statusOf(CREATE, results)), [0, 0, 0]);
    assertEquals(await alice.names(root), ["a", "b", "c"]);
  });

  nfsTest({ subject, name: "a repeated call that is still under way is carried out once" }, async (fixture) => {
    const { alice, root, server } = fixture;
    const { MKDIR } = NFS3.procedures;
    const args = encoded(MKDIR, {
      where: { dir: root, name: bytes("d") },
      attributes: argsWith({ file: root, name: bytes("d") }).SETATTR.new_attributes,
    });
    const transports = [alice.transport, await server.connect(), await server.connect()];
    const request = { procedure: MKDIR.number, args, xid: 0x5eed2222 };
    const results = await Promise.all(transports.map((transport) => raw(transport, request, alice)));
    assertEquals(statusOf(MKDIR, results[0]), nfsstat3.NFS3_OK);
    for (const other of results.slice(1)) assertEquals(other, results[0]);
    ok(await alice.call("RMDIR", { object: { dir: root, name: bytes("d") } }));
  });
}

/** A call below the level of types. NFSv3 where nothing else is said. */
interface RawCall {
  program?: number;
  version?: number;
  procedure: number;
  args: Uint8Array;
  xid?: number;
}

const RESULTS_BYTES_MAX = 4096;

async function raw(transport: ClientTransport, call: RawCall, caller: Caller): Promise<Uint8Array> {
  const request: RpcRequest = {
    program: call.program ?? NFS3.number,
    version: call.version ?? NFS3.version,
    procedure: call.procedure,
    credential: caller.credential,
    args: { bytes: call.args },
    resultsBytesMax: RESULTS_BYTES_MAX,
    xid: call.xid,
  };
  const response: RpcResponse = await transport.call(request);
  const results = response.results.slice();
  response.release();
  return results;
}

async function refused(caller: Caller, call: RawCall, status: RpcError["status"]): Promise<RpcError> {
  const error = await assertRejects(() => raw(caller.transport, call, caller), RpcError);
  assertEquals(error.status, status, `procedure ${call.procedure} with ${call.args.byteLength} bytes of arguments`);
  return error;
}

/** Arguments as they are in a stream. */
function encoded(procedure: Procedure<unknown, unknown>, args: unknown): Uint8Array {
  return flatten(encode(procedure.args, args));
}

function statusOf(procedure: Procedure<unknown, unknown>, results: Uint8Array): number {
  return (decode(procedure.results, results) as { status: number }).status;
}
