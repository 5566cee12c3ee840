import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, type End, until, whole, within } from "./_testing/pair.ts";
import { type AsyncEvent, type AsyncEvents, type QueuePair, RdmaError } from "./mod.ts";

/** What comes next. */
async function next(events: AsyncEvents): Promise<AsyncEvent> {
  const { value } = await within(events.next());
  return value!;
}

/** Throws unless the next event has this name and is about exactly this object. */
async function expectNext(events: AsyncEvents, type: AsyncEvent["type"], about: object): Promise<AsyncEvent> {
  const event = await next(events);
  assertEquals(event.type, type);
  const { queuePair, sharedReceiveQueue, completionQueue, listener } = event;
  assert([queuePair, sharedReceiveQueue, completionQueue, listener].includes(about as never), "about something else");
  return event;
}

Deno.test("events: communication established, once, when the initiator's first message is there", async () => {
  let events: AsyncEvents | undefined;
  const states: string[] = [];
  await using pair = await connectPair({
    client: { peerToPeer: false },
    onServer: ({ device, qp }) => {
      events = device.events();
      states.push(qp.state);
    },
  });
  const { client, server } = pair;
  assertEquals([...states, server.qp.state, client.qp.state], ["rtr", "rtr", "rts"]);
  // what is posted in this state waits, and leaves when that message has come
  const sink = client.qp.recv([]);
  const sent = server.qp.send([]);
  await client.qp.write([], { stag: 0, address: 0n });
  await expectNext(events!, "communicationEstablished", server.qp);
  assertEquals(server.qp.state, "rts");
  await within(Promise.all([sink, sent]));
  await client.qp.write([], { stag: 0, address: 0n });
  await client.qp.close();
  await expectNext(events!, "sendQueueDrained", server.qp);
});

Deno.test("states: an orderly end drains, a failure and an abort are errors, and none of them takes work", async () => {
  for (const [how, ours, theirs] of [["close", "reset", "reset"], ["abort", "err", "err"]] as const) {
    await using pair = await connectPair();
    const { client, server } = pair;
    const during = client.qp[how]();
    const state = how === "close" ? "sqd" : "err";
    assertEquals(client.qp.state, state);
    for (
      const post of [() => client.qp.postRecv([], () => {}), () => client.qp.postSend({ opcode: "send", local: [] })]
    ) {
      const error = assertThrows(post, RdmaError, `in the state "${state}"`);
      assertEquals(error.code, "Closed");
    }
    await during;
    await within(Promise.all([client.qp.closed, server.qp.closed]));
    assertEquals([client.qp.state, server.qp.state], [ours, theirs]);
    assertThrows(() => server.qp.postRecv([], () => {}), RdmaError, `in the state "${theirs}"`);
  }
});

Deno.test("events: how queue pairs end, on both sides", async () => {
  const offences: [string, (client: End) => void, AsyncEvent["type"], AsyncEvent["type"]][] = [
    ["orderly", ({ qp }) => void qp.close(), "sendQueueDrained", "sendQueueDrained"],
    ["aborted", ({ qp }) => qp.abort(), "queuePairFatal", "queuePairFatal"],
    [
      "memory that is not theirs",
      ({ qp, pd }) => {
        qp.postSend({ opcode: "write", local: whole(pd.allocate(8)), remote: { stag: 1, address: 0n } });
      },
      "queuePairFatal",
      "accessError",
    ],
    ["no receive", ({ qp }) => qp.postSend({ opcode: "send", local: [] }), "queuePairFatal", "requestError"],
    [
      "memory of its own that has gone",
      ({ qp, pd }) => {
        const region = pd.allocate(8);
        qp.postSend({ opcode: "send", local: whole(region) });
        region.deregister();
      },
      "queuePairFatal",
      "queuePairFatal",
    ],
  ];
  for (const [name, offend, ours, theirs] of offences) {
    await using pair = await connectPair();
    const { client, server } = pair;
    await until(() => server.qp.state === "rts");
    const [atClient, atServer] = [client.device.events(), server.device.events()];
    offend(client);
    await expectNext(atClient, ours, client.qp);
    const other = await expectNext(atServer, theirs, server.qp);
    assertEquals(other.error, await server.qp.closed, name);
    if (theirs !== "sendQueueDrained") assert(other.error instanceof RdmaError, name);
  }
});

Deno.test("events: a shared receive queue's limit, and the last work request of a queue pair that used it", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  await until(() => server.qp.state === "rts");
  const queue = server.device.createSharedReceiveQueue({ pd: server.pd, limit: 1 });
  const events = server.device.events();
  await expectNext(events, "sharedReceiveQueueLimit", queue);
  queue.postRecv([], () => {});
  queue.arm(1);
  const accepted = Promise.withResolvers<QueuePair>();
  const listener = server.device.listen({
    port: 0,
    onRequest: (request) => void request.accept({ pd: server.pd, receives: queue }).then(accepted.resolve),
  });
  await expectNext(events, "portActive", listener);
  const { port } = listener;
  const qp = await client.device.connect({ hostname: "127.0.0.1", port, pd: client.pd });
  const theirs = await accepted.promise;
  await expectNext(events, "communicationEstablished", theirs);
  await qp.send([]);
  await expectNext(events, "sharedReceiveQueueLimit", queue);
  qp.abort();
  assertEquals((await expectNext(events, "queuePairFatal", theirs)).error?.code, "Reset");
  await expectNext(events, "lastWorkRequestReached", theirs);
});

Deno.test("events: a completion queue that overflows tells once, and throws", async () => {
  await using pair = await connectPair();
  const { client } = pair;
  const queue = client.device.createCompletionQueue({ depth: 2 });
  const { port } = pair.listener;
  const qp = await client.device.connect({ hostname: "127.0.0.1", port, pd: client.pd, sendQueue: queue });
  const events = client.device.events();
  for (let i = 0; i < 5; i++) qp.postSend({ opcode: "write", local: [], remote: { stag: 0, address: 0n } });
  await expectNext(events, "completionQueueError", queue);
  assertThrows(() => queue.poll(), RdmaError, "overflowed");
  await qp.close();
  await expectNext(events, "sendQueueDrained", qp);
});

Deno.test("events: several streams have the same, an ended one has no more, and what nobody takes is counted", async () => {
  await using pair = await connectPair();
  const { device } = pair.server;
  const [kept, left, forgotten] = [device.events(), device.events(), device.events()];
  await left.return();
  for (let i = 0; i < 5000; i++) {
    device.tell({ type: "portActive" });
    assertEquals((await kept.next()).value?.type, "portActive");
  }
  assertEquals(await left.next(), { done: true, value: undefined });
  await pair[Symbol.asyncDispose]();
  const all = [];
  for await (const event of forgotten) all.push(event);
  assertEquals(all.length, 4097);
  assertEquals(all.filter((event) => event.type === "eventsLost"), [all[4096]]);
  assert(all[4096].lost! >= 5000 - 4096);
});
