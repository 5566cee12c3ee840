import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDescriptors } from "../rdma/_testing/pair.ts";
import { BufferPool, Device } from "../rdma/mod.ts";
import { type ClientTransport, connectRdma, connectTcp, encodeAuthSys } from "../rpc/mod.ts";
import type { FileSystem } from "../storage/backend/file_system.ts";
import { MemoryFileSystem } from "../storage/backend/memory.ts";
import { nfsstat3 } from "../storage/nfs/mod.ts";
import { Caller, ok } from "../tests/conformance/nfs3/subject.ts";
import { type NfsServer, serve, type ServeOptions } from "./mod.ts";

type Proto = "tcp" | "rdma";

/** A device with memory to connect with. */
class Client implements AsyncDisposable {
  readonly device = Device.open();
  readonly #pd = this.device.allocateProtectionDomain();
  readonly #pool = new BufferPool(this.#pd);

  async connect({ hostname, port }: NfsServer, proto: Proto = "tcp"): Promise<Caller> {
    const connect = proto === "tcp" ? connectTcp : connectRdma;
    const transport: ClientTransport = await connect(this.device, { hostname, port, pd: this.#pd, pool: this.#pool });
    return new Caller(transport, encodeAuthSys({ uid: 1000, gid: 1000 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
  }
}

function memory(): MemoryFileSystem {
  return new MemoryFileSystem({ root: { mode: 0o777 } });
}

function start(options: Partial<ServeOptions> = {}): Promise<NfsServer> {
  return serve({ fileSystem: memory(), port: 0, ...options });
}

/** Waits until a condition holds. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (let waited = 0; !condition(); waited += 10) {
    assert(waited < 10_000, what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test("serve: a directory or a file system, not both and not neither", async () => {
  await assertRejects(() => serve({}), TypeError);
  await assertRejects(() => serve({ directory: ".", fileSystem: memory() }), TypeError);
});

Deno.test("serve: RDMA and TCP on one port see the same files", async () => {
  await using server = await start();
  await using client = new Client();
  const byTcp = await client.connect(server, "tcp");
  const byRdma = await client.connect(server, "rdma");
  const root = await byTcp.mountPath("/");
  assertEquals(await byRdma.mountPath("/"), root);
  const data = crypto.getRandomValues(new Uint8Array(50_000));
  const file = await byTcp.file(root, "by tcp", data);
  assertEquals(await byRdma.contents(file), data);
  ok(await byRdma.write(file, 100n, data));
  assertEquals((await byTcp.contents(file)).subarray(100), data);
  assertEquals(server.connections, 2);
});

Deno.test("serve: a port in use is told, and nothing stays behind", async () => {
  await using server = await start();
  const before = openDescriptors();
  for (let i = 0; i < 3; i++) {
    await assertRejects(() => start({ port: server.port }), Deno.errors.AddrInUse);
    await assertRejects(() => serve({ directory: "no such directory", port: 0 }), Error, "ENOENT");
  }
  assertEquals(openDescriptors(), before);
});

Deno.test("serve: on a device of the caller's, which stays open", async () => {
  await using device = Device.open();
  for (let i = 0; i < 3; i++) {
    await using server = await start({ device });
    await using client = new Client();
    await (await client.connect(server, "rdma")).mountPath("/");
  }
  assert(device.open);
});

Deno.test("serve: one connection too many costs the place of the one that was silent for longest", async () => {
  await using server = await start({ connectionsMax: 2 });
  await using client = new Client();
  const first = await client.connect(server, "tcp");
  const second = await client.connect(server, "rdma");
  await second.nfs.ping();
  await first.nfs.ping();
  const third = await client.connect(server, "rdma");
  await third.nfs.ping();
  await second.transport.closed;
  await first.nfs.ping();
  assertEquals(server.connections, 2);
});

Deno.test("close: what is under way is answered, what comes later is not", async () => {
  for (const proto of ["tcp", "rdma"] as const) {
    const gate = Promise.withResolvers<void>();
    const slow = slowed(memory(), gate.promise);
    const server = await start({ fileSystem: slow });
    await using client = new Client();
    const caller = await client.connect(server, proto);
    const root = await caller.mountPath("/");
    const file = await caller.file(root, "f", "contents");
    const reading = caller.read(file, 0n, 100);
    await until(() => slow.reads === 1, "the READ has arrived");
    const closing = server.close();
    await assertRejects(() => client.connect(server, proto));
    gate.resolve();
    assertEquals(ok(await reading).count, 8, proto);
    await closing;
    await server.finished;
    await caller.transport.closed;
    await assertRejects(() => caller.getattr(root));
  }
});

Deno.test("close: twice is once", async () => {
  const server = await start();
  await Promise.all([server.close(), server.close()]);
  await server.close();
});

Deno.test("serve: clients that vanish in the middle of calls leave nothing behind", async () => {
  await using server = await start();
  await using steady = new Client();
  const caller = await steady.connect(server, "rdma");
  const root = await caller.mountPath("/");
  const file = await caller.file(root, "f", new Uint8Array(1 << 20));
  const before = openDescriptors();
  for (const proto of ["tcp", "rdma"] as const) {
    for (let i = 0; i < 10; i++) {
      const client = new Client();
      const vanishing = await client.connect(server, proto);
      const calls = Array.from(
        { length: 8 },
        (_, n) => n % 2 === 0 ? vanishing.read(file, 0n, 1 << 20) : vanishing.write(file, 0n, new Uint8Array(1 << 20)),
      );
      const ended = Promise.allSettled(calls);
      if (i % 2 === 0) await Promise.race(calls);
      await client.device.close();
      await ended;
    }
  }
  await until(() => server.connections === 1, `one connection is left, not ${server.connections}`);
  assertEquals((await caller.contents(file)).byteLength, 1 << 20);
  await until(() => openDescriptors() <= before, `${openDescriptors()} open files where there were ${before}`);
});

Deno.test("serve: noise on the port ends its connection and disturbs nobody", async () => {
  const faults: unknown[] = [];
  await using server = await start({ onError: (error) => faults.push(error) });
  await using client = new Client();
  const caller = await client.connect(server, "tcp");
  const root = await caller.mountPath("/");
  const silent = await Deno.connect({ hostname: server.hostname, port: server.port });
  const noises = [
    crypto.getRandomValues(new Uint8Array(4096)),
    new TextEncoder().encode("GET / HTTP/1.1\r\nHost: weft\r\n\r\n"),
    // A record of no bytes; one of 2 GiB; a reply where a call is wanted.
    Uint8Array.of(0x80, 0, 0, 0),
    Uint8Array.of(0xff, 0xff, 0xff, 0xff, ...new Array(64).fill(0)),
    // An MPA request cut off, and one with private data longer than it may be.
    new TextEncoder().encode("MPA ID Req Frame"),
    Uint8Array.of(...new TextEncoder().encode("MPA ID Req Frame"), 0x40, 2, 0xff, 0xff, ...new Array(100).fill(1)),
  ];
  for (const noise of noises) {
    const connection = await Deno.connect({ hostname: server.hostname, port: server.port });
    await connection.write(noise);
    await connection.closeWrite();
    const answer = await new Response(connection.readable).arrayBuffer().catch(() => undefined);
    assert(answer === undefined || answer.byteLength < 1024);
    await caller.getattr(root);
  }
  silent.close();
  await until(() => server.connections === 1, `one connection is left, not ${server.connections}`);
});

Deno.test("serve: when the memory for payload is used up, clients are asked to come again", async () => {
  const gate = Promise.withResolvers<void>();
  const slow = slowed(memory(), gate.promise);
  await using server = await start({ fileSystem: slow, memoryBytesMax: 3 << 20 }); // less than one connection may ask for
  await using client = new Client();
  const caller = await client.connect(server, "rdma");
  const root = await caller.mountPath("/");
  const file = await caller.file(root, "f", new Uint8Array(1000));
  const reads = Array.from({ length: 10 }, () => caller.read(file, 0n, 1 << 20));
  await until(() => slow.reads >= 3, "some READs have arrived");
  const statuses = (async () => (await Promise.all(reads)).map(({ status }) => status))();
  gate.resolve();
  const counts = (wanted: number, of: number[]): number => of.filter((status) => status === wanted).length;
  const all = await statuses;
  assert(counts(nfsstat3.NFS3_OK, all) >= 3, `${all}`);
  assertEquals(counts(nfsstat3.NFS3_OK, all) + counts(nfsstat3.NFS3ERR_JUKEBOX, all), 10);
  assert(counts(nfsstat3.NFS3ERR_JUKEBOX, all) > 0);
  ok(await caller.read(file, 0n, 1 << 20));
});

/** A file system whose reads wait for a gate to open. */
function slowed(fileSystem: MemoryFileSystem, gate: Promise<void>): FileSystem & { reads: number } {
  const counts = { reads: 0 };
  return new Proxy(fileSystem, {
    get(target, property): unknown {
      if (property === "reads") return counts.reads;
      const value: unknown = Reflect.get(target, property, target);
      if (property === "read") {
        return async (...args: Parameters<MemoryFileSystem["read"]>): Promise<unknown> => {
          counts.reads++;
          await gate;
          return target.read(...args);
        };
      }
      return typeof value === "function" ? value.bind(target) : value;
    },
  }) as unknown as FileSystem & { reads: number };
}
