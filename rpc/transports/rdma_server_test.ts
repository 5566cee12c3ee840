/** The server's end of RPC-over-RDMA, against a client played by the test. */
import { assert, assertEquals } from "@std/assert";
import { join, pattern, seeded, words } from "../_testing/bytes.ts";
import {
  ask,
  open,
  openCut,
  rdmaMessage,
  resultsOf,
  rpcCall,
  type ServerUnderTest,
  settle,
  withServer,
} from "../_testing/rdma_by_hand.ts";
import { STORE } from "../_testing/store.ts";
import type { IncomingCall } from "../transport.ts";
import { decodeReplyHeader } from "../wire/rpc_message.ts";
import { decodeError, decodeFixedHeader, RdmaError } from "../wire/rpc_rdma.ts";
import { DEFAULT_SETTINGS, encodeCmPrivateData } from "../wire/rpc_rdma_cm.ts";
import { voidType, XdrReader } from "../xdr/mod.ts";
import { Access } from "./verbs.ts";

const { PUT, GET, SUM, POUR, DRAW } = STORE.procedures;
const PING = { number: 0, args: voidType };
const file = new TextEncoder().encode("a file");

/** Sends a message that is to be refused, and tells how. */
async function refused(setup: ServerUnderTest, message: Uint8Array): Promise<number> {
  setup.client.send(message);
  const { message: answer, invalidatedStag } = await setup.client.takeOne();
  const fixed = decodeFixedHeader(answer);
  assertEquals([fixed.xid, fixed.version, fixed.proc, invalidatedStag], [
    decodeFixedHeader(message).xid,
    1,
    4,
    undefined,
  ]);
  return decodeError(answer).code;
}

Deno.test("a Read chunk is pulled segment by segment, with its padding or without", () =>
  withServer({}, async (setup) => {
    const data = pattern(20_001);
    for (const sent of [data, join([data, new Uint8Array(3)])]) {
      const { bytes, position } = rpcCall(5, PUT, { name: file, data: [data], after: 2 });
      const lengths = [1, 0, 10_000, 3, sent.byteLength - 10_004];
      const reads = openCut(setup, sent, lengths, Access.RemoteRead).map((segment) => ({ position, ...segment }));
      const { xid, credits, body } = await ask(setup, rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
      assertEquals([xid, credits], [5, 32]);
      assertEquals(resultsOf(body), words(20_003));
      assertEquals(setup.store.data.get(file.join()), data);
    }
  }));

Deno.test("a position-zero call, whole and with its bulk item apart", () =>
  withServer({}, async (setup) => {
    const numbers = Array.from({ length: 5000 }, () => 1);
    const sum = rpcCall(5, SUM, numbers).bytes;
    const reads = openCut(setup, sum, [44, 10_000, 10_000], Access.RemoteRead).map((segment) => ({
      position: 0,
      ...segment,
    }));
    const summed = await ask(setup, rdmaMessage({ xid: 5, proc: 1, chunks: { reads } }));
    assertEquals(resultsOf(summed.body), words(5000));

    const data = pattern(9000);
    const { bytes, position } = rpcCall(6, PUT, { name: file, data: [data], after: 2 });
    const both = [
      { position: 0, ...open(setup, bytes, Access.RemoteRead) },
      { position, ...open(setup, data, Access.RemoteRead) },
    ];
    const put = await ask(setup, rdmaMessage({ xid: 6, proc: 1, chunks: { reads: both } }));
    assertEquals(resultsOf(put.body), words(9002));
    assertEquals(setup.store.data.get(file.join()), data);
  }));

Deno.test("contents go to the Write chunk from where the handler left them; segments return with what was used", () =>
  withServer({}, async (setup) => {
    setup.store.data.set(file.join(), pattern(10_001));
    const into = new Uint8Array(20_000);
    // As the Linux client does: one more segment for padding, under an STag that it keeps.
    const writes = [openCut(setup, into, [4000, 4000, 4000, 4], Access.RemoteWrite)];
    const reply = await ask(setup, rdmaMessage({ xid: 5, chunks: { writes } }, rpcCall(5, GET, file).bytes));
    assertEquals(reply.chunks.writes[0].map(({ length }) => length), [4000, 4000, 2001, 0]);
    assertEquals(resultsOf(reply.body), words(7, 10_001, 9), "without contents and padding");
    assertEquals(join([into.subarray(0, 10_001), new Uint8Array(9999)]), into);
    assertEquals(into.subarray(0, 10_001), pattern(10_001));
    const pushes = setup.qp.posted.filter(({ opcode }) => opcode === "write");
    assertEquals(pushes.map(({ local }) => local.map(({ length }) => length)), [[4000], [4000], [2001]]);
    assert(pushes.every(({ local: [{ region }] }) => region.byteLength > 1 << 20), "not from the pool");
  }));

Deno.test("a Write chunk is used for little, too, and returned empty where there is nothing", () =>
  withServer({}, async (setup) => {
    const into = new Uint8Array(8000);
    const spare = open(setup, new Uint8Array(10), Access.RemoteWrite);
    for (const length of [3, 0]) {
      setup.store.data.set(file.join(), pattern(length));
      const writes = [[open(setup, into, Access.RemoteWrite)], [spare]];
      const reply = await ask(setup, rdmaMessage({ xid: 5, chunks: { writes } }, rpcCall(5, GET, file).bytes));
      assertEquals(reply.chunks.writes.map(([segment]) => segment.length), [length, 0]);
      assertEquals(resultsOf(reply.body), words(7, length, 9));
    }
    const failed = await ask(
      setup,
      rdmaMessage(
        { xid: 6, chunks: { writes: [[spare]] } },
        rpcCall(6, { number: 99, args: voidType }, undefined).bytes,
      ),
    );
    assertEquals(failed.chunks.writes, [[{ ...spare, length: 0 }]]);
    assertEquals(decodeReplyHeader(new XdrReader(failed.body)).status, "PROC_UNAVAIL");
  }));

Deno.test("a long reply goes to the Reply chunk, a short one leaves it unused", () =>
  withServer({}, async (setup) => {
    const into = new Uint8Array(12_000);
    for (const length of [100, 9001]) {
      setup.store.data.set(file.join(), pattern(length));
      const reply = openCut(setup, into, [10, 8000, 3990], Access.RemoteWrite);
      const answer = await ask(setup, rdmaMessage({ xid: 5, chunks: { reply } }, rpcCall(5, GET, file).bytes));
      const whole = join([words(5, 1, 0, 0, 0, 0, 7, length), pattern(length), new Uint8Array(-length & 3), words(9)]);
      if (length === 100) {
        assertEquals([answer.proc, answer.chunks.reply?.map((segment) => segment.length)], [0, [0, 0, 0]]);
        assertEquals(answer.body, whole);
      } else {
        assertEquals([answer.proc, answer.body.byteLength], [1, 0]);
        assertEquals(answer.chunks.reply?.map((segment) => segment.length), [10, 8000, whole.byteLength - 8010]);
        assertEquals(into.subarray(0, whole.byteLength), whole);
      }
    }
  }));

Deno.test("a reply for which there is no room is refused with ERR_CHUNK", () =>
  withServer({}, async (setup) => {
    setup.store.data.set(file.join(), pattern(9000));
    const small = () => open(setup, new Uint8Array(8999), Access.RemoteWrite);
    const call = rpcCall(5, GET, file).bytes;
    assertEquals(
      await refused(setup, rdmaMessage({ xid: 5, chunks: { writes: [[small()]] } }, call)),
      RdmaError.ERR_CHUNK,
    );
    assertEquals(
      await refused(setup, rdmaMessage({ xid: 5, chunks: { reply: [small()] } }, call)),
      RdmaError.ERR_CHUNK,
    );
    assertEquals(await refused(setup, rdmaMessage({ xid: 5 }, call)), RdmaError.ERR_CHUNK);
    await ask(setup, rdmaMessage({ xid: 6 }, rpcCall(6, PING, undefined).bytes));
  }));

Deno.test("what makes no call is refused by name, and the connection lives on", () =>
  withServer({ readBytesMax: 100_000 }, async (setup) => {
    const { bytes } = rpcCall(5, PING, undefined);
    const segment = open(setup, new Uint8Array(100_001), Access.RemoteRead);
    const hostile: [string, Uint8Array, number][] = [
      ["another version", words(5, 2, 32, 0, 0, 0, 0), RdmaError.ERR_VERS],
      ["RDMA_MSGP", words(5, 1, 32, 2, 0, 0, 0, 0, 0), RdmaError.ERR_CHUNK],
      ["an unknown procedure", words(5, 1, 32, 9), RdmaError.ERR_CHUNK],
      ["a header without lists", words(5, 1, 32, 0), RdmaError.ERR_CHUNK],
      ["a cut list", words(5, 1, 32, 0, 1, 40), RdmaError.ERR_CHUNK],
      ["an endless list", rdmaMessage({ xid: 5 }).fill(1, 16), RdmaError.ERR_CHUNK],
      ["an empty Write chunk", words(5, 1, 32, 0, 0, 1, 0, 0, 0), RdmaError.ERR_CHUNK],
      ["a long call of nothing", rdmaMessage({ xid: 5, proc: 1 }), RdmaError.ERR_CHUNK],
      [
        "a huge Read chunk",
        rdmaMessage({ xid: 5, chunks: { reads: [{ position: 40, ...segment }] } }, bytes),
        RdmaError.ERR_CHUNK,
      ],
      [
        "a Read chunk behind the message",
        rdmaMessage({ xid: 5, chunks: { reads: [{ position: 44, ...segment, length: 4 }] } }, bytes),
        RdmaError.ERR_CHUNK,
      ],
    ];
    for (const [what, message, code] of hostile) assertEquals(await refused(setup, message), code, what);
    for (const message of [words(5, 1, 32, 4, 2), words(5, 1, 32, 3)]) setup.client.send(message);
    assertEquals(await setup.client.take(), [], "RDMA_ERROR and RDMA_DONE want no answer");
    setup.client.send(rdmaMessage({ xid: 5 }, words(5, 1, 0, 0, 0, 0)));
    assertEquals(await setup.client.take(), [], "nor does a reply");
    await ask(setup, rdmaMessage({ xid: 6 }, rpcCall(6, PING, undefined).bytes));
    assertEquals(setup.qp.receivesPosted, 64);
  }));

Deno.test("a message without a whole fixed header ends the connection", async () => {
  for (let length = 0; length < 16; length++) {
    await withServer({}, async ({ client, transport }) => {
      client.send(new Uint8Array(length));
      const error = await transport.closed;
      assertEquals(error?.name, "WireError");
      assert(client.qp.isEnded);
    });
  }
});

Deno.test("chunks that name memory that is not there end the connection, and nothing leaks", async () => {
  const data = pattern(9000);
  const { bytes, position } = rpcCall(5, PUT, { name: file, data: [data], after: 2 });
  const get = rpcCall(5, GET, file).bytes;
  for (const what of ["unknown", "out of bounds", "not readable", "second of two", "not writable", "Reply chunk"]) {
    await withServer({}, async (setup) => {
      setup.store.data.set(file.join(), pattern(8000));
      const good = open(setup, data, Access.RemoteRead);
      const bad = {
        "unknown": { ...good, stag: 77 },
        "out of bounds": { ...good, offset: good.offset + 1n },
        "not readable": open(setup, data, Access.RemoteWrite),
        "second of two": { ...good, offset: 0xffff_ffff_ffff_fff0n },
      }[what];
      if (bad !== undefined) {
        const reads = [...(what === "second of two" ? [good] : []), bad].map((segment) => ({ position, ...segment }));
        setup.client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
      } else {
        setup.client.send(
          rdmaMessage({ xid: 5, chunks: what === "Reply chunk" ? { reply: [good] } : { writes: [[good]] } }, get),
        );
      }
      assert(await setup.transport.closed instanceof Error, what);
      assertEquals(setup.store.puts, 0, what);
    });
  }
});

Deno.test("the call's STag is invalidated where it is the only one and the client can take it", async () => {
  const settings = encodeCmPrivateData(DEFAULT_SETTINGS);
  for (
    const [privateData, cuts, expected] of [[undefined, 1, true], [undefined, 2, false], [settings, 1, false]] as const
  ) {
    await withServer(privateData === undefined ? {} : { privateData }, async (setup) => {
      const into = new Uint8Array(8000);
      const writes = [openCut(setup, into, Array(cuts).fill(4000), Access.RemoteWrite)];
      const reply = await ask(setup, rdmaMessage({ xid: 5, chunks: { writes } }, rpcCall(5, GET, file).bytes));
      assertEquals(reply.invalidatedStag, expected ? writes[0][0].stag : undefined);
    });
  }
});

Deno.test("grants are what was asked, within reason", () =>
  withServer({ creditsMax: 8 }, async (setup) => {
    for (const [asked, granted] of [[0, 1], [5, 5], [8, 8], [0xffffffff, 8]]) {
      const reply = await ask(setup, rdmaMessage({ xid: 5, credits: asked }, rpcCall(5, PING, undefined).bytes));
      assertEquals(reply.credits, granted);
    }
  }));

Deno.test("a client that uses more credits than it has runs out of receives, and its calls of memory do not leak", () =>
  withServer({ creditsMax: 4 }, async ({ client, store, transport }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const { bytes } = rpcCall(5, PUT, { name: file, data: [], after: 2 });
    for (let i = 0; i < 9; i++) client.send(rdmaMessage({ xid: 5 }, bytes));
    assertEquals((await transport.closed)?.message, "a Send without a receive");
    assertEquals(store.puts, 8);
    resolve();
    await settle();
  }));

Deno.test("calls that have much to be pulled wait for each other", () =>
  withServer({ payloadBudgetBytes: 25_000 }, async (setup) => {
    const { store, client, pool } = setup;
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    for (let i = 0; i < 6; i++) {
      const name = Uint8Array.of(i);
      const data = pattern(i === 5 ? 30_000 : 10_000);
      const { bytes, position } = rpcCall(i, PUT, { name, data: [data], after: 0 });
      const reads = [{ position, ...open(setup, data, Access.RemoteRead) }];
      client.send(rdmaMessage({ xid: i, chunks: { reads } }, bytes));
    }
    await settle();
    assertEquals([store.puts, pool.lent], [2, 2]);
    resolve();
    assertEquals((await client.take()).length, 6);
    assertEquals(store.data.get("5"), pattern(30_000));
  }));

Deno.test("calls that have much to be pushed wait for each other too, and hold up no others", () =>
  withServer({ payloadBudgetBytes: 25_000 }, async (setup) => {
    const { client, qp, store, pool } = setup;
    store.data.set(file.join(), pattern(9_000));
    qp.isStalled = true;
    for (let i = 0; i < 4; i++) {
      const writes = [[open(setup, new Uint8Array(10_000), Access.RemoteWrite)]];
      client.send(rdmaMessage({ xid: i, chunks: { writes } }, rpcCall(i, GET, file).bytes));
    }
    client.send(rdmaMessage({ xid: 4 }, rpcCall(4, SUM, [1]).bytes));
    await settle();
    assertEquals([pool.lent, qp.posted.map(({ opcode }) => opcode)], [2, ["write", "send", "write", "send", "send"]]);
    qp.resume();
    assertEquals((await client.take()).length, 5);
  }));

Deno.test("a pool without memory ends the connection that asked for it", () =>
  withServer({ readBytesMax: 1 << 30 }, async (setup) => {
    const { bytes, position } = rpcCall(5, PUT, { name: file, data: [new Uint8Array(4)], after: 0 });
    const reads = [{ position, stag: 1, length: 1 << 29, offset: 0n }];
    setup.client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
    assertEquals((await setup.transport.closed)?.message, "the pool is empty");
  }));

Deno.test("a client that vanishes: in the middle of a pull, of a call, of a reply", async () => {
  const data = pattern(9000);
  const { bytes, position } = rpcCall(5, PUT, { name: file, data: [data], after: 2 });
  for (const when of ["pull", "call", "reply"]) {
    await withServer({}, async (setup) => {
      const { client, qp, store, transport } = setup;
      const { promise, resolve } = Promise.withResolvers<void>();
      store.wait = promise;
      const reads = [{ position, ...open(setup, data, Access.RemoteRead) }];
      qp.isStalled = when === "pull";
      client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
      await settle();
      assertEquals(store.puts, when === "pull" ? 0 : 1);
      if (when === "reply") {
        qp.isStalled = true;
        resolve();
        await settle();
      }
      const error = new Error("connection reset");
      qp.end(error);
      assertEquals(await transport.closed, error);
      resolve();
      await settle();
    });
  }
});

Deno.test("a server that closes answers the calls under way first, and takes no new ones", () =>
  withServer({}, async (setup) => {
    const { client, store, transport } = setup;
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    client.send(rdmaMessage({ xid: 5 }, rpcCall(5, PUT, { name: file, data: [], after: 2 }).bytes));
    await settle();
    const closing = transport.close();
    client.send(rdmaMessage({ xid: 6 }, rpcCall(6, PUT, { name: file, data: [], after: 2 }).bytes));
    await settle();
    resolve();
    await closing;
    assertEquals(store.puts, 1);
    const answers = await client.take();
    assertEquals(answers.map(({ message }) => decodeFixedHeader(message).xid), [5]);
  }));

Deno.test("replies from memory of the handler's own: copied if short, in place if long", () =>
  withServer({}, async (setup) => {
    const { client, qp, domain, transport } = setup;
    for (const length of [10, 50_000]) {
      const data = pattern(length);
      transport.onCall = (call: IncomingCall) =>
        call.reply({ bytes: words(5, 1, 0, 0, 0, 0, length), bulk: { position: 28, data } });
      const into = new Uint8Array(length);
      const writes = [[open(setup, into, Access.RemoteWrite)]];
      const before = domain.registrations.size;
      client.send(rdmaMessage({ xid: 5, chunks: { writes } }, rpcCall(5, GET, file).bytes));
      await client.takeOne();
      assertEquals(into, data);
      const push = qp.posted.filter(({ opcode }) => opcode === "write").at(-1)!;
      assertEquals(push.local[0].region.bytes.buffer === data.buffer, length > 10);
      assertEquals(domain.registrations.size, before);
    }
  }));

Deno.test("a call is replied to once, and lends nothing afterwards", () =>
  withServer({}, async ({ client, transport }) => {
    const failures: unknown[] = [];
    transport.onCall = (call) => {
      call.reply(undefined);
      for (const again of [() => call.reply(undefined), () => call.allocateBulk(1)]) {
        try {
          again();
        } catch (error) {
          failures.push(error);
        }
      }
    };
    client.send(rdmaMessage({ xid: 5 }, rpcCall(5, PING, undefined).bytes));
    await settle();
    assertEquals(failures.map((error) => error instanceof TypeError), [true, true]);
  }));

Deno.test("random messages: an answer, silence, or the end, and never a leak", async () => {
  const seed = 4711;
  const random = seeded(seed);
  const interesting = [0, 0, 0, 1, 1, 2, 3, 4, 32, 40, 100];
  let answered = 0;
  for (let round = 0; round < 150; round++) {
    try {
      // every other time long items go in pieces
      await withServer({ creditsMax: 16, pieceBytes: round % 2 === 0 ? undefined : 1000 }, async (setup) => {
        setup.store.data.set(file.join(), pattern(4000));
        const segment = open(setup, new Uint8Array(5000), Access.RemoteRead | Access.RemoteWrite);
        const calls = [
          rpcCall(5, PUT, { name: file, data: [], after: 2 }).bytes,
          rpcCall(5, POUR, { name: Uint8Array.of(1), data: [pattern(5000)], after: 2 }).bytes,
          rpcCall(5, DRAW, { name: file, most: 4000 }).bytes,
        ];
        for (let i = 0; i < 20 && !setup.client.qp.isEnded; i++) {
          const { stag, length, offset } = segment;
          const good = [stag, length, Number(offset >> 32n), Number(offset & 0xffffffffn)];
          const values = [5, 1, 32, random(2)];
          while (values.length < 5 + random(20)) {
            if (random(3) === 0) values.push(random(2) * 4 * random(20), ...good);
            else values.push(random(9) === 0 ? random(2 ** 32) : interesting[random(interesting.length)]);
          }
          const call = calls[random(calls.length)];
          const cut = random(4) === 0 ? random(call.byteLength) : call.byteLength;
          setup.client.send(join([words(...values), call.subarray(0, cut)]));
          answered += (await setup.client.take()).length;
        }
      });
    } catch (cause) {
      throw new Error(`seed ${seed}, round ${round}`, { cause });
    }
  }
  assert(answered > 500, `${answered} answered`);
});
