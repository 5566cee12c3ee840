import { assert, assertEquals, assertRejects } from "@std/assert";
import { Example, runExample } from "../_testing/example.ts";
import { until, within } from "../_testing/pair.ts";
import { Device } from "../mod.ts";
import { LockClient, serveLock } from "./lock.ts";

Deno.test("lock: one has it, the next gets it when it is given back", async () => {
  await using home = Device.open();
  const { port, words } = serveLock(home, 0);
  const server = { hostname: "127.0.0.1", port };
  await using one = await LockClient.connect(server);
  await using two = await LockClient.connect(server);
  await one.acquire();
  assertEquals(words[0], one.id);
  let isTwos = false;
  const waiting = two.acquire().then(() => isTwos = true);
  await until(() => two.attemptsInVain > 3);
  assertEquals([isTwos, words[0]], [false, one.id]);
  await assertRejects(() => two.release(), Error, "not ours");
  const stop = AbortSignal.timeout(1);
  await assertRejects(() => one.acquire(stop), DOMException);

  assertEquals(await one.increment(), 1n);
  await one.release();
  await within(waiting);
  assertEquals([words[0], await two.increment()], [two.id, 2n]);
  await two.release();
  assertEquals([...words], [0n, 2n]);
});

Deno.test("lock: who goes with it does not keep it", async () => {
  await using home = Device.open();
  const { port, words } = serveLock(home, 0);
  const server = { hostname: "127.0.0.1", port };
  await using one = await LockClient.connect(server);
  await using two = await LockClient.connect(server);
  await two.acquire();
  one.queuePair.abort(); // has not got it: nothing changes
  await one.queuePair.closed;
  await using three = await LockClient.connect(server);
  const waiting = three.acquire();
  await until(() => three.attemptsInVain > 1);
  assertEquals(words[0], two.id);
  two.queuePair.abort();
  await within(waiting);
  assertEquals(words[0], three.id);
});

Deno.test("lock: processes that contend for it lose no count", async () => {
  await using server = new Example("lock", "serve", 0);
  const port = await server.port();
  await using watching = await LockClient.connect({ hostname: "127.0.0.1", port });
  await watching.acquire(); // until all are there
  const processes = [1, 2, 3].map(() => new Example("lock", "count", "127.0.0.1", port, 100));
  try {
    const ids = await Promise.all(processes.map((process) => process.line()));
    assertEquals(ids.toSorted(), ["client 2", "client 3", "client 4"]);
    const ends = Promise.all(processes.map((process) => process.end()));
    await watching.release();
    const values = (await ends).flat().map((line) => Number(line.match(/^the counter is (\d+);/)?.[1]));
    assertEquals(Math.max(...values), 300);
    assert(new Set(values).size === 3, `two had the lock at once: ${values}`);
    await watching.acquire();
    assertEquals(await watching.increment(), 301n);
  } finally {
    for (const process of processes) await process[Symbol.asyncDispose]();
  }
});

Deno.test("lock: no number of times is a mistake, not nothing to do", async () => {
  await using home = Device.open();
  const { port } = serveLock(home, 0);
  for (const times of ["abc", "0", "-1", "1.5", ""]) {
    const { code, stderr } = await runExample("lock", "count", "127.0.0.1", String(port), times);
    assertEquals(code, 2, times);
    assert(stderr.startsWith("usage: "), stderr);
  }
});
