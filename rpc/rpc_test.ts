/** Clients and servers over the in-memory transport. What all transports do alike is in `transports/conformance_test.ts`. */
import { assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import {
  encodeAuthSys,
  type IncomingCall,
  memoryPair,
  type MemoryPairOptions,
  ProtocolError,
  ReplyCache,
  RpcClient,
  RpcError,
  RpcServer,
  service,
  uint32,
  type XdrMessage,
  XdrReader,
  XdrWriter,
} from "./mod.ts";
import { STORE, Store } from "./_testing/store.ts";
import { decodeReplyHeader, encodeCallHeader } from "./wire/rpc_message.ts";

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

const { PUT, SUM, FAIL, WHO } = STORE.procedures;
const name = new TextEncoder().encode("a file");

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
