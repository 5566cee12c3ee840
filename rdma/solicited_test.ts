import { assert, assertEquals } from "@std/assert";
import { connectPair, type Pair, type PairOptions, since, until, whole } from "./_testing/pair.ts";
import { Access, type QueuePair, type WorkCompletion } from "./mod.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The server's completions, without anything that would wake its device but the engine. */
async function scene(options: PairOptions & { receives?: number }): Promise<{ pair: Pair; got: WorkCompletion[] }> {
  const got: WorkCompletion[] = [];
  const pair = await connectPair({
    ...options,
    onServer: ({ pd, qp }) => {
      const inbox = whole(pd.allocate(64));
      for (let i = 0; i < (options.receives ?? 16); i++) qp.postRecv(inbox, (done) => got.push(done));
    },
  });
  await sleep(20); // the server's JavaScript polls for a while after its last work
  return { pair, got };
}

async function sends(qp: QueuePair, pair: Pair, count: number): Promise<void> {
  const message = whole(pair.client.pd.allocate(8));
  for (let i = 0; i < count; i++) await qp.send(message);
  await sleep(30);
}

Deno.test("solicited only: plain Sends do not wake JavaScript, a solicited one brings all of them", async () => {
  const { pair, got } = await scene({ server: { solicitedOnly: true } });
  await using _ = pair;
  const { client, server } = pair;
  const before = server.device.counters();
  await sends(client.qp, pair, 3);
  assertEquals(since(server.device, before).wakeups, 0);
  assertEquals(got.length, 0);
  await client.qp.send(whole(client.pd.allocate(5)), { solicited: true });
  await until(() => got.length === 4);
  assertEquals(got.map(({ byteLength }) => byteLength), [8, 8, 8, 5]);
  await sleep(20);
  await sends(client.qp, pair, 1);
  assertEquals(got.length, 4);
  await client.qp.sendImmediate(7n);
  await sleep(30);
  assertEquals(got.length, 4);
  await client.qp.sendImmediate(8n, { solicited: true });
  await until(() => got.length === 7);
  assertEquals(got.slice(5).map(({ immediate }) => immediate), [7n, 8n]);
});

Deno.test("solicited only: a Send with Invalidate wakes where it is solicited, too", async () => {
  const { pair, got } = await scene({ server: { solicitedOnly: true } });
  await using _ = pair;
  const { client, server } = pair;
  const region = server.pd.allocate(4096);
  const [plain, solicited] = [0, 1].map(() => region.bind({ access: Access.RemoteWrite }));
  await client.qp.send([], { invalidate: plain.stag });
  await sleep(30);
  assertEquals(got.length, 0);
  await client.qp.send([], { invalidate: solicited.stag, solicited: true });
  await until(() => got.length === 2);
  assertEquals(got.map(({ invalidatedStag }) => invalidatedStag), [plain.stag, solicited.stag]);
});

Deno.test("solicited only: asking for progress, an error and the end bring what is there", async () => {
  {
    const { pair, got } = await scene({ server: { solicitedOnly: true } });
    await using _ = pair;
    await sends(pair.client.qp, pair, 2);
    assertEquals(got.length, 0);
    pair.server.device.progress();
    assertEquals(got.length, 2);
  }
  for (const how of ["close", "no receive left"] as const) {
    const { pair, got } = await scene({ server: { solicitedOnly: true }, receives: 2 });
    await using _ = pair;
    await sends(pair.client.qp, pair, 2);
    assertEquals(got.length, 0, how);
    if (how === "close") void pair.client.qp.close();
    else await pair.client.qp.send([]);
    const error = await pair.server.qp.closed;
    assertEquals([error?.code, got.length], [how === "close" ? undefined : "PeerViolation", 2]);
  }
});

Deno.test("solicited only: without it, and for completions of the send queue, every completion wakes", async () => {
  const { pair, got } = await scene({});
  await using _ = pair;
  await sends(pair.client.qp, pair, 2);
  assertEquals(got.length, 2);
  const quiet = await scene({ client: { solicitedOnly: true } });
  await using __ = quiet.pair;
  // the promise of a Send resolves, nothing else wakes this device
  await quiet.pair.client.qp.send(whole(quiet.pair.client.pd.allocate(8)));
});

Deno.test("solicited only: asked for by the completion queue; many completions wake all the same", async () => {
  const pair = await connectPair();
  await using _ = pair;
  const { device, pd } = pair.server;
  const receiveQueue = device.createCompletionQueue({ depth: 8192, solicitedOnly: true });
  const listener = device.listen({
    port: 0,
    onRequest: (request) =>
      void request.accept({
        pd,
        receiveQueue,
        onReady: (qp) => {
          const inbox = whole(pd.allocate(8));
          for (let i = 0; i < 4000; i++) qp.postRecv(inbox, { id: i });
        },
      }),
  });
  const { client } = pair;
  const qp = await client.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: client.pd });
  await sleep(20);
  const message = whole(client.pd.allocate(8));
  const before = device.counters();
  for (let i = 0; i < 100; i++) qp.postSend({ opcode: "send", local: message });
  await sleep(50);
  assertEquals(since(device, before).wakeups, 0);
  for (let i = 0; i < 2500; i++) qp.postSend({ opcode: "send", local: message });
  await until(() => since(device, before).wakeups > 0);
  let count = 0;
  while (count < 2049) {
    await receiveQueue.wait();
    count += receiveQueue.poll().length;
  }
  assert(count > 2048);
});
