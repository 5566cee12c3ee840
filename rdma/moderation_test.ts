import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, type Pair, until } from "./_testing/pair.ts";
import { Device } from "./mod.ts";

/** Sends one message after the other to a sleeping server, and tells how often that was woken and how long until all were there. */
async function trickle({ client, server }: Pair, count: number): Promise<{ wakeups: number; elapsedMs: number }> {
  let received = 0;
  for (let i = 0; i < count; i++) server.qp.postRecv([], () => received++);
  await until(() => server.qp.state === "rts");
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = server.device.counters().wakeups;
  const began = performance.now();
  for (let i = 0; i < count; i++) {
    await client.qp.send([]);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  // JavaScript asks for nothing here: only being woken brings the rest
  const all = Promise.withResolvers<void>();
  const timer = setInterval(() => received === count && all.resolve(), 1);
  await all.promise;
  clearInterval(timer);
  return { wakeups: server.device.counters().wakeups - before, elapsedMs: performance.now() - began };
}

Deno.test("moderation: completions wake by the count, or after the period, and none is left behind", async () => {
  for (
    const [moderation, least, most] of [
      [undefined, 12, 24],
      [{ count: 4, periodMs: 5000 }, 3, 5],
      [{ count: 2048, periodMs: 100 }, 1, 6],
    ] as const
  ) {
    await using pair = await connectPair();
    pair.server.device.moderate(moderation);
    const { wakeups, elapsedMs } = await trickle(pair, 12);
    assert(wakeups >= least && wakeups <= most, `${wakeups} wake-ups with ${JSON.stringify(moderation)}`);
    if (moderation?.count === 4) assert(elapsedMs < 5000, "the count was reached");
  }
});

Deno.test("moderation: an end that nothing follows is told after the period", async () => {
  await using pair = await connectPair();
  pair.server.device.moderate({ count: 100, periodMs: 30 });
  pair.client.qp.abort();
  assertEquals((await pair.server.qp.closed)?.code, "Reset");
});

Deno.test("moderation: asked for when the device is opened, or refused", async () => {
  await using device = Device.open({ moderation: { count: 8, periodMs: 1 } });
  for (const moderation of [{ count: -1, periodMs: 1 }, { count: 1.5, periodMs: 1 }, { count: 2, periodMs: -1 }]) {
    assertThrows(() => device.moderate(moderation), RangeError);
  }
  assertThrows(() => device.moderate({ count: 4097, periodMs: 1 }), RangeError);
  device.moderate(undefined);
});
