/**
 * Messages of different kinds whose segments come in turns (RFC 5041 §5.3): each segment goes to its own place, and each message is told of when its last one has come.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { fill, guarded, same, until, whole, within } from "../../../rdma/_testing/pair.ts";
import { Access, Device, type QueuePair, type WorkCompletion } from "../../../rdma/mod.ts";
import { RawPeer } from "./raw_peer.ts";
import { atomicRequest, concat, type FpduOptions, Opcode, readRequest, tagged, untagged } from "./wire.ts";

/** Bytes of a segment: of one that is received in bulk, and of one that goes straight to its place. */
const SEGMENTS = [100, 20_000];

/** Writes a stream in pieces that no segment begins with. */
async function writeCut(peer: RawPeer, stream: Uint8Array): Promise<void> {
  const step = Math.ceil(stream.byteLength / 31) + 1;
  for (let at = 0; at < stream.byteLength; at += step) {
    await peer.write(stream.subarray(at, at + step));
    if (at % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

for (const crc of [false, true]) {
  const right = { crc: crc ? "right" : "zero" } as const;
  const more: FpduOptions = { ...right, last: false };

  Deno.test(`iwarp interleaving: a Send with Writes, a Read and an atomic operation within it, crc ${crc}`, async () => {
    for (const length of SEGMENTS) {
      await using device = Device.open();
      const pd = device.allocateProtectionDomain();
      const inbox = guarded(pd, 3 * length);
      const target = guarded(pd, 4 * length, Access.RemoteWrite | Access.RemoteRead);
      const counter = guarded(pd, 8, Access.RemoteAtomic);
      const accepted = Promise.withResolvers<QueuePair>();
      const received: WorkCompletion[] = [];
      const { port } = device.listen({
        port: 0,
        onRequest: (request) =>
          void request.accept({
            pd,
            crc,
            onReady: (qp) => {
              qp.postRecv(whole(inbox.region), (done) => received.push(done));
              accepted.resolve(qp);
            },
          }),
      });
      using peer = await RawPeer.start(port, { crc });
      const qp = await accepted.promise;
      const message = fill(new Uint8Array(3 * length), 1);
      const written = fill(new Uint8Array(4 * length), 2);
      const at = (i: number) => ({ stag: target.region.stag, address: target.region.address + BigInt(i * length) });
      const part = (bytes: Uint8Array, i: number) => bytes.subarray(i * length, (i + 1) * length);
      const send = (i: number, options = more) => untagged(Opcode.Send, { mo: i * length }, part(message, i), options);
      const write = (i: number, options = more) => tagged(Opcode.Write, at(i), part(written, i), options);
      await writeCut(
        peer,
        concat(
          send(0),
          write(0),
          untagged(Opcode.ReadRequest, { msn: 1 }, readRequest(at(0), length), right),
          write(1),
          send(1),
          write(2, right),
          untagged(Opcode.AtomicRequest, { msn: 2 }, atomicRequest(counter.region, 0), right),
          write(3, right),
        ),
      );
      const [response, answer] = [await peer.readFpdu(), await peer.readFpdu()];
      // a Read of what the same stream has written just before
      assertEquals([response?.opcode, response?.payload.byteLength], [Opcode.ReadResponse, length]);
      assert(same(response!.payload, part(written, 0)));
      assertEquals([answer?.opcode, response?.crc, answer?.crc], [Opcode.AtomicResponse, right.crc, right.crc]);
      assertEquals(received.length, 0);
      await peer.write(send(2, right));
      await until(() => received.length === 1);
      assertEquals([received[0].status, received[0].byteLength], ["success", 3 * length]);
      assert(same(inbox.region.bytes, message) && same(target.region.bytes, written));
      assertEquals(counter.region.bytes, new Uint8Array(8).fill(0xff));
      for (const memory of [inbox, target, counter]) memory.check();
      await peer.finish();
      assertEquals(await within(qp.closed), undefined);
    }
  });

  Deno.test(`iwarp interleaving: a Read Response with Sends within it, and a Send with Writes, crc ${crc}`, async () => {
    for (const length of SEGMENTS) {
      await using device = Device.open();
      const pd = device.allocateProtectionDomain();
      const [sink, inbox, second] = [guarded(pd, 3 * length), guarded(pd, 2 * length), guarded(pd, length)];
      const target = guarded(pd, length, Access.RemoteWrite);
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const connecting = device.connect({ hostname: "127.0.0.1", port: listener.addr.port, pd, crc });
      using peer = await RawPeer.accept(listener, { crc });
      const qp = await connecting;
      const order: string[] = [];
      const note = (name: string) => ({ status, byteLength }: WorkCompletion) =>
        void order.push(`${name} ${status} ${byteLength}`);
      qp.postRecv(whole(inbox.region), note("first"));
      qp.postRecv(whole(second.region), note("second"));
      qp.postSend({ opcode: "read", local: whole(sink.region), remote: { stag: 1, address: 0n } }, note("read"));
      qp.flush();
      const request = await peer.readFpdu();
      assertEquals(request?.opcode, Opcode.ReadRequest);
      const view = new DataView(request!.payload.buffer);
      const [stag, address] = [view.getUint32(0), view.getBigUint64(4)];
      const [read, first, other] = [3, 2, 1].map((count, i) => fill(new Uint8Array(count * length), i));
      const part = (bytes: Uint8Array, i: number) => bytes.subarray(i * length, (i + 1) * length);
      const respond = (i: number, options = more) =>
        tagged(Opcode.ReadResponse, { stag, address: address + BigInt(i * length) }, part(read, i), options);
      await writeCut(
        peer,
        concat(
          respond(0),
          untagged(Opcode.Send, { msn: 1 }, part(first, 0), more),
          respond(1),
          untagged(Opcode.Send, { msn: 1, mo: length }, part(first, 1), right),
          untagged(Opcode.SendSolicited, { msn: 2 }, part(other, 0), more),
          respond(2, right),
          tagged(Opcode.Write, target.region, other, right),
          untagged(Opcode.SendSolicited, { msn: 2, mo: length }, new Uint8Array(0), right),
        ),
      );
      await until(() => order.length === 3);
      assertEquals(order, [
        `first success ${2 * length}`,
        `read success ${3 * length}`,
        `second success ${length}`,
      ]);
      const memories = [sink, inbox, second, target];
      memories.forEach(({ region }, i) => assert(same(region.bytes, [read, first, other, other][i]), `memory ${i}`));
      for (const memory of memories) memory.check();
      await peer.finish();
      assertEquals(await within(qp.closed), undefined);
    }
  });
}
