import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fill, same, until, whole, within } from "./_testing/pair.ts";
import { Access, Device, type QueuePair, RdmaError, type SharedReceiveQueue, type StartupOptions } from "./mod.ts";

/** A server whose connections share a queue, and some clients. */
async function scene(
  options: { clients: number; depth?: number; limit?: number; onLimit?: (left: number) => void },
) {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const queue = device.createSharedReceiveQueue({ pd, ...options });
  const servers: QueuePair[] = [];
  const listener = device.listen({
    port: 0,
    onRequest: (request) => void request.accept({ pd, receives: queue }).then((qp) => servers.push(qp)),
  });
  const peer = Device.open();
  const peerPd = peer.allocateProtectionDomain();
  const clients: QueuePair[] = [];
  for (let i = 0; i < options.clients; i++) {
    clients.push(await peer.connect({ hostname: "127.0.0.1", port: listener.port, pd: peerPd }));
    await until(() => servers.length === i + 1);
  }
  return {
    device,
    pd,
    queue,
    servers,
    clients,
    peerPd,
    async [Symbol.asyncDispose]() {
      await peer.close();
      await device.close();
    },
  };
}

Deno.test("shared receive queue: Sends of several queue pairs take the next receive, large and small", async () => {
  await using at = await scene({ clients: 3 });
  const rounds = 30;
  const inbox = at.pd.allocate(rounds * 3 * 32_768);
  const seen: { which: number; length: number }[] = [];
  for (let i = 0; i < rounds * 3; i++) {
    const local = [{ region: inbox, offset: i * 32_768, length: 32_768 }];
    at.queue.postRecv(local, ({ status, byteLength }, queuePair) => {
      assertEquals(status, "success");
      const which = inbox.bytes[i * 32_768];
      assert(queuePair === at.servers[which], "the completion names the queue pair that the Send came on");
      const expected = fill(new Uint8Array(byteLength), which * 1000 + byteLength);
      expected[0] = which;
      assert(same(inbox.bytes.subarray(i * 32_768, i * 32_768 + byteLength), expected));
      seen.push({ which, length: byteLength });
    });
  }
  assertEquals(at.queue.length, rounds * 3);
  const sent: number[][] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    at.clients.forEach((client, which) => {
      const length = 1 + (round * 7919 + which * 104_729) % 32_767;
      const region = at.peerPd.register(fill(new Uint8Array(length), which * 1000 + length));
      region.bytes[0] = which;
      client.postSend({ opcode: "send", local: whole(region) });
      sent[which].push(length);
    });
  }
  await until(() => seen.length === rounds * 3, 20_000);
  for (let which = 0; which < 3; which++) {
    assertEquals(seen.filter((one) => one.which === which).map((one) => one.length), sent[which], "in order");
  }
  assertEquals([at.queue.length, at.device.counters().bytesStagedLarge], [0, 0]);
});

Deno.test("shared receive queue: the limit is told once, when fewer receives are left, and again when armed", async () => {
  const told: number[] = [];
  await using at = await scene({ clients: 1, limit: 0, onLimit: (left) => told.push(left) });
  const [client] = at.clients;
  const message = whole(at.peerPd.allocate(8));
  const inbox = whole(at.pd.allocate(8));
  let received = 0;
  for (let i = 0; i < 10; i++) at.queue.postRecv(inbox, () => received++);
  at.queue.arm(8);
  const send = async (count: number) => {
    const before = received;
    for (let i = 0; i < count; i++) await client.send(message);
    await until(() => received === before + count);
  };
  await send(2);
  assertEquals(told, []);
  await send(1);
  assertEquals(told, [7]);
  await send(3);
  assertEquals(told, [7]);
  at.queue.arm(4); // 4 are left
  await send(1);
  assertEquals(told, [7, 3]);
  at.queue.arm(8); // is so already
  await until(() => told.length === 3);
  assertEquals(told, [7, 3, 3]);
});

Deno.test("shared receive queue: a Send that finds no receive ends its connection alone", async () => {
  await using at = await scene({ clients: 2 });
  const [first, second] = at.clients;
  const message = whole(at.peerPd.allocate(8));
  await first.send(message);
  const [theirs, ours] = await within(Promise.all([first.closed, at.servers[0].closed]));
  assertEquals(theirs?.terminate, { layer: 1, etype: 2, code: 2 });
  assertEquals(ours?.code, "PeerViolation");
  const [{ completion, queuePair }] = await Promise.all([
    at.queue.recv(whole(at.pd.allocate(8))),
    second.send(message),
  ]);
  assertEquals([completion.byteLength, queuePair === at.servers[1]], [8, true]);
});

Deno.test("shared receive queue: a receive that a connection had taken is flushed with it, the others stay", async () => {
  await using at = await scene({ clients: 2 });
  const [first, second] = at.clients;
  const results: [string, number][] = [];
  for (let i = 0; i < 2; i++) {
    at.queue.postRecv(whole(at.pd.allocate(1 << 20)), (done, qp) => {
      results.push([done.status, qp === undefined ? -1 : at.servers.indexOf(qp)]);
    });
  }
  // a Send longer than its receive: the receive was taken for it
  const long = whole(at.peerPd.allocate((1 << 20) + 1));
  await assertRejects(() => Promise.all([first.send(long), first.closed.then((error) => Promise.reject(error))]));
  await until(() => results.length === 1);
  assertEquals(results, [["flushed", 0]]);
  assertEquals(at.queue.length, 1);
  await second.send(whole(at.peerPd.allocate(5)));
  await until(() => results.length === 2);
  assertEquals(results[1], ["success", 1]);
});

Deno.test("shared receive queue: takes receives whatever ready-to-receive message a connection begins with", async () => {
  for (const readyToReceive of [undefined, "send", "write", "read"] as const) {
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const queue = device.createSharedReceiveQueue({ pd });
    await using listener = device.listen({
      port: 0,
      onRequest: (request) => void request.accept({ pd, receives: queue }),
    });
    const received: number[] = [];
    for (let i = 0; i < 3; i++) queue.postRecv(whole(pd.allocate(64)), (done) => received.push(done.byteLength));
    const client = await device.connect({ hostname: "127.0.0.1", port: listener.port, pd, readyToReceive });
    const region = pd.allocate(64);
    // an empty one as well is a message of the application's
    for (const length of [5, 0, 7]) await client.send([{ region, offset: 0, length }]);
    await until(() => received.length === 3);
    assertEquals([received, queue.length], [[5, 0, 7], 0], readyToReceive);
  }
});

Deno.test("shared receive queue: its depth, domain and end are held to", async () => {
  await using at = await scene({ clients: 1, depth: 2 });
  const { queue, device, pd } = at;
  const region = pd.allocate(8);
  const flushed: string[] = [];
  queue.postRecv(whole(region), (done, qp) => flushed.push(`${done.status} ${qp}`));
  queue.postRecv(whole(region), (done, qp) => flushed.push(`${done.status} ${qp}`));
  assertEquals(assertThrows(() => queue.postRecv([], () => {}), RdmaError).code, "Exhausted");
  assertThrows(() => at.servers[0].postRecv([], () => {}), TypeError, "shared queue");
  assertThrows(() => queue.close(), TypeError, "1 queue pairs");
  assertThrows(() => queue.arm(3), RangeError);
  const other = device.allocateProtectionDomain();
  const foreign = other.allocate(8);
  queue.arm(0);
  assertThrows(() => device.createSharedReceiveQueue({ pd, depth: 0 }), RangeError);
  assertThrows(() => device.createSharedReceiveQueue({ pd: at.peerPd }), TypeError);
  const elsewhere: SharedReceiveQueue = device.createSharedReceiveQueue({ pd: other });
  const settings: StartupOptions & { receives: SharedReceiveQueue } = { pd, receives: elsewhere };
  await assertRejects(() => device.connect({ hostname: "127.0.0.1", port: 1, ...settings }), TypeError);
  assertThrows(() => elsewhere.postRecv(whole(region), () => {}), TypeError, "another protection domain");
  assertThrows(() => elsewhere.postRecv(whole(foreign), { id: 1 }), TypeError, "no completion queue");
  elsewhere.postRecv(whole(foreign), (done) => flushed.push(done.status));
  elsewhere.close();
  elsewhere.close();
  assertEquals(flushed, ["flushed"]);
  assertThrows(() => elsewhere.postRecv([], () => {}), RdmaError);
  await at.clients[0].close();
  await at.servers[0].closed;
  queue.close();
  assertEquals(flushed, ["flushed", "flushed undefined", "flushed undefined"]);
});

Deno.test("shared receive queue: completions go to a completion queue, and immediate data takes a receive", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const receiveQueue = device.createCompletionQueue();
  const queue = device.createSharedReceiveQueue({ pd, receiveQueue });
  const region = pd.allocate(64, Access.RemoteWrite);
  queue.postRecv(whole(region), { id: "a" });
  queue.postRecv(whole(region), { id: "b" });
  await using listener = device.listen({
    port: 0,
    onRequest: (request) => void request.accept({ pd, receives: queue }),
  });
  const client = await device.connect({ hostname: "127.0.0.1", port: listener.port, pd });
  await client.send([{ region, offset: 0, length: 3 }]);
  await client.sendImmediate(42n);
  const got: unknown[] = [];
  while (got.length < 2) {
    await receiveQueue.wait();
    for (const { id, byteLength, immediate } of receiveQueue.poll()) got.push([id, byteLength, immediate]);
  }
  assertEquals(got, [["a", 3, undefined], ["b", 0, 42n]]);
});

Deno.test("a queue that is disposed of flushes what no Send is coming into; that one completes with its Send", async () => {
  const bytes = 64 << 20;
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const queue = device.createSharedReceiveQueue({ pd });
  const into = pd.allocate(bytes);
  const done: string[] = [];
  const note = (name: string) => ({ status, byteLength }: { status: string; byteLength: number }) =>
    void done.push(`${name} ${status} ${byteLength}`);
  queue.postRecv(whole(into), note("first"));
  queue.postRecv(whole(pd.allocate(64)), note("second"));
  queue.postRecv(whole(pd.allocate(64)), note("third"));
  const accepted = Promise.withResolvers<QueuePair>();
  const listener = device.listen({
    port: 0,
    onRequest: (request) => void request.accept({ pd, receives: queue }).then(accepted.resolve),
  });
  await using peer = Device.open();
  const peerPd = peer.allocateProtectionDomain();
  const source = peerPd.allocate(bytes);
  source.bytes.fill(7);
  const qp = await peer.connect({ hostname: "127.0.0.1", port: listener.port, pd: peerPd });
  const sent = qp.send(whole(source));
  await until(() => into.bytes[0] === 7);
  queue[Symbol.dispose]();
  assertEquals(done.filter((one) => !one.startsWith("first")), ["second flushed 0", "third flushed 0"]);
  await within(sent, 20_000);
  await until(() => done.length === 3, 20_000);
  assert(done.includes(`first success ${bytes}`));
  assertEquals([into.bytes[bytes - 1], (await accepted.promise).state, queue.length], [7, "rts", 0]);
});

Deno.test("shared receive queue: a limit that cannot be leaves no queue behind", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  for (const limit of [NaN, -1, 1.5, 17, Infinity]) {
    const message = `limit ${limit}`;
    assertThrows(() => device.createSharedReceiveQueue({ pd, depth: 16, limit }), RangeError, "the limit", message);
  }
  // each of them would have taken a number
  const tag = device.reserve();
  device.unreserve(tag);
  assertEquals(tag, 1);
});

Deno.test("shared receive queue: the limit that it is made with leaves time for the first receives", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const told: number[] = [];
  const receives = device.createSharedReceiveQueue({ pd, depth: 8, limit: 3, onLimit: (left) => told.push(left) });
  for (let i = 0; i < 4; i++) receives.postRecv([], () => {});
  const { port } = device.listen({ port: 0, onRequest: (request) => void request.accept({ pd, receives }) });
  const client = await device.connect({ hostname: "127.0.0.1", port, pd });
  await client.send([]);
  await until(() => receives.length === 3);
  assertEquals(told, []);
  await client.send([]);
  await until(() => told.length > 0);
  await client.send([]);
  await until(() => receives.length === 1);
  assertEquals(told, [2]);
  // where there are none, that is what is told
  device.createSharedReceiveQueue({ pd, limit: 1, onLimit: (left) => told.push(left) });
  await until(() => told.length === 2);
  assertEquals(told, [2, 0]);
});
