/**
 * A whole server under bad input of every layer: whoever is at fault is told, its connection ends where it must, others are served
 * on, and no descriptor, connection or memory is left.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { mount } from "../../client/mod.ts";
import { Device } from "../../rdma/mod.ts";
import { generator, openDescriptors, until, within } from "../../rdma/_testing/pair.ts";
import { join, words } from "../../rpc/_testing/bytes.ts";
import { decodeRdma, rdmaMessage } from "../../rpc/_testing/rdma_by_hand.ts";
import { encode, encodeAuthSys, flatten, XdrReader, XdrWriter } from "../../rpc/mod.ts";
import { decodeReplyHeader, encodeCallHeader } from "../../rpc/wire/rpc_message.ts";
import { RdmaError } from "../../rpc/wire/rpc_rdma.ts";
import { encodeCmPrivateData, OUR_SETTINGS } from "../../rpc/wire/rpc_rdma_cm.ts";
import { type NfsServer, serve } from "../../server/mod.ts";
import { NFS3, stable_how } from "../../storage/nfs/mod.ts";
import { RawPeer } from "../conformance/iwarp/raw_peer.ts";
import { be, concat, mpaRequest, Opcode, readRequest, tagged, untagged } from "../conformance/iwarp/wire.ts";
import { withCaller } from "../conformance/nfs3/subject.ts";

const MIB = 1 << 20;
const NOWHERE = { stag: 0xdead_beef, offset: 0n, address: 0n, length: MIB };
/** A Terminate as a peer sends it whose memory was not there: RDMAP, remote protection, invalid STag. */
const NO_SUCH_MEMORY = untagged(Opcode.Terminate, {}, be([16, 0x0100], [16, 0]));

/** A server in this process, whose device the test looks at, and a file of 1 MiB on it. */
interface Scene {
  server: NfsServer;
  file: Uint8Array;
}

/** A call of NFSv3. What is left out is right. */
function call(parts: { rpcVersion?: number; program?: number; version?: number; procedure: number; flavor?: number }) {
  const writer = new XdrWriter();
  const verifier = { flavor: 0, body: new Uint8Array(0) };
  const { flavor, ...named } = parts;
  const credential = flavor === undefined ? encodeAuthSys({ uid: 0, gid: 0 }) : { flavor, body: new Uint8Array(8) };
  const header = { xid: 7, rpcVersion: 2, program: NFS3.number, version: NFS3.version, credential, verifier };
  encodeCallHeader(writer, { ...header, ...named });
  return flatten(writer.finish());
}

const { READ, WRITE, GETATTR } = NFS3.procedures;

/** Connects as an RPC-over-RDMA client does. */
function start(port: number, crc = false): Promise<RawPeer> {
  return RawPeer.start(port, { crc, privateData: encodeCmPrivateData(OUR_SETTINGS) });
}

/** Bytes that begin no conversation. */
async function startup({ server: { port } }: Scene): Promise<void> {
  const random = generator(4711);
  const request = mpaRequest({ privateData: new Uint8Array(5) });
  const noises = [
    ...Array.from({ length: 20 }, () => new Uint8Array(1 + random() * 400).map(() => random() * 256)),
    ...Array.from(request, (_, cut) => request.subarray(0, cut)),
    mpaRequest({ key: "MPA ID Rep Frame" }),
    mpaRequest({ revision: 3 }),
    mpaRequest({ length: 65535 }),
    mpaRequest({ length: 3 }),
  ];
  for (const noise of noises) {
    using peer = await RawPeer.connect(port);
    await peer.tryWrite(noise);
    await peer.finish().catch(() => {});
    await peer.readEnd();
  }
}

/** FPDUs that break a rule, in front of the memory and receives of a real server. */
async function violations({ server: { port } }: Scene): Promise<void> {
  const eight = new Uint8Array(8);
  const cases: [string, Uint8Array, readonly number[]][] = [
    ["length", untagged(Opcode.Send, {}, eight, { length: 14 }), [2, 0, 3]],
    ["opcode", untagged(12, {}, eight), [0, 2, 6]],
    ["DDP version", tagged(Opcode.Write, NOWHERE, eight, { ddpVersion: 2 }), [1, 1, 4]],
    ["queue", untagged(Opcode.Send, { queue: 4 }, eight), [1, 2, 1]],
    ["MSN", untagged(Opcode.Send, { msn: 2 }, eight), [1, 2, 3]],
    ["offset", untagged(Opcode.Send, { mo: 8 }, eight), [1, 2, 4]],
    ["a Send too long", untagged(Opcode.Send, {}, new Uint8Array(60_000)), [1, 2, 5]],
    ["a Write nowhere", tagged(Opcode.Write, NOWHERE, eight), [1, 1, 0]],
    ["a Read of nothing", untagged(Opcode.ReadRequest, {}, readRequest(NOWHERE, 8)), [0, 1, 0]],
  ];
  for (const [name, bytes, expected] of cases) {
    using peer = await start(port);
    await peer.write(bytes);
    const { layer, etype, code } = await peer.readTerminate();
    assertEquals([layer, etype, code], expected, name);
  }
  using peer = await start(port, true);
  await peer.write(untagged(Opcode.Send, {}, eight, { crc: "wrong" }));
  const { layer, etype, code } = await peer.readTerminate("right");
  assertEquals([layer, etype, code], [2, 0, 2], "CRC");
}

/** RPC-over-RDMA headers that make no call: each is refused, on a connection that lives on. */
async function chunkLists({ server: { port }, file }: Scene): Promise<void> {
  const getattr = join([call({ procedure: GETATTR.number }), encode(GETATTR.args, { object: file }).bytes]);
  const read = { position: getattr.byteLength, ...NOWHERE };
  const cases: [string, Uint8Array, number][] = [
    ["another version", words(7, 2, 32, 0, 0, 0, 0), RdmaError.ERR_VERS],
    ["an unknown procedure", words(7, 1, 32, 9), RdmaError.ERR_CHUNK],
    ["a cut list", words(7, 1, 32, 0, 1, 40), RdmaError.ERR_CHUNK],
    ["an endless list", rdmaMessage({ xid: 7 }, new Uint8Array(900)).fill(1, 16), RdmaError.ERR_CHUNK],
    ["an empty Write chunk", words(7, 1, 32, 0, 0, 1, 0, 0, 0), RdmaError.ERR_CHUNK],
    ["a long call of nothing", rdmaMessage({ xid: 7, proc: 1 }), RdmaError.ERR_CHUNK],
    [
      "the same segment again and again",
      rdmaMessage({ xid: 7, chunks: { reads: Array(30).fill(read) } }, getattr),
      RdmaError.ERR_CHUNK,
    ],
    [
      "a huge chunk",
      rdmaMessage({ xid: 7, chunks: { reads: [{ ...read, length: 0xffff_fff0 }] } }, getattr),
      RdmaError.ERR_CHUNK,
    ],
  ];
  using peer = await start(port);
  let msn = 0;
  const ask = async (message: Uint8Array) => {
    await peer.write(untagged(Opcode.Send, { msn: ++msn }, message));
    const answer = await peer.readFpdu();
    assert(answer !== undefined, "the connection has ended");
    return answer.payload;
  };
  for (const [name, message, error] of cases) {
    assertEquals([...(await ask(message)).subarray(12, 20)], [...words(4, error)], name);
  }
  const { status } = decodeReplyHeader(new XdrReader(decodeRdma(await ask(rdmaMessage({ xid: 7 }, getattr))).body));
  assertEquals(status, "SUCCESS");
}

/** Chunks that name memory which is not there, in calls that are right otherwise; and a client that goes instead of saying so. */
async function absentMemory({ server: { port }, file }: Scene): Promise<void> {
  const write = encode(WRITE.args, { file, offset: 0n, count: MIB, stable: stable_how.UNSTABLE, data: [] }).bytes;
  const put = join([call({ procedure: WRITE.number }), write.subarray(0, -4), words(MIB)]);
  const get = join([call({ procedure: READ.number }), encode(READ.args, { file, offset: 0n, count: MIB }).bytes]);
  const messages: [Uint8Array, number][] = [
    [rdmaMessage({ xid: 7, chunks: { reads: [{ position: put.byteLength, ...NOWHERE }] } }, put), Opcode.ReadRequest],
    [rdmaMessage({ xid: 7, proc: 1, chunks: { reads: [{ position: 0, ...NOWHERE }] } }), Opcode.ReadRequest],
    [rdmaMessage({ xid: 7, chunks: { writes: [[NOWHERE]] } }, get), Opcode.Write],
    [rdmaMessage({ xid: 7, chunks: { reply: [{ ...NOWHERE, length: 2 * MIB }] } }, get), Opcode.Write],
  ];
  for (const [message, expected] of messages) {
    for (const says of [true, false]) {
      using peer = await start(port);
      await peer.write(untagged(Opcode.Send, {}, message));
      assertEquals((await peer.readFpdu())?.opcode, expected);
      if (says) {
        await peer.tryWrite(NO_SUCH_MEMORY);
        await peer.readEnd();
      }
    }
  }
}

/** Calls that are none, over TCP: refused by status, or the end. */
async function calls({ server: { port }, file }: Scene): Promise<void> {
  const args = encode(GETATTR.args, { object: file }).bytes;
  const getattr = call({ procedure: GETATTR.number });
  const cases: [string, Uint8Array, string][] = [
    ["RPC version", join([call({ rpcVersion: 3, procedure: GETATTR.number }), args]), "RPC_MISMATCH"],
    ["program", join([call({ program: 100_021, procedure: 1 }), args]), "PROG_UNAVAIL"],
    ["version", join([call({ version: 2, procedure: 1 }), args]), "PROG_MISMATCH"],
    ["procedure", call({ procedure: 22 }), "PROC_UNAVAIL"],
    ["credential", join([call({ procedure: GETATTR.number, flavor: 6 }), args]), "AUTH_ERROR"],
    ["a handle too long", join([getattr, words(65), new Uint8Array(68)]), "GARBAGE_ARGS"],
    ["cut", join([getattr, args.subarray(0, -4)]), "GARBAGE_ARGS"],
    ["trailing", join([getattr, args, words(0)]), "GARBAGE_ARGS"],
  ];
  const record = (message: Uint8Array) => concat(be(0x8000_0000 | message.byteLength), message);
  for (const [name, message, expected] of cases) {
    using peer = await RawPeer.connect(port);
    await peer.write(record(message));
    const answer = new Uint8Array(256); // a record of some 30 bytes, which comes in one piece
    const length = await within(peer.conn.read(answer));
    const { status } = decodeReplyHeader(new XdrReader(answer.subarray(4, length ?? 4)));
    assertEquals(status, expected, name);
  }
  for (const bytes of [be(0xffff_ffff), be(0x8000_0000), record(words(7, 1, 0)), record(getattr).subarray(0, 30)]) {
    using peer = await RawPeer.connect(port);
    await peer.tryWrite(bytes, new Uint8Array(64));
    await peer.finish().catch(() => {});
    await peer.readEnd();
  }
}

const ROUNDS = 4;

Deno.test("bad input of every layer costs a server nothing", async () => {
  const directory = await Deno.makeTempDir({ prefix: "weft-bad-input-" });
  const device = Device.open();
  try {
    await Deno.writeFile(`${directory}/file`, new Uint8Array(MIB).fill(7));
    await using server = await serve({ directory, device, port: 0, rootSquash: false });
    await using canaries = new AsyncDisposableStack();
    const urls = ["rdma", "tcp"].map((proto) => `nfs://127.0.0.1:${server.port}/?proto=${proto}`);
    const mounts = await Promise.all(urls.map((url) => mount(url)));
    for (const fs of mounts) canaries.use(fs);
    const file = await withCaller(server.port, async (caller) => caller.lookup(await caller.mountPath("/"), "file"));
    const scene = { server, file };
    // they say nothing, from the beginning to the end, and are not waited for
    const silent = await Promise.all([0, 10].map(async (length) => {
      const peer = await RawPeer.connect(server.port);
      await peer.write(mpaRequest().subarray(0, length));
      return peer;
    }));
    let before: { descriptors: number; regions: number } | undefined;
    for (let round = 0; round < ROUNDS; round++) {
      for (const attack of [startup, violations, chunkLists, absentMemory, calls]) {
        await attack(scene);
        for (const fs of mounts) assertEquals((await fs.readFile("file")).byteLength, MIB, attack.name);
      }
      await until(() => server.connections === mounts.length, 15_000);
      // the first round may leave what is used again
      before ??= { descriptors: openDescriptors(), regions: device.counters().regions };
    }
    for (const peer of silent) {
      await within(peer.readEnd(), 20_000);
      peer.close();
    }
    await until(() => device.counters().liveConnections === mounts.length);
    assertEquals(device.counters().regions, before!.regions, "regions");
    assert(openDescriptors() <= before!.descriptors, `${openDescriptors()} descriptors, ${before!.descriptors} before`);
    for (const fs of mounts) await assertRejects(() => fs.readFile("none"), Deno.errors.NotFound);
  } finally {
    await device.close();
    await Deno.remove(directory, { recursive: true });
  }
});
