/** A hostile responder: what we connect to, and what answers our Reads. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { guarded, openDescriptors, until, whole, within } from "../../../rdma/_testing/pair.ts";
import { Device, type ProtectionDomain, type QueuePair, RdmaError } from "../../../rdma/mod.ts";
import { RawPeer } from "./raw_peer.ts";
import { concat, type MpaFrame, mpaReply, mpaRequest, Opcode, parseFpdu, tagged, untagged } from "./wire.ts";

interface Setting extends AsyncDisposable {
  device: Device;
  pd: ProtectionDomain;
  listener: Deno.TcpListener;
  connect(
    options?: { peerToPeer?: boolean; crc?: boolean; inboundReadDepth?: number; revision?: 1 | 2 },
  ): Promise<QueuePair>;
}

/** A device that connects to a plain TCP listener; nothing may be left open at the end. */
async function setting(): Promise<Setting> {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  await device.hold.begin();
  const before = openDescriptors();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  return {
    device,
    pd,
    listener,
    connect: (options) => within(device.connect({ hostname: "127.0.0.1", port, pd, crc: false, ...options }), 8000),
    async [Symbol.asyncDispose]() {
      listener.close();
      await until(() => openDescriptors() <= before, 3000);
      assertEquals(device.counters().regions, 0);
      await device.close();
    },
  };
}

Deno.test("iwarp responder: a reply that is none, or cannot be agreed with", async () => {
  await using scene = await setting();
  const { listener } = scene;
  const cases: [string, Uint8Array, string][] = [
    ["another protocol", new TextEncoder().encode("220 mail.example ESMTP, what can I do for you?"), "NotIwarp"],
    ["a request", mpaRequest(), "NotIwarp"],
    ["revision 0", mpaReply({ revision: 0 }), "NotIwarp"],
    ["revision 3", mpaReply({ revision: 3 }), "NotIwarp"],
    ["private data of 513 bytes", mpaReply({ privateData: new Uint8Array(509) }), "NotIwarp"],
    ["private data of 65535 bytes", mpaReply({ length: 65535 }), "NotIwarp"],
    ["enhanced without room for it", mpaReply({ length: 2 }), "NotIwarp"],
    ["revision 1, which was not asked for", mpaReply({ revision: 1, enhanced: false }), "Incompatible"],
    ["not enhanced", mpaReply({ enhanced: false }), "Incompatible"],
    ["rejected", mpaReply({ reject: true, privateData: new Uint8Array([1, 2, 3]) }), "Rejected"],
  ];
  for (const [name, reply, code] of cases) {
    // with no revision named, a peer of revision 1 would be asked again
    const connecting = assertRejects(() => scene.connect({ revision: 2 }), RdmaError);
    using peer = await RawPeer.accept(listener, reply);
    const error = await connecting;
    assertEquals(error.code, code, name);
    if (code === "Rejected") assertEquals(error.privateData, new Uint8Array([1, 2, 3]));
    await peer.readEnd();
  }
  assert(scene.device.counters().startupFailures >= cases.length);
});

Deno.test("iwarp responder: what cannot be agreed with after an acceptance is told in a Terminate", async () => {
  await using scene = await setting();
  const { listener } = scene;
  const cases: [string, MpaFrame, [number, number, number]][] = [
    ["more Reads than we serve", { ord: 5 }, [2, 0, 6]],
    ["peer-to-peer without a ready-to-receive message", { peerToPeer: true }, [2, 0, 7]],
    ["a ready-to-receive Send, which was not offered", { peerToPeer: true, rtrSend: true }, [2, 0, 7]],
  ];
  for (const crc of [false, true]) {
    for (const [name, frame, [layer, etype, code]] of cases) {
      const connecting = assertRejects(() => scene.connect({ inboundReadDepth: 4, crc }), RdmaError);
      using peer = await RawPeer.accept(listener, { ord: 1, ...frame, crc });
      const terminate = await peer.readTerminate(crc ? "right" : "zero");
      assertEquals(terminate, { layer, etype, code }, name);
      peer.close();
      assertEquals((await connecting).code, "Incompatible", name);
    }
  }
});

Deno.test("iwarp responder: a reply that is cut at any byte", async () => {
  await using scene = await setting();
  const reply = mpaReply({ privateData: new Uint8Array(5) });
  for (let cut = 0; cut < reply.byteLength; cut++) {
    const connecting = assertRejects(() => scene.connect(), RdmaError);
    using peer = await RawPeer.accept(scene.listener, reply.subarray(0, cut));
    await peer.finish();
    assertEquals((await connecting).code, "NotIwarp", `cut at ${cut}`);
    await peer.readEnd();
  }
});

Deno.test("iwarp responder: the first FPDU of a connection is the ready-to-receive message that was picked", async () => {
  await using scene = await setting();
  for (
    const [frame, opcode] of [[{ rtrWrite: true }, Opcode.Write], [{ rtrRead: true }, Opcode.ReadRequest]] as const
  ) {
    const connecting = scene.connect({ peerToPeer: true });
    using peer = await RawPeer.accept(scene.listener, { peerToPeer: true, ird: 0, ord: 1, ...frame });
    const first = await peer.readFpdu();
    assertEquals(first?.opcode, opcode);
    if (opcode === Opcode.ReadRequest) {
      const view = new DataView(first!.payload.buffer);
      const sink = { stag: view.getUint32(0), address: view.getBigUint64(4) };
      await peer.write(tagged(Opcode.ReadResponse, sink, new Uint8Array(0)));
    } else assertEquals(first?.payload.byteLength, 0);
    const qp = await connecting;
    await peer.finish();
    assertEquals(await within(qp.closed), undefined);
  }
});

Deno.test("iwarp responder: FPDUs right behind the reply are taken in their turn", async () => {
  await using scene = await setting();
  const memory = guarded(scene.pd, 16);
  const connecting = scene.connect();
  const send = untagged(Opcode.Send, {}, new Uint8Array(16).fill(9));
  using peer = await RawPeer.accept(scene.listener, concat(mpaReply({ ord: 1 }), send));
  const qp = await connecting;
  const received = await within(qp.recv(whole(memory.region)));
  assertEquals(received.byteLength, 16);
  assertEquals(memory.region.bytes, new Uint8Array(16).fill(9));
  memory.check();
  peer.close();
  await within(qp.closed);
  memory.region.deregister();
});

const READ_BYTES = 100;

interface Sink {
  stag: number;
  address: bigint;
}

function at({ stag, address }: Sink, offset: number): Sink {
  return { stag, address: address + BigInt(offset) };
}

function bytes(length: number): Uint8Array {
  return new Uint8Array(length).fill(0xee);
}

Deno.test("iwarp responder: Read Responses that do not fit the Read", async () => {
  await using scene = await setting();
  const response = (target: Sink, length: number, last: boolean) =>
    tagged(Opcode.ReadResponse, target, bytes(length), { last });
  const cases: [string, (sink: Sink, other: Sink) => Uint8Array[], [number, number, number]][] = [
    ["to another region of ours", (_, other) => [response(other, READ_BYTES, true)], [1, 1, 0]],
    ["to a STag that nothing has", (sink) => [response({ ...sink, stag: sink.stag ^ 1 }, 100, true)], [1, 1, 0]],
    ["one byte too early", (sink) => [response(at(sink, -1), READ_BYTES, true)], [1, 1, 1]],
    ["one byte too late", (sink) => [response(at(sink, 1), READ_BYTES - 1, true)], [1, 1, 1]],
    ["one byte too long", (sink) => [response(sink, READ_BYTES + 1, true)], [1, 1, 1]],
    ["much too long", (sink) => [response(sink, 60_000, true)], [1, 1, 1]],
    ["too short", (sink) => [response(sink, READ_BYTES - 1, true)], [1, 1, 1]],
    ["empty", (sink) => [response(sink, 0, true)], [1, 1, 1]],
    ["without an end", (sink) => [response(sink, READ_BYTES, false)], [1, 1, 1]],
    ["with a gap", (sink) => [response(sink, 40, false), response(at(sink, 41), 59, true)], [1, 1, 1]],
    ["the same half twice", (sink) => [response(sink, 50, false), response(sink, 50, true)], [1, 1, 1]],
    ["too long in the second half", (sink) => [response(sink, 50, false), response(at(sink, 50), 51, true)], [1, 1, 1]],
    [
      "wrapping around",
      (sink) => [response({ stag: sink.stag, address: 2n ** 64n - 1n }, READ_BYTES, true)],
      [1, 1, 3],
    ],
    ["twice", (sink) => [response(sink, READ_BYTES, true), response(sink, READ_BYTES, true)], [0, 2, 6]],
    ["a Write to the sink", (sink) => [tagged(Opcode.Write, sink, bytes(READ_BYTES))], [0, 1, 2]],
    [
      "a Write in the middle of it",
      (sink) => [response(sink, 50, false), tagged(Opcode.Write, at(sink, 50), bytes(50))],
      [0, 2, 6],
    ],
    ["a Terminate in the middle of it", (sink) => [response(sink, 50, false), untagged(7, {}, bytes(0))], [0, 2, 0xff]],
  ];
  for (const [name, answer, [layer, etype, code]] of cases) {
    const sink = guarded(scene.pd, READ_BYTES);
    const other = guarded(scene.pd, READ_BYTES);
    const connecting = scene.connect();
    using peer = await RawPeer.accept(scene.listener, { ord: 1 });
    const qp = await connecting;
    let status = "";
    qp.postSend(
      { opcode: "read", local: whole(sink.region), remote: { stag: 1, address: 0n } },
      (done) => status = done.status,
    );
    const request = await peer.readFpdu();
    assertEquals([request?.opcode, request?.payload.byteLength], [Opcode.ReadRequest, 28]);
    const view = new DataView(request!.payload.buffer);
    const asked = { stag: view.getUint32(0), address: view.getBigUint64(4) };
    assertEquals(asked, { stag: sink.region.stag, address: sink.region.address });
    await peer.write(...answer(asked, { stag: other.region.stag, address: other.region.address }));
    const { ddpHeader: _, length: __, ...terminate } = await peer.readTerminate();
    assertEquals(terminate, { layer, etype, code }, name);
    peer.close();
    const error = await within(qp.closed);
    assertEquals([error?.code, error?.terminate], ["PeerViolation", { layer, etype, code }], name);
    assertEquals(status, name === "twice" ? "success" : "flushed", name);
    sink.check();
    other.check();
    assert(other.region.bytes.every((byte) => byte === 0), name);
    sink.region.deregister();
    other.region.deregister();
  }
});

Deno.test("iwarp responder: a response that comes in tiny segments, and one that is cut at any byte", async () => {
  await using scene = await setting();
  const size = 40;
  const segments = (sink: Sink) =>
    Array.from(
      { length: size },
      (_, i) => tagged(Opcode.ReadResponse, at(sink, i), new Uint8Array([i + 1]), { last: i === size - 1 }),
    );
  const whole40 = concat(...segments({ stag: 0, address: 0n })).byteLength;
  for (const cut of [whole40, ...Array.from({ length: 48 }, (_, i) => whole40 - 1 - i)]) {
    const sink = guarded(scene.pd, size);
    const connecting = scene.connect();
    using peer = await RawPeer.accept(scene.listener, { ord: 1 });
    const qp = await connecting;
    const status = new Promise<string>((resolve) =>
      qp.postSend(
        { opcode: "read", local: whole(sink.region), remote: { stag: 1, address: 0n } },
        (done) => resolve(done.status),
      )
    );
    const request = parseFpdu((await peer.readFpdu())!.bytes)!;
    const view = new DataView(request.payload.buffer);
    const stream = concat(...segments({ stag: view.getUint32(0), address: view.getBigUint64(4) }));
    await peer.write(stream.subarray(0, cut));
    await peer.finish();
    assertEquals(await within(status), cut === whole40 ? "success" : "flushed", `cut at ${cut}`);
    assertEquals((await within(qp.closed))?.code, cut === whole40 ? undefined : "Reset", `cut at ${cut}`);
    if (cut === whole40) assertEquals([...sink.region.bytes], Array.from({ length: size }, (_, i) => i + 1));
    sink.check();
    sink.region.deregister();
    await peer.readEnd();
  }
});
