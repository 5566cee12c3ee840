import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, until, whole } from "./_testing/pair.ts";
import { Access, type CompletionQueue, Device, type Moderation, type ProtectionDomain, type QueuePair } from "./mod.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
/** Nothing here is told of by the end of that time. */
const LONG_MS = 60_000;

/** Receivers at one device that sleeps, and their senders at another. */
interface Scene extends AsyncDisposable {
  device: Device;
  pd: ProtectionDomain;
  queues: CompletionQueue[];
  receivers: QueuePair[];
  senders: QueuePair[];
  /** How many messages each receiver's JavaScript knows of. */
  got: number[];
  /** Sends `count` messages to a receiver, one after the other, and gives its JavaScript time to be woken. */
  send(index: number, count: number): Promise<void>;
  wakeups(): number;
}

/** A queue pair for each of `moderations`, with a queue that is moderated so. Nothing but the engine wakes the receivers' device. */
async function scene(...moderations: (Moderation | undefined)[]): Promise<Scene> {
  const pair = await connectPair();
  const { client, server: { device, pd } } = pair;
  const [queues, receivers, senders] = [[], [], []] as [CompletionQueue[], QueuePair[], QueuePair[]];
  const got = moderations.map(() => 0);
  for (const [index, moderation] of moderations.entries()) {
    const receiveQueue = device.createCompletionQueue({ moderation });
    const accepted = Promise.withResolvers<QueuePair>();
    const onReady = (qp: QueuePair) => {
      for (let i = 0; i < 32; i++) qp.postRecv([], ({ status }) => got[index] += Number(status === "success"));
    };
    const listener = device.listen({
      port: 0,
      onRequest: (request) => void request.accept({ pd, receiveQueue, onReady }).then(accepted.resolve),
    });
    senders.push(await client.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: client.pd }));
    const receiver = await accepted.promise;
    await until(() => receiver.state === "rts");
    queues.push(receiveQueue);
    receivers.push(receiver);
  }
  await sleep(50); // JavaScript polls for a while after its last work
  return {
    device,
    pd,
    queues,
    receivers,
    senders,
    got,
    async send(index, count) {
      for (let i = 0; i < count; i++) {
        await senders[index].send([]);
        await sleep(3);
      }
      await sleep(20);
    },
    wakeups: () => device.counters().wakeups,
    [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
  };
}

Deno.test("moderation: of two queues of one device each wakes by its own terms, and every wake-up brings all", async () => {
  await using two = await scene({ count: 100, periodMs: LONG_MS }, undefined);
  const before = two.wakeups();
  await two.send(0, 3);
  assertEquals([two.wakeups(), ...two.got], [before, 0, 0]);
  await two.send(1, 1);
  await until(() => two.got[1] === 1);
  assertEquals(two.got, [3, 1]);
  await two.send(1, 4);
  await until(() => two.got[1] === 5);
  assert(two.wakeups() >= before + 5, "one for each of the other queue's");
});

Deno.test("moderation: so many of one queue wake, counted from one sleep to the next", async () => {
  await using two = await scene({ count: 4, periodMs: LONG_MS }, { count: 3, periodMs: LONG_MS });
  for (const round of [1, 2, 3]) {
    const before = two.wakeups();
    await two.send(0, 3);
    await two.send(1, 2);
    assertEquals([two.wakeups(), ...two.got], [before, 5 * round - 5, 2 * round - 2]);
    await two.send(0, 1);
    await until(() => two.got[0] === 4 * round + round - 1);
    await two.send(0, 1);
    two.device.progress();
    assertEquals(two.got, [5 * round, 2 * round]);
    await sleep(20);
  }
});

Deno.test("moderation: fewer wake when the first has waited for its time, and bring those of longer times", async () => {
  await using two = await scene({ count: 2048, periodMs: LONG_MS }, { count: 2048, periodMs: 30 });
  await two.send(0, 2);
  await sleep(50);
  assertEquals(two.got, [0, 0]);
  for (const round of [1, 2]) {
    await two.senders[1].send([]);
    await until(() => two.got[1] === round);
    assertEquals(two.got[0], 2);
    await sleep(50);
  }
});

Deno.test("moderation: the send queue's completions wait, too", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const sendQueue = server.device.createCompletionQueue({ moderation: { count: 100, periodMs: LONG_MS } });
  const accepted = Promise.withResolvers<QueuePair>();
  const listener = server.device.listen({
    port: 0,
    onRequest: (request) => void request.accept({ pd: server.pd, sendQueue }).then(accepted.resolve),
  });
  await client.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: client.pd });
  const qp = await accepted.promise;
  await until(() => qp.state === "rts");
  await sleep(50); // JavaScript polls for a while after its last work, and at first until it has a pipe
  // so large that the poster sleeps before it is done
  const source = server.pd.allocate(64 << 20);
  const target = client.pd.allocate(64 << 20, Access.RemoteWrite);
  let done = 0;
  qp.postSend({ opcode: "write", local: whole(source), remote: target }, () => done++);
  await sleep(300);
  assertEquals(done, 0);
  await until(() => server.device.progress() > 0);
  assertEquals(done, 1);
  sendQueue.moderate({ count: 100, periodMs: 20 });
  for (const id of [1, 2]) qp.postSend({ opcode: "write", local: whole(source), remote: target, id });
  const completions = [];
  while (completions.length < 2) {
    await sendQueue.wait();
    completions.push(...sendQueue.poll());
  }
  assertEquals(completions.map(({ id, status }) => [id, status]), [[1, "success"], [2, "success"]]);
});

Deno.test("moderation: other terms are for what waits already, and for queue pairs that are there", async () => {
  await using one = await scene(undefined);
  one.queues[0].moderate({ count: 3, periodMs: LONG_MS });
  await sleep(20);
  await one.send(0, 2);
  assertEquals(one.got, [0]);
  one.queues[0].moderate(undefined);
  await until(() => one.got[0] === 2);
  await sleep(20);
  const before = one.wakeups();
  await one.send(0, 2);
  await until(() => one.got[0] === 4);
  assert(one.wakeups() > before);
});

Deno.test("moderation: a shared receive queue's completions are those of its completion queue", async () => {
  await using one = await scene(undefined);
  const { device, pd } = one;
  const receiveQueue = device.createCompletionQueue({ moderation: { count: 3, periodMs: LONG_MS } });
  using receives = device.createSharedReceiveQueue({ pd, receiveQueue });
  for (let id = 0; id < 8; id++) receives.postRecv([], { id });
  const listener = device.listen({ port: 0, onRequest: (request) => void request.accept({ pd, receives }) });
  const domain = one.senders[0].pd;
  const connect = () => domain.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: domain });
  const senders = [await connect(), await connect()];
  await sleep(50);
  const before = one.wakeups();
  for (const [index, isLast] of [[0, false], [1, false], [1, true]] as const) {
    assertEquals(one.wakeups(), before);
    await senders[index].send([]);
    await (isLast ? until(() => one.wakeups() > before) : sleep(20));
  }
  await receiveQueue.wait();
  assertEquals(receiveQueue.poll().map(({ id }) => id), [0, 1, 2]);
});

Deno.test("moderation: an end wakes at once, behind all that waits; closing the device delivers it", async () => {
  await using two = await scene({ count: 100, periodMs: LONG_MS }, { count: 100, periodMs: LONG_MS });
  await two.send(0, 2);
  await two.send(1, 3);
  assertEquals(two.got, [0, 0]);
  two.senders[0].abort();
  assertEquals((await two.receivers[0].closed)?.code, "Reset");
  assertEquals(two.got, [2, 3]);
  await sleep(20);
  await two.send(1, 4);
  assertEquals(two.got, [2, 3]);
  await two.device.close();
  assertEquals(two.got, [2, 7]);
});

Deno.test("moderation: terms out of range, and queues of another device, are refused", async () => {
  await using device = Device.open();
  await using other = Device.open();
  const queue = device.createCompletionQueue({ moderation: { count: 2048, periodMs: LONG_MS } });
  const terms = [{ count: -1, periodMs: 1 }, { count: 1.5, periodMs: 1 }, { count: 2049, periodMs: 1 }];
  for (const moderation of [...terms, ...[-1, 60_001, NaN].map((periodMs) => ({ count: 2, periodMs }))]) {
    assertThrows(() => queue.moderate(moderation), RangeError, "moderation");
    assertThrows(() => device.createCompletionQueue({ moderation }), RangeError, "moderation");
  }
  queue.moderate(undefined);
  const pd = other.allocateProtectionDomain();
  for (const queues of [{ sendQueue: queue }, { receiveQueue: queue }]) {
    assertThrows(() => other.settings({ pd, ...queues }), TypeError, "another device");
  }
});
