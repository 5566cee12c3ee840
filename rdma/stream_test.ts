import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fill, openDescriptors, same, until, within } from "./_testing/pair.ts";
import { Device, RdmaError, type Stream, type WorkCompletion } from "./mod.ts";

/** A listener whose streams are handed out in the order in which they come. */
function listen(device: Device): { port: number; next(): Promise<Stream> } {
  const waiting: ((stream: Stream) => void)[] = [];
  const come: Stream[] = [];
  const listener = device.listen({
    port: 0,
    onStream: (stream) => {
      const take = waiting.shift();
      if (take === undefined) come.push(stream);
      else take(stream);
    },
  });
  return {
    port: listener.port,
    next: () => {
      const stream = come.shift();
      return stream === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(stream);
    },
  };
}

function send(stream: Stream, ...pieces: Uint8Array[]): Promise<WorkCompletion> {
  return within(new Promise((resolve) => stream.send(pieces, resolve)));
}

function receive(stream: Stream, ...pieces: Uint8Array[]): Promise<WorkCompletion> {
  return within(new Promise((resolve) => stream.receive(pieces, resolve)));
}

async function streams(device: Device): Promise<[Stream, Stream]> {
  const listener = listen(device);
  const client = await device.connectStream({ hostname: "127.0.0.1", port: listener.port });
  // what a stream is, is told by its first bytes
  const hello = send(client, new Uint8Array(1));
  const server = await within(listener.next());
  await Promise.all([hello, receive(server, new Uint8Array(1))]);
  return [client, server];
}

Deno.test("stream: every size, in one piece and in several", async () => {
  await using device = Device.open();
  const [client, server] = await streams(device);
  for (const size of [0, 1, 2, 3, 255, 256, 257, 4096, 8191, 8192, 65536, 1_000_003, 16 << 20]) {
    for (const [from, to] of [[client, server], [server, client]]) {
      const source = fill(new Uint8Array(size), size);
      const target = new Uint8Array(size);
      const cut = Math.floor(size / 3);
      const [sent, received] = await Promise.all([
        send(from, source.subarray(0, cut), source.subarray(cut, cut), source.subarray(cut)),
        receive(to, target.subarray(0, 2 * cut), target.subarray(2 * cut)),
      ]);
      assertEquals(sent, { status: "success", byteLength: size, invalidatedStag: undefined });
      assertEquals(received, { status: "success", byteLength: size, invalidatedStag: undefined });
      assert(same(source, target), `${size}`);
    }
  }
  assertEquals(device.counters().bytesStaged, 0);
});

Deno.test("stream: boundaries of sends and receives need not agree", async () => {
  await using device = Device.open();
  const [client, server] = await streams(device);
  const total = 300_000;
  const source = fill(new Uint8Array(total), 9);
  const target = new Uint8Array(total);
  const sends: Promise<WorkCompletion>[] = [];
  const receives: Promise<WorkCompletion>[] = [];
  for (let at = 0, step = 1; at < total; at += step, step = (step * 7) % 4999 + 1) {
    sends.push(send(client, source.subarray(at, at + step)));
  }
  for (let at = 0, step = 3; at < total; at += step, step = (step * 11) % 6007 + 1) {
    receives.push(receive(server, target.subarray(at, at + step)));
  }
  for (const done of await Promise.all([...sends, ...receives])) assertEquals(done.status, "success");
  assert(same(source, target));
});

Deno.test("stream: as many pieces as a list may have", async () => {
  await using device = Device.open();
  const [client, server] = await streams(device);
  const pieces = (seed: number) => Array.from({ length: 1024 }, (_, i) => fill(new Uint8Array(i % 700), seed + i));
  const sources = pieces(1);
  const targets = pieces(2);
  await Promise.all([send(client, ...sources), receive(server, ...targets)]);
  assertEquals(targets, sources);
  assertThrows(() => client.send([...sources, new Uint8Array(1)]), RangeError);
});

Deno.test("stream: what came before the peer's end is there for receives posted after it", async () => {
  await using device = Device.open();
  const listener = listen(device);
  for (const wait of [false, true]) {
    for (
      const [name, lengths, expected] of [
        ["exactly", [100], ["success 100"]],
        ["in parts", [60, 40], ["success 60", "success 40"]],
        ["less than is asked for", [60, 60], ["success 60", "flushed 40"]],
        ["one receive that is too long", [200], ["flushed 100"]],
        ["and an empty one", [0, 100, 0], ["success 0", "success 100", "success 0"]],
      ] as const
    ) {
      const conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.port });
      await conn.write(new Uint8Array(100).fill(7));
      await conn.closeWrite();
      const server = await within(listener.next());
      if (wait) await new Promise((resolve) => setTimeout(resolve, 20));
      const buffers = lengths.map((length) => new Uint8Array(length));
      const done = await Promise.all(buffers.map((buffer) => receive(server, buffer)));
      assertEquals(done.map((one) => `${one.status} ${one.byteLength}`), [...expected], `${name}, wait ${wait}`);
      const error = await within(server.closed);
      assertEquals(
        error?.code,
        name === "less than is asked for" || name.startsWith("one") ? "Reset" : undefined,
        name,
      );
      assert(buffers.every((buffer, i) => buffer.subarray(0, done[i].byteLength).every((byte) => byte === 7)));
      conn.close();
    }
  }
});

Deno.test("stream: a peer that has said all still gets what is queued for it", async () => {
  await using device = Device.open();
  const listener = listen(device);
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.port });
  await conn.write(new Uint8Array(1));
  const server = await within(listener.next());
  const answer = fill(new Uint8Array(16 << 20), 1);
  const sent = send(server, answer);
  await conn.closeWrite();
  await receive(server, new Uint8Array(1));
  const got = new Uint8Array(answer.byteLength);
  for (let at = 0;;) {
    const n = await conn.read(got.subarray(at, at + (1 << 20)));
    if (n === null || at + n === got.byteLength) break;
    at += n;
  }
  assertEquals((await sent).status, "success");
  assert(same(got, answer));
  conn.close();
  assertEquals(await within(server.closed), undefined);
});

Deno.test("stream: a peer that vanishes is noticed without a receive", async () => {
  await using device = Device.open();
  const listener = listen(device);
  await device.hold.begin();
  const before = openDescriptors();
  for (const reset of [false, true]) {
    const client = await device.connectStream({ hostname: "127.0.0.1", port: listener.port });
    await send(client, new Uint8Array(3));
    const server = await within(listener.next());
    await receive(server, new Uint8Array(3));
    if (reset) client.abort();
    else await client.close();
    assertEquals((await within(server.closed))?.code, reset ? "Reset" : undefined);
  }
  await until(() => openDescriptors() <= before);
});

Deno.test("stream: a close sends what is queued first, and flushes receives", async () => {
  await using device = Device.open();
  const [client, server] = await streams(device);
  const source = fill(new Uint8Array(8 << 20), 3);
  const target = new Uint8Array(8 << 20);
  const received = receive(server, target);
  const pending = receive(client, new Uint8Array(10));
  const sent = send(client, source);
  await within(client.close());
  assertEquals((await sent).status, "success");
  assertEquals((await received).status, "success");
  assertEquals(await pending, { status: "flushed", byteLength: 0, invalidatedStag: undefined });
  assert(same(source, target));
  assertThrows(() => client.send([source]), RdmaError, "closed");
});

Deno.test("stream: an abort flushes both directions in order", async () => {
  await using device = Device.open();
  const [client, server] = await streams(device);
  const done: string[] = [];
  const big = new Uint8Array(64 << 20);
  for (let i = 0; i < 5; i++) client.send([big], ({ status }) => done.push(`send ${i} ${status}`));
  for (let i = 0; i < 5; i++) client.receive([new Uint8Array(10)], ({ status }) => done.push(`receive ${i} ${status}`));
  await Promise.resolve();
  client.abort();
  await within(client.closed);
  assertEquals(done, ["send", "receive"].flatMap((kind) => [0, 1, 2, 3, 4].map((i) => `${kind} ${i} flushed`)));
  assertEquals((await within(server.closed))?.code, "Reset");
});

Deno.test("stream: nobody takes it, or nobody is there", async () => {
  await using device = Device.open();
  const listener = device.listen({ port: 0 });
  const client = await device.connectStream({ hostname: "127.0.0.1", port: listener.port });
  client.send([new Uint8Array(100)]);
  await within(client.closed);
  await listener.close();
  const error = await assertRejects(
    () => device.connectStream({ hostname: "127.0.0.1", port: listener.port }),
    RdmaError,
  );
  assertEquals(error.code, "ConnectionRefused");
});

Deno.test("stream: memory that does not stay in place is refused", async () => {
  await using device = Device.open();
  const [client] = await streams(device);
  const resizable = new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }));
  assertThrows(() => client.send([resizable]), TypeError, "resizable");
  assertThrows(() => client.receive([resizable], () => {}), TypeError, "resizable");
  const detached = new Uint8Array(8);
  detached.buffer.transfer();
  assertThrows(() => client.send([detached]), TypeError, "detached");
});

Deno.test("stream: a peer that only connects, and one that sends slowly", async () => {
  await using device = Device.open();
  const listener = listen(device);
  // as long as the bytes could become an MPA request, the decision waits
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.port });
  for (const byte of new TextEncoder().encode("MPA ID Req Fram")) {
    await conn.write(new Uint8Array([byte]));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const next = listener.next();
  assertEquals(await Promise.race([next, new Promise((resolve) => setTimeout(resolve, 30, "nothing"))]), "nothing");
  await conn.write(new TextEncoder().encode("!"));
  const server = await within(next);
  const target = new Uint8Array(16);
  await receive(server, target);
  assertEquals(new TextDecoder().decode(target), "MPA ID Req Fram!");
  conn.close();
  await within(server.closed);
});
