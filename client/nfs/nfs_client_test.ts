/**
 * The typed calls, by what they say and how they take what servers answer.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { encodeAuthSys } from "../../rpc/mod.ts";
import { memoryPair } from "../../rpc/transports/memory.ts";
import { NfsError, nfsstat3 } from "../../storage/nfs/mod.ts";
import { MemoryServer } from "../../tests/integration/memory_server.ts";
import { MountClient } from "./mount_client.ts";
import { NfsClient } from "./nfs_client.ts";

const credential = encodeAuthSys({ uid: 1000, gid: 1000 });

/** Bytes of big-endian words of 32 bits. */
function words(...values: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (const [at, value] of values.entries()) view.setUint32(at * 4, value);
  return new Uint8Array(view.buffer);
}

/** A client whose server gives one answer to everything; `calls` has what it was asked, from the xid on. */
function answered(...results: number[]): { client: NfsClient; calls: Uint8Array[] } {
  const calls: Uint8Array[] = [];
  const pair = memoryPair();
  pair.server.onCall = (call) => {
    calls.push(call.message.slice());
    const xid = new DataView(call.message.buffer, call.message.byteOffset).getUint32(0);
    const [REPLY, ACCEPTED, AUTH_NONE, SUCCESS] = [1, 0, 0, 0];
    call.reply({ bytes: words(xid, REPLY, ACCEPTED, AUTH_NONE, 0, SUCCESS, ...results) });
  };
  return { client: new NfsClient(pair.client, { credential }), calls };
}

Deno.test("PATHCONF of our server", async () => {
  const server = new MemoryServer();
  const transport = await server.dial();
  const root = await new MountClient(transport, { credential }).mount("/");
  const client = new NfsClient(transport, { credential });
  const { obj_attributes, ...limits } = await client.pathConfiguration(root);
  assertEquals(obj_attributes, await client.getAttributes(root));
  assertEquals(limits, {
    linkmax: server.fileSystem.limits.linkMax,
    name_max: server.fileSystem.limits.nameBytesMax,
    no_trunc: true,
    chown_restricted: true,
    case_insensitive: false,
    case_preserving: true,
  });
  assert(limits.linkmax > 1 && limits.name_max === 255);
  const refused = await assertRejects(() => client.pathConfiguration(root.map((byte) => ~byte)), NfsError);
  assertEquals(refused.status, nfsstat3.NFS3ERR_BADHANDLE);
  await transport.close();
});

Deno.test("PATHCONF: the call, and every field of the answer where RFC 1813 §3.3.20 has it", async () => {
  const handle = Uint8Array.of(1, 2, 3, 4, 5);
  const { client, calls } = answered(nfsstat3.NFS3_OK, 0, 32000, 143, 1, 0, 0, 1);
  assertEquals(await client.pathConfiguration(handle), {
    obj_attributes: undefined,
    linkmax: 32000,
    name_max: 143,
    no_trunc: true,
    chown_restricted: false,
    case_insensitive: false,
    case_preserving: true,
  });
  const [CALL, RPC_VERSION, NFS, NFS_VERSION, PATHCONF] = [0, 2, 100003, 3, 20];
  assertEquals(calls[0].subarray(4, 24), words(CALL, RPC_VERSION, NFS, NFS_VERSION, PATHCONF));
  assertEquals(calls[0].subarray(-12), words(handle.length, 0x01020304, 0x05000000));
  const other = await answered(nfsstat3.NFS3_OK, 0, 1, 2, 0, 1, 1, 0).client.pathConfiguration(handle);
  assertEquals([other.no_trunc, other.chown_restricted], [false, true]);
  assertEquals([other.case_insensitive, other.case_preserving], [true, false]);
});

Deno.test("PATHCONF: refused, and with an answer that is none", async () => {
  const handle = Uint8Array.of(1, 2, 3, 4);
  const refused = answered(nfsstat3.NFS3ERR_STALE, 0).client;
  assertEquals((await assertRejects(() => refused.pathConfiguration(handle), NfsError)).status, nfsstat3.NFS3ERR_STALE);
  const whole = [nfsstat3.NFS3_OK, 0, 1, 255, 1, 1, 0, 1];
  for (const bad of [whole.slice(0, -1), [...whole, 0], [...whole.slice(0, -1), 2]]) {
    const error = await assertRejects(() => answered(...bad).client.pathConfiguration(handle), Error);
    assert(!(error instanceof NfsError), `taken for a status: ${error}`);
  }
});
