/** The client's end of RPC-over-RDMA, against a server played by the test. */
import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { join, pattern, words } from "../_testing/bytes.ts";
import { type ClientUnderTest, decodeRdma, rdmaMessage, settle, withClient } from "../_testing/rdma_by_hand.ts";
import { STORE } from "../_testing/store.ts";
import { ProtocolError, RpcError, WireError } from "../errors.ts";
import { decodeCallHeader } from "../wire/rpc_message.ts";
import type { RdmaMessage, RdmaSegment } from "../wire/rpc_rdma.ts";
import { array, bulk, decode, struct, uint32, XdrReader } from "../xdr/mod.ts";
import { Access } from "./verbs.ts";

const { PUT, GET, SUM } = STORE.procedures;
const file = new TextEncoder().encode("a file");

/** The words of a successful reply's header. */
function success(xid: number, ...results: number[]): Uint8Array {
  return words(xid, 1, 0, 0, 0, 0, ...results);
}

async function takeCall({ server }: ClientUnderTest): Promise<RdmaMessage> {
  return decodeRdma((await server.takeOne()).message);
}

/** What the client lets the server see at a segment. */
function opened({ domain }: ClientUnderTest, segment: RdmaSegment, access: number): Uint8Array | undefined {
  const { stag, offset, length } = segment;
  return domain.resolve({ stag, address: offset }, { length, access });
}

/** Opens up the credits. */
async function warmUp(setup: ClientUnderTest): Promise<void> {
  const ping = setup.client.ping();
  const { xid } = await takeCall(setup);
  setup.server.send(rdmaMessage({ xid }, success(xid)));
  await ping;
}

Deno.test("a long bulk argument is offered as a Read chunk where it lies, and only until the reply", () =>
  withClient({}, async (setup) => {
    const { client, server, domain, registrationsAtRest } = setup;
    const data = pattern(100_001);
    const put = client.call(PUT, { name: file, data: [data], after: 3 });
    const call = await takeCall(setup);
    assertEquals(call.chunks.reads.length, 1);
    const [read] = call.chunks.reads;
    assertEquals([read.position, read.length], [40 + 12 + 4, 100_001]);
    assertEquals(call.body.byteLength, 40 + 12 + 4 + 4, "no contents and no padding");
    assertStrictEquals(opened(setup, read, Access.RemoteRead)?.buffer, data.buffer);
    assertEquals(opened(setup, read, Access.RemoteWrite), undefined);
    server.send(rdmaMessage({ xid: call.xid }, success(call.xid, 77)));
    assertEquals(await put, 77);
    assertEquals(opened(setup, read, Access.RemoteRead), undefined);
    assertEquals(domain.registrations.size, registrationsAtRest);
  }));

Deno.test("memory for a long bulk result is offered as a Write chunk where it lies, and only until the reply", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const into = new Uint8Array(50_000);
    const get = client.call(GET, file, { into });
    const { xid, chunks } = await takeCall(setup);
    assertEquals([chunks.reads, chunks.reply], [[], undefined]);
    const [[segment]] = chunks.writes;
    assertEquals(segment.length, 50_000);
    opened(setup, segment, Access.RemoteWrite)!.set(pattern(49_999));
    assertEquals(opened(setup, segment, Access.RemoteRead), undefined);
    const writes = [[{ ...segment, length: 49_999 }]];
    server.send(rdmaMessage({ xid, chunks: { writes } }, success(xid, 7, 49_999, 9)));
    const { tag, data, after } = await get;
    assertEquals([tag, data[0].byteLength, after], [7, 49_999, 9]);
    assertEquals(into.subarray(0, 49_999), pattern(49_999));
    assertEquals(opened(setup, segment, Access.RemoteWrite), undefined);
  }));

Deno.test("short items travel inline, both ways, and nothing is opened", () =>
  withClient({}, async (setup) => {
    const { client, server, domain, registrationsAtRest } = setup;
    const into = new Uint8Array(1000);
    const get = client.call(GET, file, { into });
    const { xid, chunks } = await takeCall(setup);
    assertEquals(chunks, { reads: [], writes: [] });
    assertEquals(domain.registrations.size, registrationsAtRest);
    server.send(rdmaMessage({ xid }, success(xid, 7, 4, 0x01020304, 9)));
    assertStrictEquals((await get).data[0].buffer, into.buffer);
    assertEquals(into.subarray(0, 5), Uint8Array.of(1, 2, 3, 4, 0));
  }));

Deno.test("a long call is a position-zero Read chunk", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const numbers = Array.from({ length: 5000 }, (_, i) => i);
    const sum = client.call(SUM, numbers);
    const call = await takeCall(setup);
    assertEquals([call.proc, call.body.byteLength, call.chunks.reads.length], [1, 0, 1]);
    const [read] = call.chunks.reads;
    assertEquals([read.position, read.length], [0, 44 + 20_000]);
    const message = opened(setup, read, Access.RemoteRead)!;
    assertEquals(message.subarray(0, 8), words(call.xid, 0));
    assertEquals(message.subarray(-4), words(4999));
    server.send(rdmaMessage({ xid: call.xid }, success(call.xid, 1)));
    await sum;
  }));

Deno.test("a long call with a bulk item: three segments, the item's where it lies", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const args = struct({ numbers: array(uint32, 5000), data: bulk(1 << 20), after: uint32 });
    const data = pattern(9001);
    const numbers = Array.from({ length: 2000 }, (_, i) => i);
    const put = client.call({ ...PUT, args }, { numbers, data: [data], after: 3 });
    const call = await takeCall(setup);
    assertEquals([call.proc, call.body.byteLength], [1, 0]);
    const segments = call.chunks.reads.map((segment) => opened(setup, segment, Access.RemoteRead)!);
    assertEquals(segments.map(({ byteLength }) => byteLength), [40 + 8004 + 4, 9001, 3 + 4]);
    assertStrictEquals(segments[1].buffer, data.buffer);
    const header = decodeCallHeader(new XdrReader(segments[0]));
    assertEquals([header.xid, header.procedure], [call.xid, PUT.number]);
    const decoded = decode(args, join(segments).subarray(40));
    assertEquals([decoded.numbers, join(decoded.data), decoded.after], [numbers, data, 3]);
    server.send(rdmaMessage({ xid: call.xid }, success(call.xid, 1)));
    assertEquals(await put, 1);
  }));

Deno.test("results that may be long get a Reply chunk, which may stay unused", () =>
  withClient({}, async (setup) => {
    const { client, server, pool } = setup;
    for (const isLong of [true, false]) {
      const get = client.call(GET, file);
      const { xid, chunks } = await takeCall(setup);
      assertEquals([chunks.reads, chunks.writes], [[], []]);
      const [segment] = chunks.reply!;
      const results = isLong ? pattern(5000) : pattern(4);
      if (isLong) {
        const reply = Uint8Array.from([...success(xid, 7, 5000), ...results, ...words(9)]);
        opened(setup, segment, Access.RemoteWrite)!.set(reply);
        server.send(rdmaMessage({ xid, proc: 1, chunks: { reply: [{ ...segment, length: reply.byteLength }] } }));
      } else {
        const reply = [{ ...segment, length: 0 }];
        server.send(rdmaMessage({ xid, chunks: { reply } }, success(xid, 7, 4), results, words(9)));
      }
      assertEquals((await get).data[0], results);
      assertEquals(pool.lent, 0);
    }
  }));

Deno.test("the server may invalidate an STag of the call, and no other", async () => {
  await withClient({}, async (setup) => {
    const { client, server, domain, registrationsAtRest } = setup;
    const get = client.call(GET, file, { into: new Uint8Array(50_000) });
    const { xid, chunks } = await takeCall(setup);
    const writes = [[{ ...chunks.writes[0][0], length: 0 }]];
    server.send(rdmaMessage({ xid, chunks: { writes } }, success(xid, 7, 0, 9)), chunks.writes[0][0].stag);
    await get;
    assertEquals(domain.registrations.size, registrationsAtRest);
  });
  await withClient({}, async (setup) => {
    const { client, server, domain, transport } = setup;
    const other = domain.register(new Uint8Array(10));
    const get = assertRejects(
      () => client.call(GET, file, { into: new Uint8Array(50_000) }),
      ProtocolError,
      "invalidated",
    );
    const { xid } = await takeCall(setup);
    server.send(rdmaMessage({ xid }, success(xid, 7, 0, 9)), other.stag);
    await get;
    assertEquals((await transport.closed as ProtocolError).code, "BadInvalidation");
  });
});

Deno.test("one call until the first reply, then as many as were granted; the others wait", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const pings = Array.from({ length: 100 }, () => client.ping());
    const grants: [number, number][] = [[3, 3], [0, 1], [5, 5], [0xffffffff, 64], [64, 64]];
    let outstanding = (await server.take()).map(({ message }) => decodeRdma(message).xid);
    assertEquals(outstanding.length, 1);
    for (const [grant, expected] of grants) {
      for (const xid of outstanding) server.send(rdmaMessage({ xid, credits: grant }, success(xid)));
      outstanding = (await server.take()).map(({ message }) => decodeRdma(message).xid);
      assertEquals(outstanding.length, Math.min(expected, outstanding.length));
      if (grant < 64) assertEquals(outstanding.length, expected);
    }
    assertEquals(setup.qp.receivesPosted, 64);
    for (const xid of outstanding) server.send(rdmaMessage({ xid }, success(xid)));
    await Promise.all(pings);
  }));

Deno.test("refusals and RDMA_ERROR fail the call, the connection lives on", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const into = new Uint8Array(50_000);
    const answers: [(xid: number) => Uint8Array, (error: unknown) => boolean][] = [
      [(xid) => words(xid, 1, 32, 4, 2), (error) => error instanceof ProtocolError && error.code === "BadChunk"],
      [
        (xid) => words(xid, 1, 32, 4, 1, 2, 3),
        (error) => error instanceof ProtocolError && error.code === "BadVersion",
      ],
      [
        (xid) => rdmaMessage({ xid }, words(xid, 1, 0, 0, 0, 3)),
        (error) => error instanceof RpcError && error.status === "PROC_UNAVAIL",
      ],
      [(xid) => rdmaMessage({ xid }, words(xid, 1, 0, 0, 0)), (error) => error instanceof WireError],
      [(xid) => rdmaMessage({ xid }, success(xid, 7, 4)), (error) => error instanceof WireError],
    ];
    for (const [answer, expected] of answers) {
      const get = client.call(GET, file, { into }).then(() => undefined, (error) => error);
      const { xid } = await takeCall(setup);
      server.send(answer(xid));
      const error = await get;
      assert(expected(error), String(error));
    }
    await warmUp(setup);
  }));

Deno.test("what no client takes: the calls fail and the connection ends, its memory untouched and given back", async () => {
  const segment = { stag: 1, length: 8, offset: 0n };
  const hostile: [string, (call: RdmaMessage) => Uint8Array, string][] = [
    ["cut short", ({ xid }) => words(xid, 1, 32), "cut short"],
    ["another version", ({ xid }) => words(xid, 2, 32, 0, 0, 0, 0), "version 2"],
    ["a reply to nothing", ({ xid }) => rdmaMessage({ xid: xid + 1000 }, success(xid + 1000)), "not asked"],
    ["RDMA_DONE", ({ xid }) => words(xid, 1, 32, 3), "rdma_proc 3"],
    ["an unknown error", ({ xid }) => words(xid, 1, 32, 4, 9), "rpc_rdma_errcode 9"],
    ["unreadable chunks", ({ xid }) => words(xid, 1, 32, 0, 5), "unreadable"],
    ["a Read list", ({ xid }) => rdmaMessage({ xid, chunks: { reads: [{ position: 0, ...segment }] } }), "Read list"],
    ["a Write chunk of its own", ({ xid }) => rdmaMessage({ xid, chunks: { writes: [[segment]] } }), "not offered"],
    [
      "more segments than offered",
      ({ xid, chunks }) => rdmaMessage({ xid, chunks: { writes: [[...chunks.writes[0], segment]] } }),
      "2 segments returned",
    ],
    [
      "more chunks than offered",
      ({ xid, chunks }) => rdmaMessage({ xid, chunks: { writes: [chunks.writes[0], [segment]] } }),
      "more Write chunks",
    ],
    [
      "more bytes than offered",
      ({ xid, chunks }) => rdmaMessage({ xid, chunks: { writes: [[{ ...chunks.writes[0][0], length: 50_001 }]] } }),
      "50001 bytes",
    ],
    [
      "a Reply chunk of its own",
      ({ xid }) => rdmaMessage({ xid, proc: 1, chunks: { reply: [segment] } }),
      "1 segments",
    ],
    ["a long reply without a chunk", ({ xid }) => rdmaMessage({ xid, proc: 1 }), "without a Reply chunk"],
  ];
  for (const [what, answer, message] of hostile) {
    await withClient({}, async (setup) => {
      await warmUp(setup);
      const { client, server, transport } = setup;
      const into = new Uint8Array(50_000);
      const other = assertRejects(() => client.ping(), Error, message, what);
      await server.takeOne();
      const get = assertRejects(() => client.call(GET, file, { into }), Error, message, what);
      server.send(answer(await takeCall(setup)));
      await get;
      await other;
      assert(await transport.closed instanceof Error, what);
      assert(server.qp.isEnded, what);
      assertEquals(into, new Uint8Array(50_000), what);
    });
  }
});

Deno.test("results that disagree with what was placed are refused", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const get = assertRejects(() => client.call(GET, file, { into: new Uint8Array(50_000) }), WireError, "were placed");
    const { xid, chunks } = await takeCall(setup);
    const writes = [[{ ...chunks.writes[0][0], length: 100 }]];
    server.send(rdmaMessage({ xid, chunks: { writes } }, success(xid, 7, 200, 9)));
    await get;
    await warmUp(setup);
  }));

Deno.test("the loss of the connection rejects every call, sent or waiting, and gives all memory back", () =>
  withClient({}, async (setup) => {
    await warmUp(setup);
    const { client, qp, transport } = setup;
    const calls = Array.from(
      { length: 100 },
      (_, i) =>
        i % 2 === 0
          ? client.call(GET, file, { into: new Uint8Array(50_000) })
          : client.call(PUT, { name: file, data: [pattern(50_000)], after: i }),
    );
    const ends = Promise.allSettled(calls);
    await settle();
    const error = new Error("connection reset");
    qp.end(error);
    for (const end of await ends) assertEquals(end, { status: "rejected", reason: error });
    assertEquals(await transport.closed, error);
    await assertRejects(() => client.ping(), Error, "connection reset");
  }));

Deno.test("a server that closes in good order ends the calls under way, too", () =>
  withClient({}, async (setup) => {
    const ping = assertRejects(() => setup.client.ping(), ProtocolError, "the server closed the connection");
    await settle();
    await setup.server.qp.close();
    await ping;
  }));

Deno.test("an abort: at once where nothing is opened, else when the reply has come", () =>
  withClient({}, async (setup) => {
    await warmUp(setup);
    const { client, server } = setup;
    const enough = new Error("enough");
    const start = (call: (signal: AbortSignal) => Promise<unknown>) => {
      const controller = new AbortController();
      const state = { error: undefined as unknown, abort: () => controller.abort(enough) };
      call(controller.signal).catch((error) => state.error = error);
      return state;
    };
    const ping = start((signal) => client.ping({ signal }));
    const pingXid = (await takeCall(setup)).xid;
    ping.abort();
    await settle();
    assertEquals(ping.error, enough);

    const into = new Uint8Array(50_000);
    const get = start((signal) => client.call(GET, file, { into, signal }));
    const { xid, chunks } = await takeCall(setup);
    get.abort();
    await settle();
    assertEquals(get.error, undefined);
    assert(opened(setup, chunks.writes[0][0], Access.RemoteWrite) !== undefined);
    const writes = [[{ ...chunks.writes[0][0], length: 0 }]];
    server.send(rdmaMessage({ xid, chunks: { writes } }, success(xid, 7, 0, 9)));
    server.send(rdmaMessage({ xid: pingXid }, success(pingXid)));
    await settle();
    assertEquals(get.error, enough);
    assertEquals(opened(setup, chunks.writes[0][0], Access.RemoteWrite), undefined);
    await warmUp(setup);
  }));

Deno.test("an abort while waiting for a credit costs nothing", () =>
  withClient({}, async (setup) => {
    const { client, server } = setup;
    const first = client.ping();
    const controller = new AbortController();
    const second = assertRejects(() => client.ping({ signal: controller.signal }), Error, "enough");
    controller.abort(new Error("enough"));
    await second;
    const { xid } = await takeCall(setup);
    server.send(rdmaMessage({ xid }, success(xid)));
    await first;
    assertEquals(await server.take(), []);
  }));

Deno.test("an abort that is not answered withdraws the memory after a while", () =>
  withClient({ abortGraceMs: 5 }, async (setup) => {
    await warmUp(setup);
    const { client, server } = setup;
    const controller = new AbortController();
    const get = client.call(GET, file, { into: new Uint8Array(50_000), signal: controller.signal });
    const { xid, chunks } = await takeCall(setup);
    controller.abort(new Error("enough"));
    await assertRejects(() => get, Error, "enough");
    assertEquals(opened(setup, chunks.writes[0][0], Access.RemoteWrite), undefined);
    // A late reply that does not touch it is dropped.
    server.send(
      rdmaMessage({ xid, chunks: { writes: [[{ ...chunks.writes[0][0], length: 0 }]] } }, success(xid, 7, 0, 9)),
    );
    await warmUp(setup);
  }));

Deno.test("memory that is registered already is opened by a window on just that part", () =>
  withClient({}, async (setup) => {
    await warmUp(setup);
    const { client, server, domain } = setup;
    const region = domain.register(pattern(100_000));
    const put = client.call(PUT, { name: file, data: [region.bytes.subarray(100, 50_100)], after: 0 });
    const { xid, chunks: { reads: [read] } } = await takeCall(setup);
    assertEquals([read.offset, read.length], [region.address + 100n, 50_000]);
    assert(read.stag !== region.stag);
    assertEquals(domain.resolve({ stag: read.stag, address: read.offset - 1n }, { length: 1, access: 1 }), undefined);
    server.send(rdmaMessage({ xid }, success(xid, 1)), read.stag);
    await put;
    assert(domain.registrations.has(region.stag));
    region.deregister();
  }));

Deno.test("plain memory in two calls at once is registered for each", () =>
  withClient({}, async (setup) => {
    await warmUp(setup);
    const { client, server, domain } = setup;
    const data = pattern(50_000);
    const calls = [1, 2].map((after) => client.call(PUT, { name: file, data: [data], after }));
    const [first, second] = (await server.take()).map(({ message }) => decodeRdma(message));
    const [{ stag }, { stag: other }] = [first.chunks.reads[0], second.chunks.reads[0]];
    server.send(rdmaMessage({ xid: first.xid }, success(first.xid, 1)));
    await calls[0];
    assertEquals([domain.registrations.has(stag), domain.registrations.has(other)], [false, true]);
    server.send(rdmaMessage({ xid: second.xid }, success(second.xid, 1)));
    await calls[1];
  }));

Deno.test("thresholds follow the server's private data", () =>
  withClient({}, ({ transport }) => {
    assertEquals(transport.thresholds, { send: 4096, receive: 4096, mayInvalidate: true });
    return Promise.resolve();
  }));
