/** What every transport must do alike. */
import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { join, pattern } from "../_testing/bytes.ts";
import { STORE, Store } from "../_testing/store.ts";
import { streamPair } from "../_testing/stream_pair.ts";
import { FakePool, verbsPair } from "../_testing/verbs_pair.ts";
import {
  type ClientTransport,
  encodeAuthSys,
  memoryPair,
  ReplyCache,
  RpcClient,
  RpcServer,
  type ServerTransport,
  service,
} from "../mod.ts";
import { BufferPool, Device } from "../../rdma/mod.ts";
import { acceptRdma, acceptTcp } from "./accept.ts";
import { connectRdma, connectTcp } from "./connect.ts";
import { encodeCmPrivateData, OUR_SETTINGS } from "../wire/rpc_rdma_cm.ts";
import { RdmaClientTransport } from "./rdma_client.ts";
import { RdmaServerTransport } from "./rdma_server.ts";
import { TcpClientTransport } from "./tcp_client.ts";
import { TcpServerTransport } from "./tcp_server.ts";

/** Makes a connection, gives its server's end to `serve`, and returns the client's. Closing that must leave nothing behind. */
type Connect = (serve: (transport: ServerTransport) => void) => ClientTransport | Promise<ClientTransport>;

function joined(make: () => { client: ClientTransport; server: ServerTransport }): Connect {
  return (serve) => {
    const { client, server } = make();
    serve(server);
    return client;
  };
}

const transports: Record<string, Connect> = {
  "memory, linear": joined(() => memoryPair({ bulk: "linear" })),
  "memory, reduced": joined(() => memoryPair({ bulk: "reduced" })),
};
for (const chunkBytes of [1, 7, 1448, 1 << 20]) {
  transports[`tcp, ${chunkBytes} bytes at once`] = joined(() => {
    const [left, right] = streamPair({ chunkBytes });
    return { client: new TcpClientTransport(left), server: new TcpServerTransport(right) };
  });
}

for (const isNegotiated of [true, false]) {
  transports[`rdma, ${isNegotiated ? "thresholds negotiated" : "without private data"}`] = joined(() => {
    const [left, right] = verbsPair();
    const privateData = isNegotiated ? encodeCmPrivateData(OUR_SETTINGS) : new Uint8Array(0);
    left.privateData = privateData;
    const server = new RdmaServerTransport(right, { pd: right.domain, pool: new FakePool(right.domain), privateData });
    return { client: new RdmaClientTransport(left, { pd: left.domain, pool: new FakePool(left.domain) }), server };
  });
}

/** Over loopback, with a device of its own for each connection. */
function overLoopback(kind: "tcp" | "rdma", crc: boolean): Connect {
  return async (serve) => {
    const device = Device.open();
    const pd = device.allocateProtectionDomain();
    const pool = new BufferPool(pd);
    const memory = { pd, pool, crc };
    const servers: ServerTransport[] = [];
    const onReady = (transport: ServerTransport) => {
      servers.push(transport);
      serve(transport);
    };
    const listener = device.listen({
      port: 0,
      onRequest: (request) => void acceptRdma(request, { ...memory, onReady }),
      onStream: (stream) => onReady(acceptTcp(stream, memory)),
    });
    const where = { hostname: "127.0.0.1", port: listener.port, ...memory };
    const client = await (kind === "rdma" ? connectRdma(device, where) : connectTcp(device, where));
    client.closed.then(async () => {
      for (const server of servers) await server.closed;
      await listener.close();
      await device.close();
      pool[Symbol.dispose]();
    });
    return client;
  };
}
transports["tcp over loopback"] = overLoopback("tcp", false);
transports["rdma over loopback"] = overLoopback("rdma", false);
transports["rdma over loopback, CRC"] = overLoopback("rdma", true);

const { PUT, GET, SUM, FAIL, WHO } = STORE.procedures;

for (const [name, connect] of Object.entries(transports)) {
  const withClient = async (body: (client: RpcClient, store: Store) => Promise<void>): Promise<void> => {
    const store = new Store();
    const dispatcher = new RpcServer({ services: [service(STORE, store.handlers)], replyCache: new ReplyCache() });
    const client = await connect((server) => dispatcher.serve(server));
    try {
      await body(new RpcClient(client, { program: STORE }), store);
    } finally {
      await client.close();
    }
  };
  const file = new TextEncoder().encode("a file");

  Deno.test(`${name}: bulk items of every size, both ways`, () =>
    withClient(async (client) => {
      await client.ping();
      for (const length of [0, 1, 3, 4, 1000, 1021, 4095, 4096, 4097, 8192, 8193, 100_003]) {
        const data = pattern(length);
        const put = { name: file, data: length === 0 ? [] : [data], after: 2 };
        assertEquals(await client.call(PUT, put), length + 2);

        for (const room of [length, length + 100]) {
          const into = new Uint8Array(room);
          const placed = await client.call(GET, file, { into });
          assertEquals([placed.tag, placed.after], [7, 9]);
          assertEquals(into.subarray(0, length), data);
          assertEquals(into.subarray(length), new Uint8Array(room - length));
          if (length > 0) assertStrictEquals(placed.data[0].buffer, into.buffer);
        }
        if (length > 4000) continue;
        const own = await client.call(GET, file);
        assertEquals(join(own.data), data);
      }
    }));

  Deno.test(`${name}: bulk items in lent memory`, () =>
    withClient(async (client) => {
      const lent = client.transport.allocateBulk(20_000);
      assertEquals(lent.bytes.byteLength, 20_000);
      lent.bytes.set(pattern(20_000));
      assertEquals(await client.call(PUT, { name: file, data: [lent.bytes.subarray(5, 15_000)], after: 0 }), 14_995);
      lent.bytes.fill(0);
      await client.call(GET, file, { into: lent.bytes.subarray(3) });
      assertEquals(lent.bytes.subarray(3, 14_998), pattern(20_000).subarray(5, 15_000));
      lent.release();
    }));

  Deno.test(`${name}: long arguments and refusals`, () =>
    withClient(async (client) => {
      for (const count of [10, 900, 1030, 2500, 20_000]) {
        const numbers = Array.from({ length: count }, (_, i) => i);
        assertEquals(await client.call(SUM, numbers), count * (count - 1) / 2);
      }
      await assertRejects(() => client.call(FAIL, 0), Error, "SYSTEM_ERR");
      await assertRejects(() => client.call(FAIL, 2), Error, "AUTH_ERROR");
      const credential = encodeAuthSys({ uid: 5, gid: 1 });
      assertEquals(await client.call(WHO, undefined, { credential }), 5);
    }));

  Deno.test(`${name}: many calls at once, with their own answers`, () =>
    withClient(async (client) => {
      const files = Array.from(
        { length: 200 },
        (_, i) => ({ name: Uint8Array.of(i), data: [pattern(i * 61)], after: i }),
      );
      files[0].data = [];
      const lengths = await Promise.all(files.map((put) => client.call(PUT, put)));
      assertEquals(lengths, files.map((_, i) => i * 62));
      const buffers = files.map((_, i) => new Uint8Array(i * 61));
      await Promise.all(files.map((put, i) => client.call(GET, put.name, { into: buffers[i] })));
      for (const [i, buffer] of buffers.entries()) assertEquals(buffer, pattern(i * 61));
    }));

  Deno.test(`${name}: results too large for the memory given`, () =>
    withClient(async (client) => {
      await client.call(PUT, { name: file, data: [pattern(100)], after: 0 });
      await assertRejects(() => client.call(GET, file, { into: new Uint8Array(99) }));
    }));

  Deno.test(`${name}: an aborted call rejects with the reason, the others go on`, () =>
    withClient(async (client, store) => {
      await client.ping(); // RDMA: one credit until the first reply
      const { promise, resolve } = Promise.withResolvers<void>();
      store.wait = promise;
      const controller = new AbortController();
      const put = { name: file, data: [pattern(20_000)], after: 0 };
      const aborted = assertRejects(() => client.call(PUT, put, { signal: controller.signal }), Error, "enough");
      await client.ping();
      controller.abort(new Error("enough"));
      resolve();
      await aborted;
      assertEquals(await client.call(PUT, put), 20_000);
      await assertRejects(() => client.call(PUT, put, { signal: controller.signal }), Error, "enough");
    }));

  Deno.test(`${name}: the end of the connection ends every call`, () =>
    withClient(async (client, store) => {
      await client.ping();
      store.wait = new Promise(() => {});
      const calls = Array.from({ length: 50 }, (_, i) =>
        client.call(PUT, { name: Uint8Array.of(i), data: [], after: 0 }));
      const ends = Promise.allSettled(calls);
      await client.ping().catch(() => {});
      await client.transport.close();
      for (const end of await ends) {
        assert(end.status === "rejected");
      }
      await assertRejects(() =>
        client.ping()
      );
      await client.transport.close();
    }));
}
