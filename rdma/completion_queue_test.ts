import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Access, type ConnectionRequest, Device, type QueuePair, RdmaError } from "./mod.ts";

async function pair(device: Device, depth?: number) {
  const pd = device.allocateProtectionDomain();
  const queue = device.createCompletionQueue({ depth });
  const accepted = Promise.withResolvers<QueuePair>();
  const onRequest = (request: ConnectionRequest) =>
    void request.accept({ pd, receiveQueue: queue, sendQueue: queue }).then(accepted.resolve);
  const listener = device.listen({ port: 0, onRequest });
  const client = await device.connect({ hostname: "127.0.0.1", port: listener.port, pd, sendQueue: queue });
  const server = await accepted.promise;
  await listener.close();
  return { pd, queue, client, server };
}

Deno.test("a queue collects completions of several queue pairs, with their ids", async () => {
  await using device = Device.open();
  const { pd, queue, client, server } = await pair(device);
  const memory = pd.allocate(8192, Access.RemoteWrite);
  server.postRecv([{ region: memory, offset: 0, length: 64 }], { id: "receive" });
  const local = [{ region: memory, offset: 4096, length: 64 }];
  client.postSend({ opcode: "write", local, remote: { stag: memory.stag, address: memory.address }, id: 1 });
  client.postSend({ opcode: "write", local, remote: memory, id: "silent", signalled: false });
  client.postSend({ opcode: "send", local, id: { any: "thing" } });
  const seen = [];
  while (seen.length < 3) {
    await queue.wait();
    seen.push(...queue.poll(1));
  }
  assertEquals(seen.filter((c) => c.queuePair === client).map((c) => [c.id, c.opcode, c.status]), [
    [1, "write", "success"],
    [{ any: "thing" }, "send", "success"],
  ]);
  const [received] = seen.filter((c) => c.queuePair === server);
  assertEquals([received.id, received.opcode, received.byteLength], ["receive", "receive", 64]);
  assertEquals(queue.poll(), []);
});

Deno.test("unsignalled work is reported when it is flushed", async () => {
  await using device = Device.open();
  const { pd, queue, client, server } = await pair(device);
  const memory = pd.allocate(4096);
  client.postSend({
    opcode: "read",
    local: [{ region: memory, offset: 0, length: 64 }],
    remote: { stag: 1, address: 0n },
    id: 9,
    signalled: false,
  });
  await client.closed;
  await server.closed;
  assert(queue.poll().some((c) => c.id === 9 && c.status !== "success"));
});

Deno.test("an overflow is reported, not silent", async () => {
  await using device = Device.open();
  const { pd, queue, client } = await pair(device, 2);
  const region = pd.allocate(4096);
  for (let i = 0; i < 3; i++) {
    client.postSend({ opcode: "write", local: [{ region, offset: 0, length: 0 }], remote: { stag: 0, address: 0n } });
  }
  await client.write([], { stag: 0, address: 0n });
  const error = assertThrows(() => queue.poll(), RdmaError);
  assertEquals(error.code, "Exhausted");
  assertThrows(() => client.postRecv([], { id: 1 }), TypeError);
});

Deno.test("a wait can be aborted", async () => {
  await using device = Device.open();
  const queue = device.createCompletionQueue();
  await assertRejects(() => queue.wait({ signal: AbortSignal.timeout(20) }), DOMException);
  assertEquals(queue.poll(), []);
});

Deno.test("waiting for a queue ends with its device, and not before", async () => {
  const device = Device.open();
  const queue = device.createCompletionQueue();
  const waits = [queue.wait(), queue.wait()];
  const aborted = new AbortController();
  const given = queue.wait({ signal: aborted.signal });
  aborted.abort();
  await assertRejects(() => given, DOMException);
  const rejected = Promise.all(waits.map((wait) => assertRejects(() => wait, RdmaError, "closed")));
  await device.close();
  await rejected;
  assertEquals((await assertRejects(() => queue.wait(), RdmaError)).code, "Closed");
});
