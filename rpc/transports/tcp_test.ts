/** The TCP transport on its own terms: what is received where, and what peers may not do. */
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { join, pattern, seeded, words } from "../_testing/bytes.ts";
import { STORE, Store } from "../_testing/store.ts";
import { type FakeStream, streamPair } from "../_testing/stream_pair.ts";
import { type Bulk, type IncomingCall, ProtocolError, RpcClient, RpcServer, service, WireError } from "../mod.ts";
import { type BulkPool, FRAGMENTS_MAX } from "./byte_stream.ts";
import { TcpClientTransport } from "./tcp_client.ts";
import { HEAD_BYTES, TcpServerTransport } from "./tcp_server.ts";

const { PUT, GET } = STORE.procedures;
const file = new TextEncoder().encode("a file");

/** A pool that knows what it has lent, and spoils what comes back. */
class CountingPool implements BulkPool {
  lent = 0;

  take(lengthBytes: number): Bulk {
    this.lent++;
    const bytes = new Uint8Array(lengthBytes + 50);
    let isLent = true;
    const release = () => {
      if (!isLent) return;
      isLent = false;
      this.lent--;
      bytes.fill(0xdb);
    };
    return { bytes, release };
  }
}

interface Setup {
  left: FakeStream;
  right: FakeStream;
  transport: TcpClientTransport;
  server: TcpServerTransport;
  client: RpcClient;
  store: Store;
  pool: CountingPool;
}

async function withPair(options: { callsMax?: number }, body: (setup: Setup) => Promise<void>): Promise<void> {
  const [left, right] = streamPair();
  const pool = new CountingPool();
  const transport = new TcpClientTransport(left);
  const server = new TcpServerTransport(right, { pool, ...options });
  const store = new Store();
  new RpcServer({ services: [service(STORE, store.handlers)] }).serve(server);
  await body({ left, right, transport, server, store, pool, client: new RpcClient(transport, { program: STORE }) });
  await transport.close();
  await server.close();
  assertEquals(pool.lent, 0, "memory was not given back");
}

function receive(stream: FakeStream, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  return new Promise((resolve, reject) => {
    stream.receive([bytes], ({ status }) => status === "success" ? resolve(bytes) : reject(new Error(status)));
  });
}

const LAST = 0x80000000;

function nullCall(xid: number): Uint8Array {
  return words(xid, 0, 2, STORE.number, STORE.version, 0, 0, 0, 0, 0);
}

Deno.test("a long call: a head, and the rest straight into the pool's memory", () =>
  withPair({}, async ({ client, right }) => {
    const length = 100_000;
    assertEquals(await client.call(PUT, { name: file, data: [pattern(length)], after: 0 }), length);
    const record = 40 + 12 + 4 + length + 4;
    assertEquals(right.receivedPieces, [4, HEAD_BYTES, record - HEAD_BYTES, 4]);
  }));

Deno.test("a long reply: a head, and the contents straight into the caller's memory", () =>
  withPair({}, async ({ client, left, transport, store }) => {
    const length = 100_001;
    store.data.set(file.join(), pattern(length));
    const into = new Uint8Array(length);
    await client.call(GET, file, { into });
    assertEquals(into, pattern(length));
    // The mark, the head, contents, padding, the word behind them, the next mark.
    assertEquals(left.receivedPieces, [4, 32, length, 3, 4, 4]);
    assertEquals(transport.bytesStaged, 0);
  }));

Deno.test("a head that was guessed too long is copied, and counted", () =>
  withPair({}, async ({ client, transport, store }) => {
    store.data.set(file.join(), pattern(50_000));
    const guess = { ...GET, placement: { ...GET.placement!, headBytes: 100 } };
    const into = new Uint8Array(50_000);
    await client.call(guess, file, { into });
    assertEquals(into, pattern(50_000));
    assertEquals(transport.bytesStaged, 92);
  }));

Deno.test("replies may come in any order", async () => {
  const [left, right] = streamPair();
  const calls: IncomingCall[] = [];
  const transport = new TcpClientTransport(left);
  const server = new TcpServerTransport(right);
  server.onCall = (call) => void calls.push(call);
  const client = new RpcClient(transport, { program: STORE });
  const order: number[] = [];
  const pings = [0, 1, 2].map((i) => client.ping().then(() => order.push(i)));
  while (calls.length < 3) await Promise.resolve();
  for (const call of calls.reverse()) {
    const xid = new DataView(call.message.buffer, call.message.byteOffset).getUint32(0);
    call.reply({ bytes: words(xid, 1, 0, 0, 0, 0) });
  }
  await Promise.all(pings);
  assertEquals(order, [2, 1, 0]);
  await transport.close();
});

Deno.test("a record in fragments, empty ones among them, is one call", async () => {
  const [left, right] = streamPair();
  const server = new TcpServerTransport(right);
  new RpcServer({ services: [service(STORE, new Store().handlers)] }).serve(server);
  const call = nullCall(7);
  left.send([words(0), words(4), call.subarray(0, 4), words(0), words(30), call.subarray(4, 34), words(LAST | 6)]);
  left.send([call.subarray(34)]);
  assertEquals(await receive(left, 28), words(LAST | 24, 7, 1, 0, 0, 0, 0));
  // And an ordinary one behind it.
  left.send([words(LAST | 40), nullCall(8)]);
  assertEquals(await receive(left, 28), words(LAST | 24, 8, 1, 0, 0, 0, 0));
  await left.close();
  assertEquals(await server.closed, undefined);
});

Deno.test("what no server takes: the connection ends", async () => {
  const text = new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n");
  const hostile: [string, Uint8Array[], string][] = [
    ["another protocol", [text], "ProtocolError"],
    ["a huge record", [words(LAST | 0x7fffffff)], "ProtocolError"],
    [
      "huge fragments",
      Array.from({ length: 5 }, () => [words(1 << 20), new Uint8Array(1 << 20)]).flat(),
      "ProtocolError",
    ],
    ["endless fragments", [new Uint8Array(4 * (FRAGMENTS_MAX + 1))], "ProtocolError"],
    ["an empty record", [words(LAST)], "WireError"],
  ];
  for (const [what, pieces, kind] of hostile) {
    const [left, right] = streamPair({ chunkBytes: 1 << 20 });
    const server = new TcpServerTransport(right);
    server.onCall = () => assert(false, what);
    left.send(pieces);
    assertEquals((await server.closed)?.name, kind, what);
    assert(left.isEnded, what);
    await server.close();
  }
});

Deno.test("a server without memory for a record ends that connection", async () => {
  const [left, right] = streamPair();
  const pool: BulkPool = {
    take: () => {
      throw new RangeError("the pool is empty");
    },
  };
  const server = new TcpServerTransport(right, { pool });
  left.send([words(LAST | 10_000)]);
  assertInstanceOf(await server.closed, ProtocolError);
});

Deno.test("calls beyond the limit wait in the socket", () =>
  withPair({ callsMax: 3 }, async ({ client, store, server }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const calls = Array.from(
      { length: 10 },
      (_, i) => client.call(PUT, { name: Uint8Array.of(i), data: [], after: i }),
    );
    for (let turn = 0; turn < 1000; turn++) await Promise.resolve();
    assertEquals(store.puts, 3);
    resolve();
    assertEquals(await Promise.all(calls), calls.map((_, i) => i));
    assertEquals(server.peer, { transport: "tcp", address: "192.0.2.1", port: 999 });
  }));

Deno.test("a server that closes answers the calls under way first", () =>
  withPair({}, async ({ client, store, server }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const call = client.call(PUT, { name: file, data: [pattern(9000)], after: 0 });
    while (store.puts === 0) await Promise.resolve();
    const closing = server.close();
    resolve();
    assertEquals(await call, 9000);
    await closing;
    await assertRejects(() => client.ping(), ProtocolError, "closed");
  }));

Deno.test("a client that vanishes in the middle: its memory comes back, replies go nowhere", async () => {
  for (const sent of [2, 4, 100, 4 + HEAD_BYTES, 9000, 10_004]) {
    const [left, right] = streamPair();
    const pool = new CountingPool();
    const server = new TcpServerTransport(right, { pool });
    const calls: IncomingCall[] = [];
    server.onCall = (call) => void calls.push(call);
    left.send([join([words(LAST | 10_000), new Uint8Array(10_000)]).subarray(0, sent)]);
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    const error = new Error("connection reset");
    left.end(error);
    assertEquals(await server.closed, error);
    assertEquals(calls.length, sent === 10_004 ? 1 : 0);
    for (const call of calls) {
      call.allocateBulk(5000);
      call.reply({ bytes: words(1, 1, 0, 0, 0, 0) });
    }
    assertEquals(pool.lent, 0);
  }
});

/** A client whose server is the test. */
async function withServerByHand(
  body: (
    setup: { client: RpcClient; transport: TcpClientTransport; left: FakeStream; right: FakeStream },
  ) => Promise<void>,
): Promise<void> {
  const [left, right] = streamPair();
  const transport = new TcpClientTransport(left);
  await body({ client: new RpcClient(transport, { program: STORE }), transport, left, right });
  await transport.close();
}

/** Takes a GET and tells its xid. */
async function takeCall(right: FakeStream): Promise<number> {
  const mark = await receive(right, 4);
  const record = await receive(right, new DataView(mark.buffer).getUint32(0) - LAST);
  return new DataView(record.buffer).getUint32(0);
}

Deno.test("what no client takes: the call fails and the connection ends", async () => {
  const hostile: [string, (xid: number) => Uint8Array, string][] = [
    ["a reply to nothing", (xid) => words(LAST | 24, xid + 1000, 1, 0, 0, 0, 0), "not asked"],
    ["a call", (xid) => words(LAST | 40, xid, 0, 2, 1, 1, 1, 0, 0, 0, 0), "msg_type 0"],
    ["too short a record", () => words(LAST | 4, 1), "cut short"],
    ["a huge record", () => words(LAST | 0x7fffffff), "above the limit"],
    [
      "contents beyond the record",
      (xid) => words(LAST | 40, xid, 1, 0, 0, 0, 0, 7, 9000, 1, 2),
      "9000 bytes of contents",
    ],
  ];
  for (const [what, reply, message] of hostile) {
    await withServerByHand(async ({ client, transport, right }) => {
      const into = new Uint8Array(10_000);
      const failed = assertRejects(() => client.call(GET, file, { into }), Error, message, what);
      const other = assertRejects(() => client.ping(), Error, message, what);
      right.send([reply(await takeCall(right))]);
      await failed;
      await other;
      assert(await transport.closed instanceof Error, what);
      assert(right.isEnded, what);
      assertEquals(into, new Uint8Array(10_000));
    });
  }
});

Deno.test("a reply that cannot be decoded fails its call only", () =>
  withServerByHand(async ({ client, right }) => {
    const malformed: ((xid: number) => Uint8Array)[] = [
      (xid) => words(LAST | 12, xid, 1, 5),
      (xid) => words(LAST | 24, xid, 1, 0, 0, 0, 9),
      (xid) => words(LAST | 24, xid, 1, 0, 0, 500, 0),
      (xid) => words(LAST | 28, xid, 1, 0, 0, 0, 0, 7),
      (xid) => words(LAST | 36, xid, 1, 0, 0, 0, 0, 7, 4, 1),
      (xid) => words(LAST | 44, xid, 1, 0, 0, 0, 0, 7, 4, 1, 2, 3),
    ];
    for (const reply of malformed) {
      const failed = assertRejects(() => client.call(GET, file, { into: new Uint8Array(100) }), WireError);
      const xid = await takeCall(right);
      const bytes = reply(xid);
      right.send([bytes, new Uint8Array((bytes[2] << 8 | bytes[3]) + 4 - bytes.byteLength)]);
      await failed;
    }
    const ping = client.ping();
    right.send([words(LAST | 24, await takeCall(right), 1, 0, 0, 0, 0)]);
    await ping;
  }));

Deno.test("an aborted call's memory is left alone once it has rejected", () =>
  withServerByHand(async ({ client, left, right }) => {
    // While it is sent: the rejection waits for the last byte.
    const sending = new AbortController();
    const data = pattern(50_000);
    let isSettled = false;
    left.isStalled = true;
    const put = client.call(PUT, { name: file, data: [data], after: 0 }, { signal: sending.signal });
    put.catch(() => isSettled = true);
    sending.abort(new Error("enough"));
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    assertEquals(isSettled, false);
    left.resume();
    const putXid = await takeCall(right);
    await assertRejects(() => put, Error, "enough");

    // Before the reply: it is received, and dropped.
    const waiting = new AbortController();
    const into = new Uint8Array(20_000);
    const get = client.call(GET, file, { into, signal: waiting.signal });
    const getXid = await takeCall(right);
    waiting.abort(new Error("enough"));
    await assertRejects(() => get, Error, "enough");
    right.send([words(LAST | 28, putXid, 1, 0, 0, 0, 0, 1)]);
    right.send([words(LAST | (36 + 20_000), getXid, 1, 0, 0, 0, 0, 7, 20_000), pattern(20_000), words(9)]);

    // In the middle of the contents: the rejection waits for the last of them.
    const placing = new AbortController();
    const middle = client.call(GET, file, { into, signal: placing.signal });
    const middleXid = await takeCall(right);
    assertEquals(into, new Uint8Array(20_000), "the dropped reply went nowhere");
    isSettled = false;
    middle.catch(() => isSettled = true);
    right.send([words(LAST | (36 + 20_000), middleXid, 1, 0, 0, 0, 0, 7, 20_000), pattern(10_000)]);
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    assertEquals(into[1], 7);
    placing.abort(new Error("enough"));
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    assertEquals(isSettled, false);
    right.send([new Uint8Array(10_000), words(9)]);
    await assertRejects(() => middle, Error, "enough");
    const ping = client.ping();
    right.send([words(LAST | 24, await takeCall(right), 1, 0, 0, 0, 0)]);
    await ping;
  }));

Deno.test("the loss of the connection rejects everything that is outstanding, wherever it was", () =>
  withServerByHand(async ({ client, left, right, transport }) => {
    const into = new Uint8Array(20_000);
    const calls = Array.from({ length: 100 }, () => client.call(GET, file, { into }));
    const ends = Promise.allSettled(calls);
    const xid = await takeCall(right);
    right.send([words(LAST | (36 + 20_000), xid, 1, 0, 0, 0, 0, 7, 20_000), pattern(10_000)]);
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    const error = new Error("connection reset");
    left.end(error);
    for (const end of await ends) assertEquals(end, { status: "rejected", reason: error });
    assertEquals(await transport.closed, error);
    await assertRejects(() => client.ping(), Error, "connection reset");
  }));

Deno.test("an abort that has to wait for too long gives the connection up", async () => {
  const [left] = streamPair();
  const transport = new TcpClientTransport(left, { abortGraceMs: 5 });
  const client = new RpcClient(transport, { program: STORE });
  left.isStalled = true;
  const controller = new AbortController();
  const put = client.call(PUT, { name: file, data: [pattern(50_000)], after: 0 }, { signal: controller.signal });
  const ping = assertRejects(() => client.ping(), ProtocolError, "given up");
  controller.abort(new Error("enough"));
  await assertRejects(() => put, Error, "enough");
  await ping;
  assert(left.isEnded);
});

Deno.test("a reply that is told of before its call has left is held back until then", () =>
  withServerByHand(async ({ client, left, right }) => {
    // The end of the call is stuck behind a stalled stream: only its head gets out.
    const data = pattern(50_000);
    let isSettled = false;
    const put = client.call(PUT, { name: file, data: [data], after: 0 }).finally(() => isSettled = true);
    const xid = new DataView((await receive(right, 8)).buffer).getUint32(4);
    left.isStalled = true;
    right.send([words(LAST | 28, xid, 1, 0, 0, 0, 0, 1)]);
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    assertEquals(isSettled, false);
    left.resume();
    await receive(right, 40 + 12 + 4 + 50_000 + 4 - 4);
    assertEquals(await put, 1);
  }));

Deno.test("random bytes to a server: answers or the end, and never a leak", async () => {
  const seed = 99;
  const random = seeded(seed);
  for (let round = 0; round < 200; round++) {
    const [left, right] = streamPair({ chunkBytes: 1 + random(2000) });
    const pool = new CountingPool();
    const server = new TcpServerTransport(right, { pool, recordBytesMax: 20_000 });
    new RpcServer({ services: [service(STORE, new Store().handlers)] }).serve(server);
    const pieces: Uint8Array[] = [];
    for (let i = 0; i < 20; i++) {
      const body = random(3) === 0 ? nullCall(i) : pattern(random(12_000));
      const length = random(5) === 0 ? random(30_000) : body.byteLength;
      pieces.push(words((random(4) === 0 ? 0 : LAST) + length), body);
    }
    left.send(pieces.filter((piece) => piece.byteLength > 0), () => left.isEnded || left.close());
    receiveForever(left);
    await server.closed;
    await server.close();
    assertEquals(pool.lent, 0, `seed ${seed}, round ${round}`);
  }
});

Deno.test("random bytes to a client: every call settles, and the connection ends or goes on", async () => {
  const seed = 77;
  const random = seeded(seed);
  for (let round = 0; round < 300; round++) {
    await withServerByHand(async ({ client, right }) => {
      const into = new Uint8Array(10_000);
      const calls = Array.from({ length: 4 }, () => client.call(GET, file, { into }));
      const ends = Promise.allSettled(calls);
      const xids: number[] = [];
      for (let i = 0; i < 4; i++) xids.push(await takeCall(right));
      for (let i = 0; i < 4 && !right.isEnded; i++) {
        const xid = random(9) === 0 ? random(2 ** 32) : xids[i];
        const body = join([words(xid, 1, 0, 0, 0, 0, 7, random(12_000)), pattern(random(12_000))]);
        for (let flips = random(3); flips > 0; flips--) body[random(40)] ^= 1 << random(8);
        right.send([words(LAST + body.byteLength - (random(5) === 0 ? random(30) : 0)), body]);
        for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      }
      for (let turn = 0; turn < 200; turn++) await Promise.resolve();
      if (!right.isEnded) right.end(new Error("over"));
      assertEquals((await ends).length, 4, `seed ${seed}, round ${round}`);
    });
  }
});

/** Takes whatever comes. */
function receiveForever(stream: FakeStream): void {
  if (!stream.isEnded) {
    stream.receive([new Uint8Array(4)], ({ status }) => status === "success" && receiveForever(stream));
  }
}
