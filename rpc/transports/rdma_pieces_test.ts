/** The server's end of RPC-over-RDMA with bulk items in pieces, against a client played by the test. */
import { assertEquals } from "@std/assert";
import { join, pattern, words } from "../_testing/bytes.ts";
import {
  ask,
  decodeRdma,
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
import { decodeReplyHeader } from "../wire/rpc_message.ts";
import { XdrReader } from "../xdr/mod.ts";
import { Access } from "./verbs.ts";

const { PUT, SUM, POUR, DRAW } = STORE.procedures;
const file = new TextEncoder().encode("a file");

Deno.test("a long bulk item is handed over piece by piece, across its segments and with its padding", () =>
  withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
    const { store, client, pool } = setup;
    for (
      const [length, pieces] of [[10_000, []], [10_001, [10_000, 4]], [45_678, [
        10_000,
        10_000,
        10_000,
        10_000,
        5_680,
      ]]] as const
    ) {
      store.pieces.length = 0;
      const data = pattern(length);
      const sent = join([data, new Uint8Array(-length & 3)]);
      const { bytes, position } = rpcCall(5, POUR, { name: file, data: [data], after: 2 });
      const lengths = [1, 0, 9_000, sent.byteLength - 9_001];
      const reads = openCut(setup, sent, lengths, Access.RemoteRead).map((segment) => ({ position, ...segment }));
      const { body } = await ask(setup, rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
      // the handler of this test does not know where the padding begins
      const got = pieces.length === 0 ? data : sent;
      assertEquals(resultsOf(body), words(got.byteLength + 2));
      assertEquals(store.data.get(file.join()), got);
      assertEquals(store.pieces, [...pieces]);
    }
    assertEquals(pool.lent, 0);
    client.send(rdmaMessage({ xid: 6 }, rpcCall(6, POUR, { name: file, data: [], after: 2 }).bytes));
    assertEquals((await client.take()).length, 1);
  }));

Deno.test("streams hold no more than the budget, come one behind the other, and hold up no call without payload", () =>
  withServer({ pieceBytes: 10_000, payloadBudgetBytes: 25_000 }, async (setup) => {
    const { store, client, pool, qp } = setup;
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const long = pattern(40_000);
    for (let i = 0; i < 3; i++) {
      const { bytes, position } = rpcCall(i, POUR, { name: Uint8Array.of(i), data: [long], after: 0 });
      const reads = [{ position, ...open(setup, long, Access.RemoteRead) }];
      client.send(rdmaMessage({ xid: i, chunks: { reads } }, bytes));
    }
    client.send(rdmaMessage({ xid: 3 }, rpcCall(3, SUM, [1]).bytes));
    await settle();
    assertEquals([pool.lent, store.pieces], [2, [10_000]]);
    assertEquals(qp.posted.filter(({ opcode }) => opcode === "read").length, 2);
    assertEquals((await client.take()).length, 1);
    resolve();
    assertEquals((await client.take()).length, 3);
    for (let i = 0; i < 3; i++) assertEquals(store.data.get(String(i)), long);
    assertEquals([pool.lent, store.pieces.length], [0, 12]);
  }));

Deno.test("a handler that has enough of a stream: the rest is dropped, the next call is served", () =>
  withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
    const { store, client, pool } = setup;
    const data = pattern(50_000);
    for (const enough of [1, 2, Infinity]) {
      store.enough = enough;
      store.pieces.length = 0;
      const { bytes, position } = rpcCall(5, POUR, { name: file, data: [data], after: 2 });
      const reads = [{ position, ...open(setup, data, Access.RemoteRead) }];
      client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
      const { message } = await client.takeOne();
      const reader = new XdrReader(decodeRdma(message).body);
      assertEquals(decodeReplyHeader(reader).status, enough === Infinity ? "SUCCESS" : "SYSTEM_ERR");
      assertEquals([store.pieces.length, pool.lent], [Math.min(enough, 5), 0]);
    }
  }));

Deno.test("a reply waits for the Reads of its call, from under which it would take the memory", () =>
  withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
    const { store, client, qp, pool } = setup;
    const data = pattern(50_000);
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const { bytes, position } = rpcCall(5, POUR, { name: file, data: [data], after: 2 });
    const reads = [{ position, ...open(setup, data, Access.RemoteRead) }];
    client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
    await settle();
    qp.isStalled = true;
    store.enough = 2;
    resolve();
    await settle();
    // the second piece has been taken, and the third is under way
    assertEquals([store.pieces.length, pool.lent, qp.posted.map(({ opcode }) => opcode)], [
      2,
      1,
      Array(3).fill("read"),
    ]);
    qp.resume();
    await client.takeOne();
    assertEquals([pool.lent, qp.posted.at(-1)?.opcode], [0, "send"]);
  }));

Deno.test("a stream that nobody takes, and one whose length is another than its word says, are garbage", () =>
  withServer({ pieceBytes: 10_000 }, async (setup) => {
    const { store, client, pool } = setup;
    const data = pattern(20_000);
    const elsewhere = (procedure: typeof PUT, claimed: number, at = 0) => {
      const { bytes, position } = rpcCall(5, procedure, { name: file, data: [new Uint8Array(claimed)], after: 2 });
      const reads = [{ position: position + at, ...open(setup, data, Access.RemoteRead) }];
      client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
    };
    elsewhere(PUT, 20_000);
    elsewhere(POUR, 19_000);
    elsewhere(POUR, 20_000, -4);
    elsewhere(POUR, 20_000, 4);
    const statuses = (await client.take()).map(({ message }) =>
      decodeReplyHeader(new XdrReader(decodeRdma(message).body)).status
    );
    assertEquals(statuses, Array(4).fill("GARBAGE_ARGS"));
    assertEquals([store.puts, store.pieces.length, pool.lent], [0, 0, 0]);
  }));

Deno.test("a client that vanishes while its stream is taken", async () => {
  const data = pattern(50_000);
  const { bytes, position } = rpcCall(5, POUR, { name: file, data: [data], after: 2 });
  for (const when of ["pull", "call"]) {
    await withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
      const { client, qp, store, transport, pool } = setup;
      const { promise, resolve } = Promise.withResolvers<void>();
      store.wait = promise;
      const reads = [{ position, ...open(setup, data, Access.RemoteRead) }];
      qp.isStalled = when === "pull";
      client.send(rdmaMessage({ xid: 5, chunks: { reads } }, bytes));
      await settle();
      assertEquals(store.pieces.length, when === "pull" ? 0 : 1);
      const error = new Error("connection reset");
      qp.end(error);
      assertEquals(await transport.closed, error);
      // what the handler is at work on stays its own until it is done
      assertEquals(pool.lent, when === "pull" ? 0 : 1);
      resolve();
      await settle();
      assertEquals(store.data.size, 0);
    });
  }
});

Deno.test("a long result is pushed piece by piece into the segments of its Write chunk, in front of the reply", () =>
  withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
    const { store, qp, pool } = setup;
    const data = pattern(45_678);
    store.data.set(file.join(), data);
    for (
      const [most, pieces] of [[0, []], [1, [1]], [10_000, [10_000]], [45_678, [
        10_000,
        10_000,
        10_000,
        10_000,
        5_678,
      ]]] as const
    ) {
      store.pieces.length = 0;
      qp.posted.length = 0;
      const into = new Uint8Array(50_000);
      const lengths = [1, 0, 15_000, 34_999];
      const write = openCut(setup, into, lengths, Access.RemoteWrite);
      const { chunks, body } = await ask(
        setup,
        rdmaMessage({ xid: 5, chunks: { writes: [write] } }, rpcCall(5, DRAW, { name: file, most }).bytes),
      );
      assertEquals(resultsOf(body), words(7, most, 9));
      assertEquals(into.subarray(0, most), data.subarray(0, most));
      assertEquals(into.subarray(most), new Uint8Array(50_000 - most));
      const used = [Math.min(1, most), 0, Math.min(15_000, Math.max(0, most - 1)), Math.max(0, most - 15_001)];
      assertEquals(chunks.writes[0].map(({ length }) => length), used);
      assertEquals(store.pieces, [...pieces]);
      assertEquals(qp.posted.at(-1)?.opcode, "send");
      assertEquals(pool.lent, 0);
    }
  }));

Deno.test("pieces of results hold no more than the budget, and no call for ever", () =>
  withServer({ pieceBytes: 10_000, payloadBudgetBytes: 25_000 }, async (setup) => {
    const { store, client, pool, qp } = setup;
    store.data.set(file.join(), pattern(40_000));
    qp.isStalled = true;
    for (let i = 0; i < 3; i++) {
      const writes = [[open(setup, new Uint8Array(40_000), Access.RemoteWrite)]];
      client.send(rdmaMessage({ xid: i, chunks: { writes } }, rpcCall(i, DRAW, { name: file, most: 40_000 }).bytes));
    }
    client.send(rdmaMessage({ xid: 3 }, rpcCall(3, SUM, [1]).bytes));
    await settle();
    assertEquals([pool.lent, store.pieces], [2, [10_000, 10_000]]);
    qp.resume();
    assertEquals((await client.take()).length, 4);
    assertEquals([pool.lent, store.pieces.length], [0, 12]);
  }));

Deno.test("a handler that fails between pieces of its result, and one whose client vanishes there", async () => {
  const message = (setup: ServerUnderTest) => {
    const writes = [[open(setup, new Uint8Array(40_000), Access.RemoteWrite)]];
    return rdmaMessage({ xid: 5, chunks: { writes } }, rpcCall(5, DRAW, { name: file, most: 40_000 }).bytes);
  };
  await withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
    setup.store.data.set(file.join(), pattern(40_000));
    for (const enough of [1, 3]) {
      setup.store.enough = enough;
      setup.store.pieces.length = 0;
      const { body } = await ask(setup, message(setup));
      assertEquals(decodeReplyHeader(new XdrReader(body)).status, "SYSTEM_ERR");
      assertEquals([setup.store.pieces.length, setup.pool.lent], [enough, 0]);
    }
  });
  for (const when of ["taken", "pushed"]) {
    await withServer({ pieceBytes: 10_000, payloadBudgetBytes: 20_000 }, async (setup) => {
      const { client, qp, store, transport, pool } = setup;
      store.data.set(file.join(), pattern(40_000));
      const { promise, resolve } = Promise.withResolvers<void>();
      if (when === "taken") store.wait = promise;
      qp.isStalled = true;
      client.send(message(setup));
      await settle();
      assertEquals(store.pieces.length, when === "taken" ? 1 : 2);
      const error = new Error("connection reset");
      qp.end(error);
      assertEquals(await transport.closed, error);
      assertEquals(pool.lent, when === "taken" ? 1 : 0);
      resolve();
      await settle();
    });
  }
});
