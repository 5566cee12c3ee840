/** The transports over real connections: what is copied, what is left behind, what a lost connection does. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { pattern } from "../_testing/bytes.ts";
import { STORE, Store } from "../_testing/store.ts";
import { type ClientTransport, RpcClient, RpcServer, type ServerTransport, service } from "../mod.ts";
import { BufferPool, Device, type ProtectionDomain } from "../../rdma/mod.ts";
import { acceptRdma, acceptTcp } from "./accept.ts";
import { connectRdma, connectTcp } from "./connect.ts";

const { PUT, GET } = STORE.procedures;
const MIB = 1 << 20;
const name = new TextEncoder().encode("a file");

/** A device with a server of `STORE` on it. */
class Host implements AsyncDisposable {
  readonly device = Device.open();
  readonly pd: ProtectionDomain = this.device.allocateProtectionDomain();
  readonly pool = new BufferPool(this.pd);
  readonly store = new Store();
  readonly servers: ServerTransport[] = [];
  readonly #dispatcher = new RpcServer({ services: [service(STORE, this.store.handlers)] });
  readonly #listener = this.device.listen({
    port: 0,
    onRequest: (request) =>
      void acceptRdma(request, { pd: this.pd, pool: this.pool, onReady: (end) => this.#serve(end) }),
    onStream: (stream) => this.#serve(acceptTcp(stream, { pd: this.pd, pool: this.pool })),
  });

  async connect(kind: "rdma" | "tcp", from: Host = this): Promise<RpcClient> {
    const { device, pd, pool } = from;
    const where = { hostname: "127.0.0.1", port: this.#listener.port, pd, pool };
    const transport: ClientTransport = await (kind === "rdma" ? connectRdma(device, where) : connectTcp(device, where));
    return new RpcClient(transport, { program: STORE });
  }

  #serve(end: ServerTransport): void {
    this.servers.push(end);
    this.#dispatcher.serve(end);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.servers) await server.closed;
    await this.#listener.close();
    await this.device.close();
  }
}

for (const kind of ["rdma", "tcp"] as const) {
  Deno.test(`${kind}: payload of 8 KiB and more is never copied, whatever memory it is in`, async () => {
    await using server = new Host();
    await using user = new Host();
    const client = await server.connect(kind, user);
    await client.ping();
    const region = user.pd.allocate(2 * MIB);
    const lent = client.transport.allocateBulk(2 * MIB);
    const before = [server, user].map(({ device }) => device.counters());
    let calls = 0;
    for (const memory of [region.bytes, lent.bytes, new Uint8Array(2 * MIB)]) {
      for (const length of [8192, 8193, 65_536, MIB - 1, MIB]) {
        const data = memory.subarray(5, 5 + length);
        data.set(pattern(length));
        await client.call(PUT, { name, data: [data], after: 0 });
        data.fill(0);
        await client.call(GET, name, { into: data });
        assertEquals(data.every((byte, i) => byte === ((i * 7 + (i >> 8)) & 0xff)), true);
        calls += 2;
      }
    }
    for (const [i, { device }] of [server, user].entries()) {
      const { bytesStaged, bytesPlaced } = device.counters();
      assert(bytesStaged - before[i].bytesStaged < calls * 2048, `${bytesStaged - before[i].bytesStaged} bytes copied`);
      assert(bytesPlaced - before[i].bytesPlaced > 6 * MIB, `${bytesPlaced - before[i].bytesPlaced} bytes placed`);
    }
    if ("bytesStaged" in client.transport) assertEquals(client.transport.bytesStaged, 0);
    lent.release();
    await client.transport.close();
  });

  Deno.test(`${kind}: connections that come and go leave nothing behind`, async () => {
    await using host = new Host();
    const rest: number[] = [];
    for (let round = 0; round < 30; round++) {
      const client = await host.connect(kind);
      const into = new Uint8Array(20_000);
      await client.call(PUT, { name, data: [pattern(20_000)], after: 0 });
      await client.call(GET, name, { into });
      if (round % 2 === 0) await client.transport.close();
      else await host.servers[round].close();
      await client.transport.close();
      await host.servers[round].closed;
      assertEquals(host.pool.lent, 0);
      rest.push(host.device.counters().regions);
    }
    assertEquals(rest.at(-1), rest[1], `regions: ${rest}`);
  });

  Deno.test(`${kind}: a server that vanishes with calls under way rejects them all, and the memory comes back`, async () => {
    await using user = new Host();
    const server = new Host();
    const client = await server.connect(kind, user);
    await client.ping();
    const { promise, resolve } = Promise.withResolvers<void>();
    server.store.wait = promise;
    const data = pattern(MIB);
    const regions = user.device.counters().regions;
    const calls = Array.from({ length: 40 }, (_, after) => client.call(PUT, { name, data: [data], after }));
    const ends = Promise.allSettled(calls);
    while (server.store.puts === 0) await new Promise((turn) => setTimeout(turn, 1));
    await server.device.close();
    for (const { status } of await ends) assertEquals(status, "rejected");
    await assertRejects(() => client.ping());
    assert(await client.transport.closed instanceof Error);
    resolve();
    await new Promise((turn) => setTimeout(turn, 1));
    assertEquals(server.pool.lent, 0);
    // RDMA: the connection's own two regions are gone, too.
    assertEquals(user.device.counters().regions, kind === "rdma" ? regions - 2 : regions);
  });

  Deno.test(`${kind}: a client that vanishes with calls under way costs the server nothing`, async () => {
    await using server = new Host();
    {
      await using user = new Host();
      const client = await server.connect(kind, user);
      await client.ping();
      const { promise, resolve } = Promise.withResolvers<void>();
      server.store.wait = promise;
      const data = pattern(MIB);
      const calls = Array.from({ length: 40 }, (_, after) => client.call(PUT, { name, data: [data], after }));
      const ends = Promise.allSettled(calls);
      while (server.store.puts === 0) await new Promise((turn) => setTimeout(turn, 1));
      await user.device.close();
      for (const { status } of await ends) assertEquals(status, "rejected");
      await server.servers[0].closed;
      resolve();
      await new Promise((turn) => setTimeout(turn, 1));
      assertEquals(server.pool.lent, 0);
    }
    const client = await server.connect(kind);
    await client.ping();
    await client.transport.close();
  });
}
