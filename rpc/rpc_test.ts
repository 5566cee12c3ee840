/** Clients and servers over the in-memory transport, in both of its forms. */
import { assertEquals, assertInstanceOf, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import {
  array,
  type AuthSys,
  bulk,
  type BulkPlacement,
  defineProgram,
  encodeAuthSys,
  type Handlers,
  type IncomingCall,
  memoryPair,
  type MemoryPairOptions,
  opaque,
  procedure,
  ProtocolError,
  ReplyCache,
  RpcClient,
  RpcError,
  RpcServer,
  service,
  struct,
  uint32,
  voidType,
  type XdrMessage,
  XdrReader,
  XdrWriter,
} from "./mod.ts";
import { decodeReplyHeader, encodeCallHeader } from "./wire/rpc_message.ts";

const DATA_BYTES_MAX = 1 << 20;

const placement: Omit<BulkPlacement, "into"> = {
  headBytes: 8,
  locate(results) {
    if (results.byteLength < 8) return undefined;
    return { offset: 8, length: new DataView(results.buffer, results.byteOffset).getUint32(4) };
  },
};

const STORE = defineProgram({
  name: "STORE",
  number: 0x20000099,
  version: 2,
  procedures: {
    PUT: procedure({
      number: 1,
      args: struct({ name: opaque(64), data: bulk(DATA_BYTES_MAX), after: uint32 }),
      results: uint32,
      idempotent: false,
    }),
    GET: procedure({
      number: 2,
      args: opaque(64),
      results: struct({ tag: uint32, data: bulk(DATA_BYTES_MAX), after: uint32 }),
      idempotent: true,
      placement,
    }),
    SUM: procedure({ number: 3, args: array(uint32, 100_000), results: uint32, idempotent: true }),
    FAIL: procedure({ number: 4, args: uint32, results: voidType, idempotent: false }),
    WHO: procedure({ number: 5, args: voidType, results: uint32, idempotent: true }),
  },
});

class Store {
  readonly data = new Map<string, Uint8Array>();
  puts = 0;
  credentials: (AuthSys | undefined)[] = [];
  wait: Promise<void> | undefined;

  readonly handlers: Handlers<typeof STORE.procedures> = {
    PUT: ({ name, data, after }) => {
      this.puts++;
      const joined = Uint8Array.from(data.flatMap((piece) => [...piece]));
      this.data.set(name.join(), joined);
      const value = joined.byteLength + after;
      return this.wait === undefined ? value : this.wait.then(() => value);
    },
    GET: (name, context) => {
      const found = this.data.get(name.join()) ?? new Uint8Array(0);
      const memory = context.allocateBulk(found.byteLength + 10);
      memory.bytes.set(found);
      return { tag: 7, data: [memory.bytes.subarray(0, found.byteLength)], after: 9 };
    },
    SUM: (numbers) => numbers.reduce((sum, number) => sum + number, 0),
    FAIL: (how) => {
      if (how === 0) throw new Error("broken");
      if (how === 1) return Promise.reject(new Error("broken later"));
      throw new RpcError("AUTH_ERROR", { authStatus: 5 });
    },
    WHO: (_, { credential }) => {
      this.credentials.push(credential);
      return credential?.uid ?? 65534;
    },
  };
}

interface Setup {
  store: Store;
  server: RpcServer;
  client: RpcClient;
  errors: unknown[];
}

async function withServer(options: MemoryPairOptions, body: (setup: Setup) => Promise<void>): Promise<void> {
  const store = new Store();
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const server = new RpcServer({ services: [service(STORE, store.handlers)], replyCache: new ReplyCache(), onError });
  const { client: transport, server: end } = memoryPair(options);
  server.serve(end);
  await using _ = transport;
  await body({ store, server, client: new RpcClient(transport, { program: STORE }), errors });
}

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
}

const { PUT, GET, SUM, FAIL, WHO } = STORE.procedures;
const name = new TextEncoder().encode("a file");

for (const form of ["linear", "reduced"] as const) {
  Deno.test(`calls with bulk items, ${form}`, () =>
    withServer({ bulk: form }, async ({ client }) => {
      await client.ping();
      for (const length of [0, 1, 3, 4, 1000, 1021, 4096, 100_003]) {
        const data = pattern(length);
        const file = { name, data: length === 0 ? [] : [data], after: 2 };
        assertEquals(await client.call(PUT, file), length + 2);

        const into = new Uint8Array(length + 100);
        const placed = await client.call(GET, name, { into });
        assertEquals([placed.tag, placed.after], [7, 9]);
        assertEquals(into.subarray(0, length), data);
        if (length > 0) assertStrictEquals(placed.data[0].buffer, into.buffer);

        const own = await client.call(GET, name);
        assertEquals(Uint8Array.from(own.data.flatMap((piece) => [...piece])), data);
      }
    }));

  Deno.test(`long arguments without a bulk item, ${form}`, () =>
    withServer({ bulk: form }, async ({ client }) => {
      const numbers = Array.from({ length: 5000 }, (_, i) => i);
      assertEquals(await client.call(SUM, numbers), 5000 * 4999 / 2);
    }));

  Deno.test(`results too large for the memory given, ${form}`, () =>
    withServer({ bulk: form }, async ({ client }) => {
      await client.call(PUT, { name, data: [pattern(100)], after: 0 });
      await assertRejects(() => client.call(GET, name, { into: new Uint8Array(99) }));
    }));
}

Deno.test("refusals by status", () =>
  withServer({}, async ({ client, errors }) => {
    const status = async (call: () => Promise<unknown>): Promise<RpcError> => {
      const error = await assertRejects(call, RpcError);
      assertInstanceOf(error, RpcError);
      return error;
    };
    const { transport } = client;
    const other = new RpcClient(transport, { program: { ...STORE, number: 5 } });
    assertEquals((await status(() => other.ping())).status, "PROG_UNAVAIL");
    const newer = new RpcClient(transport, { program: { ...STORE, version: 3 } });
    const mismatch = await status(() => newer.ping());
    assertEquals([mismatch.status, mismatch.versions], ["PROG_MISMATCH", { low: 2, high: 2 }]);
    assertEquals((await status(() => client.call({ ...SUM, number: 77 }, []))).status, "PROC_UNAVAIL");
    assertEquals(errors, [], "nobody's handler failed");

    assertEquals((await status(() => client.call({ ...SUM, args: uint32 }, 8))).status, "GARBAGE_ARGS");
    assertEquals((await status(() => client.call({ ...WHO, args: uint32 }, 8))).status, "GARBAGE_ARGS");
    assertEquals((await status(() => client.call(FAIL, 0))).status, "SYSTEM_ERR");
    assertEquals((await status(() => client.call(FAIL, 1))).status, "SYSTEM_ERR");
    assertEquals(errors.length, 4);
    const refused = await status(() => client.call(FAIL, 2));
    assertEquals([refused.status, refused.authStatus], ["AUTH_ERROR", 5]);
  }));

Deno.test("credentials", () =>
  withServer({}, async ({ client, store }) => {
    assertEquals(await client.call(WHO, undefined), 65534);
    client.credential = encodeAuthSys({ uid: 1000, gid: 100, gids: [4] });
    assertEquals(await client.call(WHO, undefined), 1000);
    assertEquals(await client.call(WHO, undefined, { credential: encodeAuthSys({ uid: 5, gid: 1 }) }), 5);
    assertEquals(store.credentials[1], { stamp: 0, machinename: "", uid: 1000, gid: 100, gids: [4] });
    const refusals: [number, number][] = [[1, 1], [2, 2], [6, 1], [99, 1]];
    for (const [flavor, authStatus] of refusals) {
      const credential = { flavor, body: new Uint8Array(3) };
      const error = await assertRejects(() => client.call(WHO, undefined, { credential }), RpcError);
      assertEquals([error.status, error.authStatus], ["AUTH_ERROR", authStatus]);
    }
  }));

/** Hands a call to a server outside of any transport. */
async function ask(
  server: RpcServer,
  message: Uint8Array,
  address = "10.0.0.1",
  port = 1,
): Promise<XdrMessage | undefined> {
  return await new Promise((reply) => {
    const call: IncomingCall = {
      peer: { transport: "test", address, port },
      message,
      allocateBulk: (length) => ({ bytes: new Uint8Array(length), release: () => {} }),
      reply,
    };
    server.handleCall(call);
  });
}

function callMessage(xid: number, number: number, args: (writer: XdrWriter) => void, rpcVersion = 2): Uint8Array {
  const writer = new XdrWriter();
  const none = { flavor: 0, body: new Uint8Array(0) };
  const { number: program, version } = STORE;
  encodeCallHeader(writer, { xid, rpcVersion, program, version, procedure: number, credential: none, verifier: none });
  args(writer);
  return writer.finish().bytes;
}

function put(xid: number, file: string): Uint8Array {
  return callMessage(xid, PUT.number, (writer) => {
    writer.opaque(new TextEncoder().encode(file), 64);
    writer.opaque(new Uint8Array(0), 0);
    writer.uint32(0);
  });
}

Deno.test("a call that comes again gets its reply again and is not carried out twice", () =>
  withServer({}, async ({ server, store }) => {
    const first = await ask(server, put(1, "a"));
    assertEquals(await ask(server, put(1, "a"), "10.0.0.1", 2), first, "from another port");
    assertEquals(store.puts, 1);
    await ask(server, put(1, "b"));
    assertEquals(store.puts, 2, "other arguments");
    await ask(server, put(1, "a"));
    assertEquals(store.puts, 3, "which took the place of the first");
    await ask(server, put(1, "a"), "10.0.0.2");
    assertEquals(store.puts, 4, "another peer");
    await ask(server, put(2, "a"));
    assertEquals(store.puts, 5, "another xid");
  }));

Deno.test("a duplicate of a call under way is answered when that is", () =>
  withServer({}, async ({ server, store }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const first = ask(server, put(1, "a"));
    const second = ask(server, put(1, "a"), "10.0.0.1", 2);
    resolve();
    const replies = await Promise.all([first, second]);
    assertEquals(replies[0], replies[1]);
    assertEquals(store.puts, 1);
  }));

Deno.test("messages that are not calls are dropped, others that cannot be read are refused", () =>
  withServer({}, async ({ server, errors }) => {
    const good = put(9, "a");
    const reply = good.slice();
    reply[7] = 1;
    assertEquals(await ask(server, reply), undefined);
    for (let length = 0; length < good.byteLength; length++) {
      const answer = await ask(server, good.subarray(0, length));
      if (length < 8) {
        assertEquals(answer, undefined);
        continue;
      }
      assertEquals(decodeReplyHeader(new XdrReader(answer!.bytes)).status, "GARBAGE_ARGS");
    }
    assertEquals(errors.length, good.byteLength + 1);
    const newer = await ask(server, callMessage(9, 0, () => {}, 3));
    const header = decodeReplyHeader(new XdrReader(newer!.bytes));
    assertEquals([header.xid, header.status, header.versions], [9, "RPC_MISMATCH", { low: 2, high: 2 }]);
  }));

Deno.test("an abort ends the wait, closing ends every wait", () =>
  withServer({}, async ({ client, store }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    store.wait = promise;
    const controller = new AbortController();
    const file = { name, data: [], after: 0 };
    const aborted = assertRejects(() => client.call(PUT, file, { signal: controller.signal }), Error, "enough");
    const lost = assertRejects(() => client.call(PUT, { ...file, after: 1 }), ProtocolError);
    controller.abort(new Error("enough"));
    await aborted;
    await assertRejects(() => client.call(PUT, file, { signal: controller.signal }), Error, "enough");
    await client.transport.close();
    assertEquals((await lost).code, "ConnectionLost");
    await assertRejects(() => client.ping(), ProtocolError);
    assertEquals(await client.transport.closed, undefined);
    resolve();
  }));

Deno.test("misuse is told to the caller at once", () =>
  withServer({}, ({ client }) => {
    assertThrows(() => client.call(SUM, [-1]), RangeError);
    assertThrows(() => client.call(SUM, [1], { into: new Uint8Array(1) }), TypeError);
    assertThrows(
      () => new RpcServer({ services: [{ program: STORE, handlers: {} }] }),
      TypeError,
      "no handler for PUT",
    );
    const both = [service(STORE, new Store().handlers), service(STORE, new Store().handlers)];
    assertThrows(() => new RpcServer({ services: both }), TypeError, "twice");
    return Promise.resolve();
  }));
