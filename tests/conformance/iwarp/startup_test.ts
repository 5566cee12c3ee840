/** Peers that connect to us and do not begin as RFC 5044 §7.1 and RFC 6581 §9 say. */
import { assert, assertEquals } from "@std/assert";
import { generator, until, within } from "../../../rdma/_testing/pair.ts";
import { RawPeer } from "./raw_peer.ts";
import { onScene } from "./scene.ts";
import { concat, type MpaFrame, mpaRequest, Opcode, tagged, untagged } from "./wire.ts";

Deno.test(
  "iwarp start-up: random bytes are no request",
  onScene(async (scene) => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    console.log(`seed ${seed}`);
    const random = generator(seed);
    for (let round = 0; round < 200; round++) {
      using peer = await RawPeer.connect(scene.port);
      const bytes = new Uint8Array(1 + Math.floor(random() * 600)).map(() => random() * 256);
      await peer.tryWrite(bytes);
      assertEquals((await peer.readEnd()).byteLength, 0);
    }
    // they are taken for plain TCP, whose owner decides
    assertEquals(scene.streams, 200);
    assertEquals(scene.takeVictims(), []);
  }),
);

Deno.test(
  "iwarp start-up: a request that is cut at any byte",
  onScene(async (scene) => {
    const request = mpaRequest({ privateData: new Uint8Array([1, 2, 3, 4, 5]) });
    for (let cut = 0; cut < request.byteLength; cut++) {
      for (const reset of [false, true]) {
        using peer = await RawPeer.connect(scene.port);
        await peer.write(request.subarray(0, cut));
        if (reset) continue; // closed with nothing unread: an orderly end of both directions
        await peer.finish();
        assertEquals((await peer.readEnd()).byteLength, 0, `cut at ${cut}`);
      }
    }
    assertEquals([scene.streams, scene.takeVictims().length], [0, 0]);
  }),
);

Deno.test(
  "iwarp start-up: whole requests of peers that go at once do no harm",
  onScene(async (scene) => {
    scene.accept({ receives: 1 });
    for (let round = 0; round < 200; round++) {
      const peer = await RawPeer.connect(scene.port);
      await peer.write(mpaRequest());
      if (round % 3 === 0) await peer.finish();
      peer.close();
    }
    await until(() => scene.device.counters().startupFailures + scene.device.counters().connections > 200);
    for (const victim of scene.takeVictims()) {
      const error = await scene.outcome(victim);
      assert(error === undefined || error.code === "Reset", String(error));
    }
  }),
);

Deno.test(
  "iwarp start-up: a request that no side could agree to is refused",
  onScene(async (scene) => {
    const cases: [string, MpaFrame][] = [
      ["revision 0", { revision: 0 }],
      ["revision 3", { revision: 3 }],
      ["revision 255", { revision: 255 }],
      ["private data of 513 bytes", { privateData: new Uint8Array(509) }],
      ["private data of 65535 bytes", { length: 65535 }],
      ["enhanced without room for it", { length: 3 }],
    ];
    for (const [name, frame] of cases) {
      using peer = await RawPeer.connect(scene.port);
      await peer.tryWrite(mpaRequest(frame));
      assertEquals((await peer.readEnd()).byteLength, 0, name);
    }
    assertEquals(scene.takeVictims(), []);
  }),
);

Deno.test(
  "iwarp start-up: the key must be a request's, to the letter",
  onScene(async (scene) => {
    for (
      const key of ["MPA ID Rep Frame", "MPA ID Req Framf", "mpa id req frame", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"]
    ) {
      using peer = await RawPeer.connect(scene.port);
      await peer.tryWrite(mpaRequest({ key }));
      assertEquals((await peer.readEnd()).byteLength, 0, key);
    }
    assertEquals([scene.streams, scene.takeVictims().length], [4, 0]);
  }),
);

Deno.test(
  "iwarp start-up: in pieces, and with the largest private data",
  onScene(async (scene) => {
    const request = mpaRequest({ privateData: new Uint8Array(508).fill(7) });
    for (const step of [1, 7, 16, 20, 100]) {
      using peer = await RawPeer.connect(scene.port);
      for (let at = 0; at < request.byteLength; at += step) await peer.write(request.subarray(at, at + step));
      const reply = await within(peer.readMpa());
      assertEquals(reply[16] & 0x20, 0);
      const victim = await scene.victim();
      assertEquals(victim.qp.privateData, new Uint8Array(508).fill(7));
      peer.close();
      await scene.outcome(victim);
    }
  }),
);

Deno.test(
  "iwarp start-up: FPDUs right behind the request are taken in their turn",
  onScene(async (scene) => {
    scene.accept({ receives: 2 });
    using peer = await RawPeer.connect(scene.port);
    const payload = new Uint8Array(100).fill(0x42);
    await peer.write(concat(
      mpaRequest(),
      tagged(Opcode.Write, scene.open.region, payload),
      untagged(Opcode.Send, { msn: 1 }, payload),
    ));
    await peer.readMpa();
    const victim = await scene.victim();
    await until(() => victim.received.length === 1);
    assertEquals(victim.received[0].byteLength, 100);
    assertEquals(victim.inbox[0].region.bytes.slice(0, 100), payload);
    assertEquals(scene.open.region.bytes.slice(0, 100), payload);
    peer.close();
    await scene.outcome(victim);
  }),
);

Deno.test(
  "iwarp start-up: a peer that says nothing, or stops in the middle, is not waited for",
  onScene(async (scene) => {
    const request = mpaRequest({ privateData: new Uint8Array(10) });
    const begun = performance.now();
    const peers = await Promise.all([0, 1, 15, 16, 17, 19, 20, 25, request.byteLength - 1].map(async (cut) => {
      const peer = await RawPeer.connect(scene.port);
      await peer.write(request.subarray(0, cut));
      return peer;
    }));
    for (const peer of peers) {
      using _ = peer;
      assertEquals((await peer.readEnd()).byteLength, 0);
    }
    const seconds = (performance.now() - begun) / 1000;
    assert(seconds > 9 && seconds < 14, `given ${seconds} s`);
    assertEquals(scene.takeVictims(), []);
  }),
);
