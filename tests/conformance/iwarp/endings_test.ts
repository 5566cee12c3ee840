/** Connections that end where they should not: cut at any byte, terminated by the peer at any point, or flooded. */
import { assert, assertEquals } from "@std/assert";
import { fill, same, until, whole, within } from "../../../rdma/_testing/pair.ts";
import { Access } from "../../../rdma/mod.ts";
import { RawPeer } from "./raw_peer.ts";
import { onScene } from "./scene.ts";
import { atomicRequest, be, concat, type Fpdu, Opcode, parseTerminate, readRequest, tagged, untagged } from "./wire.ts";

for (const crc of [false, true]) {
  Deno.test(
    `iwarp endings: cut at any byte of a stream of FPDUs, crc ${crc}`,
    onScene(async (scene) => {
      const options = { crc: crc ? "right" : "zero" } as const;
      const payload = new Uint8Array(11).fill(0x77);
      const fpdus = [
        tagged(Opcode.Write, scene.open.region, payload, { ...options, last: false }),
        tagged(
          Opcode.Write,
          { stag: scene.open.region.stag, address: scene.open.region.address + 11n },
          payload,
          options,
        ),
        untagged(Opcode.Send, {}, payload, { ...options, last: false }),
        untagged(Opcode.Send, { mo: 11 }, payload, options),
        untagged(Opcode.ReadRequest, {}, readRequest(scene.readable.region, 20), options),
      ];
      const stream = concat(...fpdus);
      /** After how many bytes no message is half done. */
      const whole = new Set([0, 2, 4, 5].map((count) => concat(...fpdus.slice(0, count)).byteLength));
      scene.accept({ receives: 1 });
      for (let cut = 0; cut <= stream.byteLength; cut++) {
        for (const reset of cut % 2 === 0 ? [false] : [false, true]) {
          using peer = await RawPeer.start(scene.port, { crc });
          const victim = await scene.victim();
          await peer.write(stream.subarray(0, cut));
          if (reset) {
            peer.close();
          } else {
            // who ends the connection right behind a Read Request need not be answered
            if (cut === stream.byteLength) assertEquals((await peer.readFpdu())?.opcode, Opcode.ReadResponse);
            await peer.finish();
            assertEquals(await peer.readAll(), [], `cut at ${cut}`);
          }
          const error = await scene.outcome(victim);
          if (!reset) assertEquals(error?.code, whole.has(cut) ? undefined : "Reset", `cut at ${cut}`);
          assertEquals(
            victim.received[0].status,
            cut >= fpdusLength(fpdus, 4) ? "success" : "flushed",
            `cut at ${cut}`,
          );
        }
      }
    }),
  );
}

function fpdusLength(fpdus: Uint8Array[], count: number): number {
  return fpdus.slice(0, count).reduce((sum, fpdu) => sum + fpdu.byteLength, 0);
}

Deno.test(
  "iwarp endings: Terminates of the peer's, whatever they say, at any point",
  onScene(async (scene) => {
    scene.accept({ receives: 2 });
    const header = tagged(Opcode.Write, scene.open.region, new Uint8Array(8)).slice(2, 16);
    const bodies: [string, Uint8Array, [number, number, number]][] = [
      ["bare", be([16, 0x1101], [16, 0]), [1, 1, 1]],
      ["with a length", be([16, 0x2002], [16, 0x8000], [16, 22]), [2, 0, 2]],
      ["with a header", concat(be([16, 0x0102], [16, 0xc000], [16, 22]), header), [0, 1, 2]],
      ["with a header that is cut", concat(be([16, 0x1100], [16, 0xc000], [16, 22]), header.subarray(0, 5)), [1, 1, 0]],
      ["that announces everything and has nothing", be([16, 0x0206], [16, 0xe000]), [0, 2, 6]],
      ["as Linux lays it out", concat(be([16, 0x1001], [16, 0x0300], [16, 22]), header), [0, 1, 1]],
      ["of an unknown error", be([16, 0x7742], [16, 0]), [7, 7, 0x42]],
    ];
    const points: [string, Uint8Array[]][] = [
      ["at first", []],
      ["after a Send", [untagged(Opcode.Send, {}, new Uint8Array(8))]],
      ["within a Send", [untagged(Opcode.Send, {}, new Uint8Array(8), { last: false })]],
      ["within a Write", [tagged(Opcode.Write, scene.open.region, new Uint8Array(8), { last: false })]],
      ["behind a Read Request", [untagged(Opcode.ReadRequest, {}, readRequest(scene.open.region, 4096))]],
    ];
    for (const [bodyName, body, [layer, etype, code]] of bodies) {
      for (const [pointName, before] of points) {
        const about = `${bodyName}, ${pointName}`;
        using peer = await RawPeer.start(scene.port);
        const victim = await scene.victim();
        await peer.write(...before, untagged(Opcode.Terminate, {}, body));
        const answer = await peer.readAll();
        assert(answer.every(({ opcode }) => opcode === Opcode.ReadResponse), `${about}: a Terminate is not answered`);
        const error = await scene.outcome(victim);
        assertEquals([error?.code, error?.terminate], ["PeerTerminated", { layer, etype, code }], about);
        const taken = before.some((bytes) => bytes[2] === 0x41 && bytes[3] === 0x43) ? 1 : 0;
        assertEquals(victim.received.filter(({ status }) => status === "success").length, taken, about);
      }
    }
  }),
);

Deno.test(
  "iwarp endings: more Reads than are served at once",
  onScene(async (scene) => {
    // so much that no socket buffer takes two responses
    const region = scene.pd.allocate(32 << 20, Access.RemoteRead);
    scene.accept({ inboundReadDepth: 2 });
    using peer = await RawPeer.start(scene.port, { ord: 2 });
    const victim = await scene.victim();
    const requests = [1, 2, 3].map((msn) =>
      untagged(Opcode.ReadRequest, { msn }, readRequest(region, region.byteLength))
    );
    await peer.write(...requests);
    let last: Fpdu | undefined;
    let bytes = 0;
    for (let fpdu = await peer.readFpdu(); fpdu !== undefined; fpdu = await peer.readFpdu()) {
      last = fpdu;
      if (fpdu.opcode === Opcode.ReadResponse) bytes += fpdu.payload.byteLength;
    }
    assert(bytes < region.byteLength, "what had not begun to leave was dropped");
    assertEquals([last?.opcode, ...(last?.payload.slice(0, 2) ?? [])], [Opcode.Terminate, 0x12, 0x02]);
    assertEquals(last?.payload.slice(6, 24), requests[2].slice(2, 20));
    const error = await scene.outcome(victim);
    assertEquals(error?.terminate, { layer: 1, etype: 2, code: 2 });
    region.deregister();
  }),
);

Deno.test(
  "iwarp endings: a Read whose source is taken away before its turn has come is named in the Terminate",
  onScene(async (scene) => {
    // so much that no socket buffer takes the response
    const [first, second] = [32 << 20, 4096].map((length) => scene.pd.allocate(length, Access.RemoteRead));
    scene.accept({ inboundReadDepth: 4 });
    using peer = await RawPeer.start(scene.port, { ord: 4 });
    const victim = await scene.victim();
    const requests = [first, scene.readable.region, second].map((region, i) =>
      untagged(Opcode.ReadRequest, { msn: i + 1 }, readRequest(region, i === 1 ? 8 : region.byteLength))
    );
    await peer.write(...requests);
    await until(() => victim.qp.counters().fpdusReceived === requests.length);
    second.deregister();
    const fpdus = await peer.readAll();
    const terminate = fpdus.pop();
    assertEquals(terminate?.opcode, Opcode.Terminate);
    assert(fpdus.every(({ opcode }) => opcode === Opcode.ReadResponse));
    assertEquals(parseTerminate(terminate!.payload), {
      layer: 0,
      etype: 1,
      code: 0,
      length: 46,
      ddpHeader: requests[2].slice(2, 20),
      rdmapHeader: requests[2].slice(20, 48),
    });
    assertEquals((await scene.outcome(victim))?.code, "PeerViolation");
    first.deregister();
  }),
);

Deno.test(
  "iwarp endings: as many Reads as are served, again and again, with a peer that never reads",
  onScene(async (scene) => {
    const region = scene.pd.allocate(32 << 20, Access.RemoteRead);
    scene.accept({ inboundReadDepth: 2 });
    using peer = await RawPeer.start(scene.port, { ord: 2 });
    const victim = await scene.victim();
    await peer.write(
      ...[1, 2].map((msn) => untagged(Opcode.ReadRequest, { msn }, readRequest(region, region.byteLength))),
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert(!victim.qp.isClosed);
    // a close is not held up for ever, and an abort not at all
    victim.qp.abort();
    await scene.outcome(victim);
    region.deregister();
  }),
);

Deno.test(
  "iwarp endings: a close waits for a peer that takes its time, and goes on sending meanwhile",
  onScene(async (scene) => {
    const region = scene.pd.allocate(1 << 20);
    fill(region.bytes, 1);
    using peer = await RawPeer.start(scene.port, { peerToPeer: true, rtrWrite: true });
    const victim = await scene.victim();
    const sent = victim.qp.write(whole(region), { stag: 1, address: 0n });
    const closing = victim.qp.close();
    await sent; // the kernel has it, and the peer has not read a byte
    for (let i = 0; i < 10; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      await peer.write(tagged(Opcode.Write, { stag: 0, address: 0n }, new Uint8Array(0)));
    }
    const got = concat(...(await peer.readAll()).map(({ payload }) => payload));
    assert(same(got, region.bytes), `${got.byteLength} bytes of ${region.byteLength}`);
    peer.close();
    await within(closing);
    assertEquals(await scene.outcome(victim), undefined);
    region.deregister();
  }),
);

Deno.test(
  "iwarp endings: a close answers what the peer had asked for, and nothing that it asks for afterwards",
  onScene(async (scene) => {
    // so much that no socket buffer takes the response
    const region = scene.pd.allocate(32 << 20, Access.RemoteRead);
    const counter = scene.atomic.region.bytes.slice(0, 8);
    scene.accept({ inboundReadDepth: 4 });
    using peer = await RawPeer.start(scene.port, { ord: 4 });
    const victim = await scene.victim();
    const read = (msn: number) =>
      untagged(Opcode.ReadRequest, { msn }, readRequest(region, region.byteLength, { stag: msn, address: 0n }));
    await peer.write(read(1), read(2));
    const first = await peer.readFpdu();
    await until(() => scene.device.counters().fpdusReceived >= 2);
    const closing = victim.qp.close();
    // not even what begins with the last byte of an answer: a peer that asks again for each would be served for ever
    await peer.write(read(3), untagged(Opcode.AtomicRequest, { msn: 4 }, atomicRequest(scene.atomic.region, 0)));
    const fpdus = [first!, ...await peer.readAll()];
    assert(fpdus.every(({ opcode }) => opcode === Opcode.ReadResponse));
    assertEquals(fpdus.filter(({ last }) => last).map(({ stag }) => stag), [1, 2]);
    assertEquals(fpdus.reduce((sum, { payload }) => sum + payload.byteLength, 0), 2 * region.byteLength);
    assertEquals(scene.atomic.region.bytes.slice(0, 8), counter);
    peer.close();
    await within(closing);
    assertEquals(await scene.outcome(victim), undefined);
    region.deregister();
  }),
);

Deno.test(
  "iwarp endings: a close waits for a slow Read of its own, not for one that is held back, nor for Reads of the peer's",
  onScene(async (scene) => {
    const length = 1 << 20;
    const region = scene.pd.allocate(32 << 20, Access.RemoteRead);
    /** A connection that is closed while a Read of its own, or one of the peer's, is under way. */
    const begin = async (ours: boolean) => {
      const peer = await RawPeer.start(scene.port, { peerToPeer: true, rtrWrite: true });
      const victim = await scene.victim();
      const sink = scene.pd.allocate(length);
      const local = ours ? sink : undefined;
      const read = local &&
        victim.qp.read(whole(local), { stag: 7, address: 0n }).then(() => "success", () => "failed");
      if (!ours) await peer.write(untagged(Opcode.ReadRequest, {}, readRequest(region, region.byteLength)));
      const first = await peer.readFpdu();
      const began = performance.now();
      const closed = victim.qp.close().then(() => performance.now() - began);
      const end = { ended: false, after: 0 };
      void closed.then((after) => Object.assign(end, { ended: true, after }));
      const payload = new DataView(first!.payload.buffer);
      const target = { stag: payload.getUint32(0), address: payload.getBigUint64(4) };
      /** Answers with the bytes from `at` on. */
      const answer = (at: number, bytes: number) =>
        tagged(
          Opcode.ReadResponse,
          { ...target, address: target.address + BigInt(at) },
          new Uint8Array(bytes).fill(9),
          {
            last: at + bytes === length,
          },
        );
      return { peer, victim, sink, read, closed, end, answer };
    };
    const [slow, held, reader] = [await begin(true), await begin(true), await begin(false)];
    const pause = () => new Promise((resolve) => setTimeout(resolve, 400));
    // in 32 pieces and 12.8 seconds
    const answering = (async () => {
      for (let at = 0; at < length; at += 32 * 1024) {
        await pause();
        await slow.peer.write(slow.answer(at, 32 * 1024));
      }
    })();
    const response = held.answer(0, 32 * 1024);
    const holding = (async () => {
      for (let at = 0; !held.end.ended; at++) {
        await held.peer.tryWrite(response.subarray(at, at + 1));
        await pause();
      }
    })();
    const reading = (async () => {
      while (!reader.end.ended) {
        await reader.peer.readFpdu();
        await pause();
      }
    })();
    const code = async ({ victim }: typeof slow) => (await victim.qp.closed)?.code;
    await within(Promise.all([answering, holding, reading]), 30_000);
    assertEquals([await held.read, await code(held)], ["failed", "TimedOut"]);
    assertEquals(await code(reader), "TimedOut");
    for (const { end } of [held, reader]) assert(end.after > 9_000 && end.after < 20_000, `${end.after} ms`);
    await slow.peer.readAll();
    slow.peer.close();
    assertEquals([await within(slow.read!), await within(code(slow))], ["success", undefined]);
    assert(slow.sink.bytes.every((byte) => byte === 9));
    for (const { peer, victim, sink } of [slow, held, reader]) {
      peer.close();
      await scene.outcome(victim);
      sink.deregister();
    }
    region.deregister();
  }),
);

Deno.test(
  "iwarp endings: a peer that neither reads nor closes after its violation is left",
  onScene(async (scene) => {
    using peer = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    await peer.write(untagged(Opcode.Send, {}, new Uint8Array(8)));
    const flood = (async () => {
      for (let i = 0; i < 2000; i++) await peer.tryWrite(new Uint8Array(64 * 1024));
    })();
    assertEquals((await scene.outcome(victim))?.code, "PeerViolation");
    await flood;
  }),
);

Deno.test(
  "iwarp endings: thousands of empty messages cost nobody anything",
  onScene(async (scene) => {
    scene.accept({ receives: 100 });
    using peer = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    const empty = new Uint8Array(0);
    const writes = concat(...new Array(5000).fill(tagged(Opcode.Write, { stag: 0, address: 0n }, empty)));
    const segments = concat(...new Array(5000).fill(untagged(Opcode.Send, {}, empty, { last: false })));
    await peer.write(writes, segments, untagged(Opcode.Send, {}, empty));
    const reads = Array.from({ length: 50 }, (_, i) => i + 1);
    for (const msn of reads) {
      await peer.write(untagged(Opcode.ReadRequest, { msn }, readRequest({ stag: 0, address: 0n }, 0)));
      const response = await peer.readFpdu();
      assertEquals([response?.opcode, response?.last, response?.payload.byteLength], [Opcode.ReadResponse, true, 0]);
      assertEquals([response?.stag, response?.to], [0x5151, 0x1000n]);
    }
    await until(() => victim.received.length === 1);
    assertEquals(victim.received[0], { status: "success", byteLength: 0, invalidatedStag: undefined });
    await peer.finish();
    assertEquals(await scene.outcome(victim), undefined);
  }),
);
