/**
 * Attacks from remote peers, as RFC 5042 §6 lists them: what they get, what it costs them, and that nobody else notices. What breaks the protocol as well is in
 * `violations_test.ts`, Reads beyond the depth that was agreed on are in `endings_test.ts`.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { guarded, same, until, whole, within } from "../../../rdma/_testing/pair.ts";
import { Access, type MemoryRegion, type QueuePair } from "../../../rdma/mod.ts";
import { RawPeer } from "./raw_peer.ts";
import { onScene, RECEIVE_BYTES, type Scene, type Victim } from "./scene.ts";
import { atomicRequest, be, mpaRequest, Opcode, readRequest, tagged, untagged } from "./wire.ts";

const ALL = Access.RemoteRead | Access.RemoteWrite | Access.RemoteAtomic;

/** Layer, type and code of a Terminate (RFC 5040 §4.8), for a Write and for everything else. */
type Codes = readonly [write: readonly number[], other: readonly number[], invalidate: readonly number[]];
const INVALID: Codes = [[1, 1, 0], [0, 1, 0], [0, 2, 9]];
const OTHER_STREAM: Codes = [[1, 1, 2], [0, 1, 3], [0, 1, 3]];
const BOUNDS: Codes = [[1, 1, 1], [0, 1, 1], [0, 2, 9]];

interface Target {
  stag: number;
  address: bigint;
  /** Number of the next Send; 1 by default. */
  msn?: number;
}

/** Every way in which a peer may use eight bytes of memory, and what it is answered where it may not. */
function uses(target: Target, [write, other, invalidate]: Codes): [Uint8Array, readonly number[]][] {
  const payload = new Uint8Array(8).fill(0xee);
  return [
    [tagged(Opcode.Write, target, payload), write],
    [untagged(Opcode.ReadRequest, {}, readRequest(target, 8)), other],
    [untagged(Opcode.AtomicRequest, {}, atomicRequest(target, 0)), other],
    [untagged(Opcode.SendInvalidate, { invalidate: target.stag, msn: target.msn }, payload), invalidate],
  ];
}

/** Has a peer try something that it must be refused. */
async function refused(scene: Scene, peer: RawPeer, victim: Victim, bytes: Uint8Array, code: readonly number[]) {
  await peer.tryWrite(bytes);
  const told = await peer.readTerminate();
  assertEquals([told.layer, told.etype, told.code], [...code]);
  peer.close();
  assertEquals((await scene.outcome(victim))?.code, "PeerViolation");
}

/** Tries `target` in every way, with a connection for each. `bring` may have to do something first on the connection. */
async function allRefused(
  scene: Scene,
  codes: Codes,
  bring: (peer: RawPeer, victim: Victim) => Target | Promise<Target>,
  kinds: readonly number[] = [0, 1, 2, 3],
): Promise<void> {
  scene.accept({ receives: 2 });
  for (const kind of kinds) {
    using peer = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    const [bytes, code] = uses(await bring(peer, victim), codes)[kind];
    await refused(scene, peer, victim, bytes, code);
  }
}

/** What a region holds. */
function snapshot(region: MemoryRegion): Uint8Array {
  return region.bytes.slice();
}

Deno.test(
  "iwarp threats: guessed steering tags cost a connection each, are counted, and keep an address away (RFC 5042 §6.1.1)",
  onScene(async (scene) => {
    const before = scene.contents();
    const counted = scene.device.counters();
    // somebody of the same address who was there before goes on
    scene.accept({});
    using good = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    for (let round = 0; round < 5; round++) {
      const guess = { stag: scene.open.region.stag ^ (1 << round), address: scene.open.region.address };
      await allRefused(scene, INVALID, () => guess);
    }
    assertEquals(scene.device.counters().protectionErrors - counted.protectionErrors, 20);
    assertEquals(scene.device.counters().connectionsRefused, counted.connectionsRefused);
    for (let i = 0; i < 3; i++) {
      using late = await RawPeer.connect(scene.port);
      await late.tryWrite(mpaRequest());
      assertEquals(await late.readEnd(), new Uint8Array(0));
    }
    assertEquals(scene.device.counters().connectionsRefused - counted.connectionsRefused, 3);
    await good.write(untagged(Opcode.ReadRequest, {}, readRequest(scene.readable.region, 8)));
    assertEquals((await good.readFpdu())?.payload, before[1].slice(0, 8));
    scene.checkMemory(before);
    await good.finish();
    await scene.outcome(victim);
  }, { protectionErrors: { max: 20, periodMs: 600_000 } }),
);

Deno.test(
  "iwarp threats: memory for one stream is none for another, of the same domain (RFC 5042 §6.1.1, §6.4.5)",
  onScene(async (scene) => {
    scene.accept({ receives: 1 });
    using owner = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    const memory = new Uint8Array(4096);
    using region = scene.pd.register(memory, ALL, { connection: victim.qp });
    using part = scene.open.region.bind({
      offset: 64,
      length: 64,
      access: Access.RemoteRead | Access.RemoteWrite,
      connection: victim.qp,
    });
    const before = [snapshot(region), snapshot(scene.open.region)];
    for (const target of [region, part]) await allRefused(scene, OTHER_STREAM, () => target);
    assert(same(region.bytes, before[0]) && same(scene.open.region.bytes, before[1]));
    // it is still there for whom it is meant
    const payload = new Uint8Array(8).fill(7);
    await owner.write(
      tagged(Opcode.Write, region, payload),
      tagged(Opcode.Write, part, payload),
      untagged(Opcode.SendInvalidate, { invalidate: part.stag }, payload),
    );
    await until(() => victim.received.length === 1);
    assertEquals(victim.received[0].invalidatedStag, part.stag);
    assertEquals([...memory.subarray(0, 8), ...scene.open.region.bytes.subarray(64, 72)], new Array(16).fill(7));
    await owner.finish();
    await scene.outcome(victim);
  }),
);

Deno.test(
  "iwarp threats: nothing beyond a window, though its region has it (RFC 5042 §6.2.1, §6.3.1)",
  onScene(async (scene) => {
    using part = scene.atomic.region.bind({ offset: 1024, length: 64, access: ALL });
    const before = snapshot(scene.atomic.region);
    for (const offset of [-1024, -8, -1, 57, 64, 1024]) {
      // what is a bound of a Write is that of every other access
      const target = { stag: part.stag, address: part.address + BigInt(offset) };
      await allRefused(scene, BOUNDS, () => target, [0, 1, 2]);
    }
    assert(same(scene.atomic.region.bytes, before));
  }),
);

Deno.test(
  "iwarp threats: nothing after an invalidation, whoever asked for it (RFC 5042 §6.2.2, §6.3.3)",
  onScene(async (scene) => {
    const payload = new Uint8Array(8).fill(7);
    const ways: Record<string, (region: MemoryRegion, peer: RawPeer, victim: Victim) => Target | Promise<Target>> = {
      deregistered: (region) => {
        region.deregister();
        return region;
      },
      "registered anew": (region) => {
        const old = { stag: region.stag, address: region.address };
        region.reregister({ access: ALL });
        return old;
      },
      "window revoked": (region) => {
        const part = region.bind({ length: 64, access: ALL });
        part.revoke();
        return part;
      },
      "window with its region": (region) => {
        const part = region.bind({ length: 64, access: ALL });
        region.deregister();
        return part;
      },
      "invalidated by work of ours": async (region, peer, { qp }) => {
        const done = Promise.withResolvers<void>();
        // a responder speaks second
        await peer.write(tagged(Opcode.Write, region, payload));
        qp.postSend({ opcode: "invalidateLocal", target: region }, () => done.resolve());
        await within(done.promise);
        return region;
      },
      "invalidated by the peer": async (region, peer, { received }) => {
        await peer.write(
          tagged(Opcode.Write, region, payload),
          untagged(Opcode.SendInvalidate, { invalidate: region.stag }, payload),
        );
        await until(() => received.length === 1);
        return { stag: region.stag, address: region.address, msn: 2 };
      },
    };
    for (const [name, way] of Object.entries(ways)) {
      for (const kind of [0, 1, 2, 3]) {
        const memory = guarded(scene.pd, 64, ALL);
        const bytes = memory.region.bytes;
        let indicated: Uint8Array | undefined;
        const bring = async (peer: RawPeer, victim: Victim) => {
          const target = await way(memory.region, peer, victim);
          indicated = bytes.slice();
          return target;
        };
        await allRefused(scene, INVALID, bring, [kind]);
        assert(same(bytes, indicated!), `${name}: what was indicated was changed`);
        memory.check();
        memory.region.deregister();
      }
    }
  }),
);

Deno.test(
  "iwarp threats: a region that is taken back between two segments of a Write gets no more (RFC 5042 §6.2.2)",
  onScene(async (scene) => {
    scene.accept({});
    using peer = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    const memory = guarded(scene.pd, 64, Access.RemoteWrite);
    const { stag, address } = memory.region;
    const bytes = memory.region.bytes;
    await peer.write(tagged(Opcode.Write, { stag, address }, new Uint8Array(8).fill(1), { last: false }));
    await until(() => bytes[7] === 1);
    memory.region.deregister();
    const more = tagged(Opcode.Write, { stag, address: address + 8n }, new Uint8Array(8).fill(2));
    await refused(scene, peer, victim, more, INVALID[0]);
    assertEquals([...bytes.subarray(0, 16)], [...new Array(8).fill(1), ...new Array(8).fill(0)]);
    memory.check();
  }),
);

Deno.test(
  "iwarp threats: a region may hide where it lies, and does not show what was there (RFC 5042 §6.3.2)",
  onScene(async (scene) => {
    scene.accept({});
    using peer = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    const used = scene.pd.allocate(4096, Access.RemoteRead);
    used.bytes.fill(0x5e);
    used.deregister();
    using region = scene.pd.allocate(4096, Access.RemoteRead, { zeroBased: true });
    assertEquals(region.address, 0n);
    await peer.write(untagged(Opcode.ReadRequest, {}, readRequest(region, 4096)));
    assertEquals((await peer.readFpdu())?.payload, new Uint8Array(4096));
    await peer.finish();
    await scene.outcome(victim);
  }),
);

Deno.test(
  "iwarp threats: memory that changes while it is sent harms that connection at most (RFC 5042 §6.2.2)",
  onScene(async (scene) => {
    const LENGTH = 1 << 20;
    const ends = new Set<string>();
    for (let round = 0; round < 6; round++) {
      const target = guarded(scene.pd, LENGTH, Access.RemoteWrite);
      const source = guarded(scene.otherPd, LENGTH);
      scene.accept({ crc: true });
      const qp = await scene.device.connect({
        hostname: "127.0.0.1",
        port: scene.port,
        pd: scene.otherPd,
        crc: true,
      });
      const victim = await scene.victim();
      let outstanding = 8;
      for (let i = 0; i < 8; i++) {
        qp.postSend({ opcode: "write", local: whole(source.region), remote: target.region }, () => outstanding--);
      }
      for (let change = 1; outstanding > 0; change++) {
        source.region.bytes.fill(change);
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      await qp.close();
      const error = await scene.outcome(victim);
      // a CRC that is not that of the bytes (RFC 5044 §8), or nothing at all
      assertEquals(error?.terminate ?? { layer: 2, etype: 0, code: 2 }, { layer: 2, etype: 0, code: 2 });
      ends.add(error?.code ?? "orderly");
      for (const memory of [target, source]) {
        memory.check();
        memory.region.deregister();
      }
    }
    assert([...ends].every((end) => end === "orderly" || end === "PeerViolation"), [...ends].join());
  }),
);

Deno.test(
  "iwarp threats: a shared receive queue that is held by half messages (RFC 5042 §6.4.3.1)",
  onScene(async (scene) => {
    const DEPTH = 8;
    const limits: number[] = [];
    const queue = scene.device.createSharedReceiveQueue({ pd: scene.pd, depth: DEPTH, onLimit: (n) => limits.push(n) });
    const memory = guarded(scene.pd, DEPTH * RECEIVE_BYTES);
    const completed: string[] = [];
    const post = (i: number) => {
      const local = [{ region: memory.region, offset: i * RECEIVE_BYTES, length: RECEIVE_BYTES }];
      queue.postRecv(local, (done) => {
        completed.push(done.status);
        if (done.status === "flushed") post(i);
      });
    };
    for (let i = 0; i < DEPTH; i++) post(i);
    queue.flush();
    queue.arm(2);
    // somebody with receives of his own, in the same domain
    scene.accept({ receives: 1 });
    using other = await RawPeer.start(scene.port);
    const unharmed = await scene.victim();

    scene.accept({ shared: queue });
    const attackers: [RawPeer, QueuePair][] = [];
    for (let i = 0; i < DEPTH; i++) {
      const peer = await RawPeer.start(scene.port);
      attackers.push([peer, (await scene.victim()).qp]);
      await peer.write(untagged(Opcode.Send, {}, new Uint8Array(8), { last: false }));
    }
    await until(() => limits.length === 1);
    assertEquals(limits, [1]);
    // there is none for one more
    using late = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    await refused(scene, late, victim, untagged(Opcode.Send, {}, new Uint8Array(8)), [1, 2, 2]);
    await other.write(untagged(Opcode.Send, {}, new Uint8Array(8)));
    await until(() => unharmed.received.length === 1);
    assertEquals(unharmed.received[0].status, "success");
    // the application ends the ones that hold them, and has them all again
    for (const [peer, qp] of attackers) {
      qp.abort();
      peer.close();
    }
    await until(() => completed.length === DEPTH);
    assertEquals(new Set(completed), new Set(["flushed"]));
    using again = await RawPeer.start(scene.port);
    const served = await scene.victim();
    await again.write(
      ...Array.from({ length: DEPTH }, (_, i) => untagged(Opcode.Send, { msn: i + 1 }, new Uint8Array(8))),
    );
    await until(() => completed.length === 2 * DEPTH);
    assertEquals(new Set(completed.slice(DEPTH)), new Set(["success"]));
    await again.finish();
    await other.finish();
    await scene.outcome(served);
    await scene.outcome(unharmed);
    memory.check();
    queue[Symbol.dispose]();
    memory.region.deregister();
  }),
);

Deno.test(
  "iwarp threats: connections that are left half open make room for those that are not (RFC 5042 §6.4.1)",
  onScene(async (scene) => {
    const before = scene.device.counters();
    const request = mpaRequest();
    const silent: RawPeer[] = [];
    scene.accept({});
    // those that have said what they want are out of it
    using settled = await RawPeer.start(scene.port);
    const victim = await scene.victim();
    for (let i = 0; i < 40; i++) {
      const peer = await RawPeer.connect(scene.port);
      // nothing, a part of the key, a part of the frame
      await peer.tryWrite(request.subarray(0, [0, 5, 18][i % 3]));
      silent.push(peer);
    }
    await until(() => scene.device.counters().startupsDisplaced - before.startupsDisplaced === 32);
    // the first ones went
    for (const peer of silent.slice(0, 32)) assertEquals(await peer.readEnd(), new Uint8Array(0));
    // a peer that speaks gets in, however many do not
    for (let i = 0; i < 20; i++) {
      using good = await RawPeer.start(scene.port);
      const { qp } = await scene.victim();
      await good.finish();
      await within(qp.closed);
    }
    // the last one that was silent still has its place
    await silent[39].write(request);
    await silent[39].readMpa();
    (await scene.victim()).qp.abort();
    await settled.write(tagged(Opcode.Write, scene.open.region, new Uint8Array(8)));
    await settled.finish();
    assertEquals(await scene.outcome(victim), undefined);
    for (const peer of silent) peer.close();
    await until(() => scene.device.counters().liveConnections <= before.liveConnections);
  }, { startingMax: 8 }),
);

Deno.test(
  "iwarp threats: a storm of Terminates is taken one a connection, and not answered",
  onScene(async (scene) => {
    const PEERS = 300;
    const before = scene.device.counters();
    scene.accept({ receives: 1 });
    const terminate = untagged(Opcode.Terminate, {}, be([16, 0x1101], [16, 0]));
    const peers = await Promise.all(Array.from({ length: PEERS }, () => RawPeer.start(scene.port)));
    const victims: Victim[] = [];
    for (let i = 0; i < PEERS; i++) victims.push(await scene.victim());
    // every second one breaks the protocol instead, and is sent one; all go on sending behind it
    const bad = tagged(Opcode.Write, { stag: 1, address: 0n }, new Uint8Array(8));
    const storms = [0, 1].map((kind) => Array.from({ length: 50 }, (_, i) => i === 0 && kind === 1 ? bad : terminate));
    await Promise.all(peers.map((peer, i) => peer.tryWrite(...storms[i % 2])));
    const ends = await Promise.all(victims.map((victim) => scene.outcome(victim)));
    const count = (code: string) => ends.filter((error) => error?.code === code).length;
    assertEquals([count("PeerTerminated"), count("PeerViolation")], [PEERS / 2, PEERS / 2]);
    const after = scene.device.counters();
    assertEquals(after.terminatesReceived - before.terminatesReceived, PEERS / 2);
    assertEquals(after.terminatesSent - before.terminatesSent, PEERS / 2);
    for (const [i, peer] of peers.entries()) {
      if (i % 2 === 0) assertEquals(await peer.readAll(), [], "a Terminate is not answered");
      peer.close();
    }
  }),
);

Deno.test(
  "iwarp threats: a listener's limits are numbers that make sense",
  onScene(async ({ device }) => {
    for (const startingMax of [0, -1, 1.5, 2 ** 32]) {
      await assertRejects(async () => await device.listen({ port: 0, startingMax }).close(), RangeError);
    }
    for (const max of [0, NaN]) {
      const protectionErrors = { max, periodMs: 1000 };
      await assertRejects(async () => await device.listen({ port: 0, protectionErrors }).close(), RangeError);
    }
    const protectionErrors = { max: 1, periodMs: 0 };
    await assertRejects(async () => await device.listen({ port: 0, protectionErrors }).close(), RangeError);
  }),
);
