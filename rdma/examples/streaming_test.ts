import { Buffer } from "node:buffer";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Example } from "../_testing/example.ts";
import { fill, same, until, within } from "../_testing/pair.ts";
import { Device, type QueuePair, RdmaError } from "../mod.ts";
import { Collector, type Consumer, sendStream } from "./streaming.ts";

/** Pieces of several lengths: empty, small, and more than a message. */
function pieces(seed: number): Uint8Array[] {
  return Array.from({ length: 60 }, (_, i) => fill(new Uint8Array(i * i * 20 % 50_000), seed * 100 + i));
}

/** A consumer that keeps everything, and how each sender ended. */
class Keeper implements Consumer {
  readonly streams = new Map<QueuePair, Uint8Array[]>();
  readonly ends: unknown[] = [];

  onData(bytes: Uint8Array, sender: QueuePair): void | Promise<void> {
    const stream = this.streams.get(sender) ?? [];
    this.streams.set(sender, stream);
    stream.push(bytes.slice());
  }

  onEnd(error: unknown): void {
    this.ends.push(error);
  }

  get joined(): Uint8Array[] {
    return this.streams.values().map((stream) => Buffer.concat(stream)).toArray().sort((a, b) => a[1] - b[1]);
  }
}

Deno.test("streaming: every sender's stream arrives whole and in order", async () => {
  const keeper = new Keeper();
  await using collector = new Collector(Device.open(), keeper, { port: 0, sendersMax: 4 });
  const there = { hostname: "127.0.0.1", port: collector.listener.port };
  const seeds = [1, 2, 3, 4];
  for (let round = 0; round < 3; round++) { // again and again: no buffer gets lost
    await within(Promise.all(seeds.map((seed) => sendStream(ReadableStream.from(pieces(seed)), there))));
    await until(() => keeper.ends.length === seeds.length);
    const expected = seeds.map((seed) => Buffer.concat(pieces(seed))).sort((a, b) => a[1] - b[1]);
    keeper.joined.forEach((stream, i) => assert(same(stream, expected[i])));
    assertEquals(keeper.streams.size, seeds.length);
    assertEquals(keeper.ends.splice(0), seeds.map(() => undefined));
    keeper.streams.clear();
  }
});

Deno.test("streaming: a slow consumer slows the sender, and no other one", async () => {
  const gate = Promise.withResolvers<void>();
  let slow: QueuePair | undefined;
  const keeper = new class extends Keeper {
    override async onData(bytes: Uint8Array, sender: QueuePair) {
      slow ??= sender;
      if (sender === slow) await gate.promise;
      super.onData(bytes, sender);
    }
  }();
  await using collector = new Collector(Device.open(), keeper, { port: 0, sendersMax: 2 });
  const there = { hostname: "127.0.0.1", port: collector.listener.port };
  let taken = 0;
  const source = ReadableStream.from(pieces(1)).pipeThrough(
    new TransformStream({ transform: (chunk, to) => (taken += chunk.byteLength, to.enqueue(chunk)) }),
  );
  const slowly = sendStream(source, there);
  await until(() => slow !== undefined);
  await within(sendStream(ReadableStream.from(pieces(2)), there));
  await until(() => keeper.ends.length === 1);
  assertEquals(keeper.joined.length, 1);
  assert(same(keeper.joined[0], Buffer.concat(pieces(2))));
  const total = Buffer.concat(pieces(1)).byteLength;
  assert(taken < total / 2, `${taken} bytes of ${total} have left in spite of the consumer`);

  const second = new TransformStream<Uint8Array, Uint8Array>();
  const sending = sendStream(second.readable, there);
  const writer = second.writable.getWriter();
  await writer.write(new Uint8Array(1));
  await until(() => keeper.streams.size === 2); // one that has ended, and this one
  await assertRejects(() => sendStream(ReadableStream.from(pieces(3)), there), RdmaError, "rejected");
  await writer.close();
  gate.resolve();
  await within(Promise.all([slowly, sending]));
  await until(() => keeper.ends.length === 3);
  assert(same(Buffer.concat(keeper.streams.get(slow!)!), Buffer.concat(pieces(1))));
});

Deno.test("streaming: a consumer that throws ends that sender, whose buffers serve the next", async () => {
  const keeper = new class extends Keeper {
    refusals = 20;
    override onData(bytes: Uint8Array, sender: QueuePair) {
      if (this.refusals > 0) {
        this.refusals--;
        throw new Error("no, thank you");
      }
      super.onData(bytes, sender);
    }
  }();
  await using collector = new Collector(Device.open(), keeper, { port: 0, sendersMax: 1 });
  const there = { hostname: "127.0.0.1", port: collector.listener.port };
  for (let sender = 1; keeper.refusals > 0; sender++) {
    await assertRejects(() => within(sendStream(ReadableStream.from(pieces(1)), there)), RdmaError);
    await until(() => keeper.ends.length === sender);
  }
  assertEquals(keeper.ends.map(String), new Array(20).fill("Error: no, thank you"));
  await within(sendStream(ReadableStream.from(pieces(1)), there));
  await until(() => keeper.ends.length === 21);
  assert(same(keeper.joined[0], Buffer.concat(pieces(1))));
});

Deno.test("streaming: a collector that goes ends its senders", async () => {
  const keeper = new Keeper();
  const collector = new Collector(Device.open(), keeper, { port: 0 });
  const endless = new ReadableStream<Uint8Array>({ pull: (to) => to.enqueue(new Uint8Array(1000)) });
  const sending = sendStream(endless, { hostname: "127.0.0.1", port: collector.listener.port });
  await until(() => keeper.streams.size === 1);
  await collector[Symbol.asyncDispose]();
  await assertRejects(() => within(sending), RdmaError);
});

Deno.test("streaming: processes", async () => {
  await using collector = new Example("streaming", "collect", 0);
  const port = await collector.port();
  const lengths = [0, 1, 300_000, 1_000_000];
  await Promise.all(lengths.map(async (length) => {
    await using sender = new Example("streaming", "send", "127.0.0.1", port);
    await sender.type("x".repeat(length));
    assertEquals(await sender.end(), []);
  }));
  const lines: string[] = [];
  while (lines.length < lengths.length) lines.push(await collector.line());
  const said = lines.map((line) => line.replace(/^127\.0\.0\.1:\d+: /, "")).sort();
  assertEquals(said, lengths.map((length) => `${length} bytes`).sort());
});
