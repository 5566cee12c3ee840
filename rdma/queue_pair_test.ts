import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connectPair, fill, guarded, same, until, whole, within } from "./_testing/pair.ts";
import { Access, RdmaError, type Sge, type WorkCompletion } from "./mod.ts";

Deno.test("queue pair: Reads beyond the agreed depth wait their turn, and keep the order of what follows", async () => {
  await using pair = await connectPair({ client: { outboundReadDepth: 3 }, server: { inboundReadDepth: 2 } });
  const { client, server } = pair;
  assertEquals([client.qp.outboundReadDepth, server.qp.inboundReadDepth], [2, 2]);
  const source = server.pd.allocate(1 << 20, Access.RemoteRead);
  fill(source.bytes, 1);
  const sink = client.pd.allocate(1 << 20);
  const inbox = server.pd.allocate(16);
  const done: string[] = [];
  const received = server.qp.recv(whole(inbox));
  for (let i = 0; i < 32; i++) {
    const offset = i * 32768;
    const local = [{ region: sink, offset, length: 32768 }];
    const remote = { stag: source.stag, address: source.address + BigInt(offset) };
    client.qp.postSend({ opcode: "read", local, remote }, (c) => done.push(`${c.status} read ${i} ${c.byteLength}`));
  }
  client.qp.postSend({ opcode: "send", local: whole(sink).map((sge) => ({ ...sge, length: 16 })) }, (completion) => {
    done.push(`${completion.status} send`);
  });
  await received;
  await until(() => done.length === 33);
  assertEquals(done, [...Array.from({ length: 32 }, (_, i) => `success read ${i} 32768`), "success send"]);
  assert(same(sink.bytes, source.bytes));
});

Deno.test("queue pair: a Read where the peer serves none is refused at once", async () => {
  await using pair = await connectPair({ server: { inboundReadDepth: 0 } });
  const { client, server } = pair;
  assertEquals(client.qp.outboundReadDepth, 0);
  const region = server.pd.allocate(16, Access.RemoteRead);
  const sink = client.pd.allocate(16);
  const error = assertThrows(
    () => client.qp.postSend({ opcode: "read", local: whole(sink), remote: region }),
    RdmaError,
  );
  assertEquals(error.code, "Invalid");
  // the connection goes on
  await Promise.all([server.qp.recv(whole(server.pd.allocate(16))), client.qp.send(whole(sink))]);
});

Deno.test("queue pair: Send with Invalidate ends a window, and the peer is told which", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const region = server.pd.allocate(8192, Access.RemoteWrite);
  const window = region.bind({ offset: 4096, length: 4096, access: Access.RemoteWrite });
  const regions = server.device.counters().regions;
  const source = client.pd.allocate(64);
  fill(source.bytes, 5);
  const [received] = await Promise.all([
    server.qp.recv([]),
    client.qp.write(whole(source), window),
    client.qp.send([], { invalidate: window.stag, solicited: true }),
  ]);
  assertEquals(received, { status: "success", byteLength: 0, invalidatedStag: window.stag });
  assert(same(region.bytes.subarray(4096, 4096 + 64), source.bytes));
  assertEquals(server.device.counters().regions, regions - 1);
  // the region itself goes on; the window's own end is no error any more
  await client.qp.write(whole(source), region);
  window.revoke();

  await client.qp.write(whole(source), window);
  const [ours, theirs] = await within(Promise.all([client.qp.closed, server.qp.closed]));
  assertEquals([ours?.code, ours?.terminate], ["PeerTerminated", { layer: 1, etype: 1, code: 0 }]);
  assertEquals([theirs?.code, theirs?.terminate], ["PeerViolation", { layer: 1, etype: 1, code: 0 }]);
});

Deno.test("queue pair: a region that the peer invalidates stays its owner's memory", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const region = server.pd.allocate(1 << 20, Access.RemoteWrite | Access.RemoteRead);
  region.bytes.fill(0x5a);
  const regions = server.device.counters().regions;
  const [received] = await Promise.all([server.qp.recv([]), client.qp.send([], { invalidate: region.stag })]);
  assertEquals(received.invalidatedStag, region.stag);
  assert(region.bytes.every((byte) => byte === 0x5a), "the memory is still there");
  assertThrows(() => region.bind({ length: 16, access: Access.RemoteRead }), RdmaError);
  const sink = client.pd.allocate(16);
  const error = await assertRejects(() => client.qp.read(whole(sink), region), RdmaError);
  assertEquals(error.code, "Flushed");
  assertEquals((await client.qp.closed)?.terminate, { layer: 0, etype: 1, code: 0 });
  region.deregister();
  assertEquals([region.bytes.byteLength, server.device.counters().regions], [0, regions - 1]);
});

Deno.test("queue pair: memory that is not open to peers cannot be invalidated by them", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const region = server.pd.allocate(4096);
  const [received] = await Promise.all([
    assertRejects(() => server.qp.recv([]), RdmaError),
    client.qp.send([], { invalidate: region.stag }),
  ]);
  assertEquals(received.code, "Flushed");
  assertEquals((await client.qp.closed)?.terminate, { layer: 0, etype: 2, code: 9 });
  assert(region.live && region.bytes.byteLength === 4096);
});

for (
  const [name, posted, terminate] of [
    ["without a receive", undefined, { layer: 1, etype: 2, code: 2 }],
    ["into a receive that is too small", 99, { layer: 1, etype: 2, code: 5 }],
  ] as const
) {
  Deno.test(`queue pair: a Send ${name} ends the connection`, async () => {
    await using pair = await connectPair();
    const { client, server } = pair;
    const inbox = guarded(server.pd, 99);
    const completions: WorkCompletion[] = [];
    if (posted !== undefined) server.qp.postRecv(whole(inbox.region), (done) => completions.push(done));
    const source = client.pd.allocate(100);
    source.bytes.fill(1);
    await client.qp.send(whole(source));
    const [ours, theirs] = await within(Promise.all([client.qp.closed, server.qp.closed]));
    assertEquals([ours?.code, ours?.terminate], ["PeerTerminated", terminate]);
    assertEquals([theirs?.code, theirs?.terminate], ["PeerViolation", terminate]);
    assertEquals(completions.map((done) => done.status), posted === undefined ? [] : ["flushed"]);
    assert(inbox.region.bytes.every((byte) => byte === 0));
    inbox.check();
  });
}

Deno.test("queue pair: work on memory that has gone is told by its own completion", async () => {
  const cases = ["send", "write", "read", "receive"] as const;
  for (const kind of cases) {
    for (const size of [16, 100_000]) {
      await using pair = await connectPair();
      const { client, server } = pair;
      const gone = client.pd.allocate(size);
      const good = client.pd.allocate(size);
      const target = server.pd.allocate(size, Access.RemoteRead | Access.RemoteWrite);
      const done: string[] = [];
      const note = (name: string) => (completion: WorkCompletion) => done.push(`${name} ${completion.status}`);
      if (kind === "receive") {
        client.qp.postRecv(whole(gone), note("bad"));
        client.qp.postRecv(whole(good), note("later"));
        gone.deregister();
        await server.qp.send(whole(target));
      } else {
        server.qp.postRecv(whole(server.pd.allocate(size)), () => {});
        const remote = { stag: target.stag, address: target.address };
        client.qp.postSend({ opcode: "read", local: whole(good), remote }, note("first"));
        client.qp.postSend({ opcode: kind, local: whole(gone), remote }, note("bad"));
        client.qp.postSend({ opcode: "send", local: whole(good) }, note("later"));
        gone.deregister(); // before the batch leaves
      }
      const [ours, theirs] = await within(Promise.all([client.qp.closed, server.qp.closed]));
      const about = `${kind} ${size}: ${done}`;
      assertEquals(ours?.code, "LocalProtection", about);
      const told = [client.device.counters().terminatesSent, server.device.counters().terminatesReceived];
      assertEquals(told[0], told[1], about);
      assertEquals(done.slice(-2), ["bad LocalProtection", "later flushed"], about);
      if (kind !== "receive") assert(/^first (success|flushed)$/.test(done[0]), about);
      // where the failing message has begun to leave, no Terminate can follow
      assert(theirs?.code === "PeerTerminated" || theirs?.code === "Reset", `${about}: ${theirs}`);
    }
  }
});

Deno.test("queue pair: whatever is outstanding is flushed, in the order of posting", async () => {
  for (const end of ["abort", "peer aborts", "peer closes"] as const) {
    await using pair = await connectPair({ client: { outboundReadDepth: 1 } });
    const { client, server } = pair;
    const memory = client.pd.allocate(1 << 20);
    const target = server.pd.allocate(1 << 20, Access.RemoteRead);
    const sends: [number, string][] = [];
    const receives: [number, string][] = [];
    for (let i = 0; i < 200; i++) client.qp.postRecv(whole(memory), (done) => receives.push([i, done.status]));
    // the Reads hold up what is behind them
    for (let i = 0; i < 200; i++) {
      client.qp.postSend(
        { opcode: "read", local: whole(memory), remote: target },
        (done) => sends.push([i, done.status]),
      );
    }
    await Promise.resolve();
    if (end === "abort") client.qp.abort();
    if (end === "peer aborts") server.qp.abort();
    if (end === "peer closes") void server.qp.close();
    // too late for the connection, but posted after the others
    if (!client.qp.isClosed) client.qp.postRecv([], (done) => receives.push([200, done.status]));
    const error = await within(client.qp.closed);
    if (end === "abort") assertEquals(error, undefined);
    if (end === "peer aborts") assertEquals(error?.code, "Reset");
    assertEquals(sends.map(([i]) => i), Array.from({ length: 200 }, (_, i) => i), end);
    assertEquals(receives.map(([i]) => i), Array.from({ length: receives.length }, (_, i) => i), end);
    assertEquals(receives.length, end === "abort" ? 200 : 201);
    assert(receives.every(([, status]) => status === "flushed"), end);
    const firstFlushed = sends.findIndex(([, status]) => status === "flushed");
    assert(sends.every(([, status], i) => status === (firstFlushed < 0 || i < firstFlushed ? "success" : "flushed")));
    assertThrows(() => client.qp.postRecv([], () => {}), RdmaError, "closed");
  }
});

Deno.test("queue pair: misuse is refused before anything happens", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const region = client.pd.allocate(100);
  const target = server.pd.allocate(100, Access.RemoteWrite | Access.RemoteRead);
  const post = (...local: Sge[]) => client.qp.postSend({ opcode: "write", local, remote: target });
  for (const [offset, length] of [[0, 101], [100, 1], [-1, 1], [0, -1], [NaN, 1], [0, NaN], [0.5, 1], [0, 1.5]]) {
    assertThrows(() => post({ region, offset, length }), RangeError);
    assertThrows(() => client.qp.postRecv([{ region, offset, length }], () => {}), RangeError);
  }
  const sge = { region, offset: 0, length: 1 };
  assertThrows(() => post(...new Array(1025).fill(sge)), RangeError);
  assertThrows(
    () => client.qp.postSend({ opcode: "read", local: [sge, sge], remote: target }),
    RangeError,
    "one sink",
  );
  const gone = client.pd.allocate(100);
  gone.deregister();
  assertThrows(() => post({ ...sge, region: gone }), TypeError, "deregistered");
  const other = client.device.allocateProtectionDomain().allocate(100);
  assertThrows(() => post({ ...sge, region: other }), TypeError, "another protection domain");
  assertThrows(() => client.qp.postRecv([{ ...sge, region: other }], () => {}), TypeError, "another protection domain");
  assertThrows(() => client.qp.postRecv([{ ...sge, region: gone }], () => {}), TypeError);
  // nothing of all that is left over
  await client.qp.write([sge], target);
  await client.qp.read([sge], target);
  client.qp.abort();
  await client.qp.closed;
  assertThrows(() => post(sge), RdmaError, "closed");
  await assertRejects(() => client.qp.write([sge], target), RdmaError, "closed");
});

Deno.test("queue pair: as much work as its limit may be posted, and no more", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  let flushed = 0;
  for (let i = 0; i < 16 * 1024; i++) client.qp.postRecv([], () => flushed++);
  const error = assertThrows(() => client.qp.postRecv([], () => {}), RdmaError);
  assertEquals(error.code, "Exhausted");
  await server.qp.send([]);
  await until(() => flushed === 1);
  client.qp.postRecv([], () => flushed++);
  client.qp.abort();
  await client.qp.closed;
  assertEquals(flushed, 16 * 1024 + 1);
});

Deno.test("queue pair: work without a callback is taken back as it is done", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = client.pd.allocate(8);
  const target = server.pd.allocate(8, Access.RemoteWrite);
  // many times the limit of what may be outstanding
  for (let round = 0; round < 400; round++) {
    for (let i = 0; i < 100; i++) client.qp.postSend({ opcode: "write", local: whole(source), remote: target });
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await client.qp.write([], target);
});

Deno.test("queue pair: a callback that throws does not hold up the others", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const errors: unknown[] = [];
  const listen = (event: ErrorEvent) => {
    event.preventDefault();
    errors.push(event.error);
  };
  globalThis.addEventListener("error", listen);
  try {
    const target = server.pd.allocate(8, Access.RemoteWrite);
    client.qp.postSend({ opcode: "write", local: [], remote: target }, () => {
      throw new Error("from a callback");
    });
    await within(client.qp.write([], target));
  } finally {
    globalThis.removeEventListener("error", listen);
  }
  assertEquals(errors.map(String), ["Error: from a callback"]);
});

Deno.test("queue pair: work posted by a callback, and polling by a callback", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const target = server.pd.allocate(8, Access.RemoteWrite);
  const done: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const next = (depth: number) => (completion: WorkCompletion) => {
    assertEquals(completion.status, "success");
    done.push(depth);
    client.device.progress(); // takes the rest of the batch, once
    if (depth < 50) client.qp.postSend({ opcode: "write", local: [], remote: target }, next(depth + 1));
    else resolve();
  };
  for (let i = 0; i < 20; i++) client.qp.postSend({ opcode: "write", local: [], remote: target }, next(0));
  await within(promise);
  await until(() => done.length === 20 * 51);
  for (let depth = 0; depth <= 50; depth++) assertEquals(done.filter((d) => d === depth).length, 20);
});

Deno.test("queue pair: work that is refused leaves nothing behind: what is posted next is what leaves", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const target = server.pd.allocate(64, Access.RemoteWrite | Access.RemoteAtomic);
  const array = new Uint8Array(24).fill(9);
  const source = client.pd.register(array);
  array.buffer.transfer();
  const { qp } = client;
  const done: string[] = [];
  const posts: (() => void)[] = [
    () =>
      qp.postSend({ opcode: "write", local: whole(source), remote: target, inline: true }, () => done.push("write")),
    // what a type check would find, and a program may run without
    () => qp.postSend({ opcode: "swap", swap: 5 as unknown as bigint, remote: target }, () => done.push("swap")),
    () =>
      qp.postSend({ opcode: "swap", swap: 5n, mask: 5 as unknown as bigint, remote: target }, () => done.push("mask")),
    () =>
      qp.postSend(
        { opcode: "write", local: [], remote: { stag: 1, address: "x" as unknown as bigint } },
        () => done.push("address"),
      ),
  ];
  const received = server.qp.recv([]);
  posts.forEach((post) => assertThrows(post, TypeError));
  await within(qp.sendImmediate(77n));
  assertEquals((await within(received)).immediate, 77n);
  assertEquals(done, []);
  assertEquals(target.bytes, new Uint8Array(64));
});

Deno.test("queue pair: a silent peer is nudged without a completion that nobody posted, nor an error where the queue is full", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const queue = client.device.createCompletionQueue();
  const there = { hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd };
  const target = server.pd.allocate(1 << 20, Access.RemoteWrite);
  const source = client.pd.allocate(1 << 20);
  const qp = await client.device.connect({ ...there, sendQueue: queue });
  qp.postSend({ opcode: "write", local: whole(source), remote: target, id: "mine" });
  await until(() => qp.counters().writes === 4);
  assertEquals(queue.poll().map(({ id }) => id), ["mine"]);
  // more than the queue takes, for as long as until the first nudge
  const busy = await client.device.connect(there);
  const full = () => {
    for (;;) busy.postSend({ opcode: "write", local: whole(source), remote: target }, () => {});
  };
  for (const end = performance.now() + 80; performance.now() < end;) {
    assertEquals(assertThrows(full, RdmaError).code, "Exhausted");
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  busy.abort();
  await within(busy.closed);
});
