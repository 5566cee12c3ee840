import { assert, assertEquals } from "@std/assert";
import { connectPair, until, whole } from "./_testing/pair.ts";
import { Access, CONNECTION_COUNTERS, type ConnectionCounters } from "./mod.ts";

function some(counters: ConnectionCounters, names: (keyof ConnectionCounters)[]): number[] {
  return names.map((name) => counters[name]);
}

Deno.test("counters: a queue pair counts everything that it does, and its device the sums", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const target = server.pd.allocate(4096, Access.RemoteRead | Access.RemoteWrite | Access.RemoteAtomic);
  const memory = client.pd.allocate(4096);
  for (let i = 0; i < 3; i++) server.qp.postRecv([], () => {});
  // a client that has not heard from its peer yet may nudge it by Writes of its own
  const heard = client.qp.recv([]);
  await server.qp.send([]);
  await heard;
  for (let i = 0; i < 5; i++) await client.qp.write(whole(memory), target);
  for (let i = 0; i < 4; i++) await client.qp.read(whole(memory), target);
  for (let i = 0; i < 3; i++) await client.qp.fetchAdd(target, 1n);
  for (let i = 0; i < 2; i++) await client.qp.send([]);
  await client.qp.sendImmediate(7n);
  const window = client.pd.allocateWindow();
  await new Promise((done) =>
    client.qp.postSend({ opcode: "bind", window, region: memory, offset: 0, length: 8, access: Access.LocalOnly }, done)
  );
  await client.qp.read([], target); // behind all of it
  const [ours, theirs] = [client.qp.counters(), server.qp.counters()];
  const active = ["writes", "reads", "atomics", "sends", "immediates", "memoryOperations", "receives"] as const;
  assertEquals(some(ours, [...active]), [5, 5, 3, 2, 1, 1, 1]);
  assertEquals(some(theirs, [...active]), [0, 0, 0, 1, 0, 0, 3]);
  const passive = ["readsServed", "atomicsServed"] as const;
  assertEquals(some(theirs, [...passive]), [5, 3]);
  // the message that says that the initiator is ready is a Write, too
  assertEquals(some(theirs, ["writesReceived", "fpdusReceived"]), [6, 6 + 5 + 3 + 3]);
  assertEquals([ours.fpdusSent, ours.fpdusReceived], [theirs.fpdusReceived, theirs.fpdusSent]);
  // the frames of the start-up are none of the queue pair's
  assertEquals([ours.wireBytesSent, ours.wireBytesReceived], [theirs.wireBytesReceived, theirs.wireBytesSent]);
  assert(ours.wireBytesSent > 5 * 4096 && ours.wireBytesReceived > 4 * 4096);

  const device = client.device.counters();
  for (const name of CONNECTION_COUNTERS.filter((name) => !name.startsWith("fpdus"))) {
    assertEquals(device[name], ours[name], `${name} of the device, which has one queue pair`);
  }
});

Deno.test("counters: markers are bytes of the wire, in both directions", async () => {
  await using pair = await connectPair({ client: { markers: true }, server: { markers: true } });
  const { client, server } = pair;
  const target = server.pd.allocate(64 * 1024, Access.RemoteRead | Access.RemoteWrite);
  const memory = client.pd.allocate(64 * 1024);
  await client.qp.write(whole(memory), target);
  await client.qp.read(whole(memory), target);
  const [ours, theirs] = [client.qp.counters(), server.qp.counters()];
  assertEquals([ours.wireBytesSent, ours.wireBytesReceived], [theirs.wireBytesReceived, theirs.wireBytesSent]);
});

Deno.test("counters: they outlive the queue pair, flushes included, and the device keeps the sum", async () => {
  await using pair = await connectPair();
  const { client } = pair;
  let sum = client.qp.counters().writes;
  for (let i = 1; i <= 3; i++) {
    const { port } = pair.listener;
    const qp = await client.device.connect({ hostname: "127.0.0.1", port, pd: client.pd });
    for (let n = 0; n < i; n++) await qp.write([], { stag: 0, address: 0n });
    for (let n = 0; n < 10; n++) qp.postRecv([], () => {});
    qp.abort();
    await qp.closed;
    assertEquals(some(qp.counters(), ["writes", "flushed"]), [i, 10]);
    sum += i;
    assertEquals(client.device.counters().writes, sum);
  }
  assertEquals(client.device.counters().flushed, 30);
  await until(() => client.device.counters().liveConnections === 1);
});
